"""The flights repository: what `HEADWATER_REPOSITORY` names."""

from __future__ import annotations

from feature_repo.flights.views.aircraft_delays import aircraft_delays
from feature_repo.flights.views.aircraft_facts import aircraft_facts
from feature_repo.flights.views.aircraft_last_arrival import aircraft_last_arrival
from feature_repo.flights.views.airport_facts import airport_facts
from feature_repo.flights.views.carrier_context import carrier_context
from feature_repo.flights.views.carrier_delays import carrier_delays
from feature_repo.flights.views.carrier_facts import carrier_facts
from feature_repo.flights.views.origin_delays import origin_delays
from feature_repo.flights.views.origin_weather import origin_weather
from feature_repo.flights.views.route_delays import route_delays
from schemas import FeatureService, Repository

late_arrival = FeatureService(
    name="late_arrival",
    views=(
        origin_delays,
        carrier_delays,
        route_delays,
        aircraft_delays,
        aircraft_last_arrival,
        origin_weather,
        aircraft_facts,
        carrier_context,
    ),
    description="Before a flight leaves: will it arrive late?",
)

repository = Repository(
    name="flights",
    views=(*late_arrival.views, carrier_facts, airport_facts),
    services=(late_arrival,),
)
