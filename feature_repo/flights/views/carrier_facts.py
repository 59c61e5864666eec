"""What an airline is called."""

from feature_repo.flights.sources import airlines, carrier
from schemas import FeatureView, days, latest

carrier_facts = FeatureView(
    name="carrier_facts",
    source=airlines,
    entities=(carrier,),
    features=latest("name"),
    ttl=days(3650),
    description="The airline's name",
)
