"""How late an airline's flights leave now."""

from feature_repo.flights.sources import carrier, departures
from schemas import FeatureView, count, days, hours, mean, over

carrier_delays = FeatureView(
    name="carrier_delays",
    source=departures,
    entities=(carrier,),
    features=over([hours(1), hours(6), days(1), days(7)], count(), mean("dep_delay")),
    ttl=days(1),
    description="Departures and departure delays by airline",
)
