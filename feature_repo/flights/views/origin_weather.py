"""The weather at the airport of departure."""

from feature_repo.flights.sources import origin, weather
from schemas import FeatureView, hours, latest

origin_weather = FeatureView(
    name="origin_weather",
    source=weather,
    entities=(origin,),
    features=latest("temp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"),
    ttl=hours(3),
    description="The newest observation of each quantity",
)
