"""Where an aircraft came in last, and how late."""

from feature_repo.flights.sources import aircraft, arrivals
from schemas import FeatureView, days, latest

aircraft_last_arrival = FeatureView(
    name="aircraft_last_arrival",
    source=arrivals,
    entities=(aircraft,),
    features=latest("arr_delay", "air_time", "origin", "dest"),
    ttl=days(2),
    description="The aircraft's newest arrival",
)
