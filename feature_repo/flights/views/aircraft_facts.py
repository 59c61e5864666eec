"""What an aircraft is."""

from feature_repo.flights.sources import aircraft, planes
from schemas import FeatureView, days, latest

aircraft_facts = FeatureView(
    name="aircraft_facts",
    source=planes,
    entities=(aircraft,),
    features=latest("age_years", "year", "manufacturer", "model", "engines", "seats", "engine"),
    ttl=days(3650),
    description="Facts about an aircraft from the register",
)
