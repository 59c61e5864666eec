"""What an airline flies with, and through."""

from feature_repo.flights.sources import carrier, departures_in_context
from schemas import FeatureView, col, days, distinct, hours, mean, over, share

poor = ((col("visib") < 3) & (col("wind_speed") > 10)).called("poor_weather")

carrier_context = FeatureView(
    name="carrier_context",
    source=departures_in_context,
    entities=(carrier,),
    features=over(
        [hours(6), days(7)],
        mean("seats"),
        share((col("age_years") > 20).called("old_aircraft")),
        distinct("manufacturer"),
        mean("wind_speed"),
        share(poor),
        mean("dep_delay", where=(col("precip") > 0).called("rain")),
    ),
    ttl=days(7),
    description="The aircraft an airline has sent off, and the weather they left in",
)
