"""How late one aircraft has been leaving."""

from feature_repo.flights.sources import aircraft, departures
from schemas import FeatureView, count, days, hours, mean, over, total

aircraft_delays = FeatureView(
    name="aircraft_delays",
    source=departures,
    entities=(aircraft,),
    features=over([hours(6), days(1), days(7)], count(), mean("dep_delay"), total("distance")),
    ttl=days(7),
    description="Departures, departure delays and miles by aircraft",
)
