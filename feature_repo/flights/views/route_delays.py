"""How late flights between two airports arrive now."""

from feature_repo.flights.sources import arrivals, dest, origin
from schemas import FeatureView, count, days, largest, mean, over

route_delays = FeatureView(
    name="route_delays",
    source=arrivals,
    entities=(origin, dest),
    features=over(
        [days(1), days(7)], count(), mean("arr_delay"), largest("arr_delay"), mean("air_time")
    ),
    ttl=days(7),
    description="Arrivals and arrival delays by pair of airports",
)
