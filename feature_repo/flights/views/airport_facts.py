"""Where an airport is."""

from feature_repo.flights.sources import airport, airports
from schemas import FeatureView, days, latest

airport_facts = FeatureView(
    name="airport_facts",
    source=airports,
    entities=(airport,),
    features=latest("name", "lat", "lon", "alt", "tzone"),
    ttl=days(3650),
    description="Place and time zone of an airport",
)
