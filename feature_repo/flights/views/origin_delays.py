"""How late flights leave an airport now."""

from feature_repo.flights.sources import departures, origin
from schemas import (
    FeatureView,
    col,
    count,
    days,
    distinct,
    hours,
    largest,
    mean,
    minutes,
    over,
    percentile,
    share,
    stddev,
)

origin_delays = FeatureView(
    name="origin_delays",
    source=departures,
    entities=(origin,),
    features=(
        *over(
            [minutes(15), hours(1), hours(6), days(1), days(7)],
            count(),
            mean("dep_delay"),
            largest("dep_delay"),
            stddev("dep_delay"),
        ),
        *over(
            [hours(1), days(1)],
            share((col("dep_delay") > 15).called("late")),
            percentile("dep_delay", 0.9),
            distinct("carrier"),
        ),
    ),
    ttl=hours(6),
    description="Departures and departure delays by airport of departure",
)
