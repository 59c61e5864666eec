"""A third repository, for the kill campaign: sensors that report, and the table they are in."""

from __future__ import annotations

from schemas import (
    CdcTable,
    Column,
    Entity,
    EventStream,
    FeatureView,
    Repository,
    Type,
    count,
    days,
    hours,
    largest,
    last,
    latest,
    mean,
    minutes,
    over,
    seconds,
    total,
)

sensor = Entity("sensor", "sensor")

readings = EventStream(
    name="readings",
    topic="storm.readings",
    columns=(
        Column("sensor", Type.STRING),
        Column("value", Type.FLOAT64),
        Column("number", Type.INT64),
        Column("tag", Type.STRING, required=False),
    ),
    partition_by="sensor",
    disorder=seconds(60),
)

sensor_activity = FeatureView(
    name="sensor_activity",
    source=readings,
    entities=(sensor,),
    features=over(
        [minutes(10), hours(1)],
        count(),
        mean("value"),
        largest("number"),
        total("number"),
        last("tag"),
    ),
    ttl=days(7),
)

sensors = CdcTable(
    name="sensors",
    table="sensors",
    columns=(
        Column("sensor", Type.STRING),
        Column("version", Type.INT64),
        Column("place", Type.STRING, required=False),
        Column("updated_at", Type.TIMESTAMP),
    ),
    primary_key="sensor",
)

sensor_facts = FeatureView(
    name="sensor_facts",
    source=sensors,
    entities=(sensor,),
    features=latest("version", "place"),
    ttl=days(7),
)

SENSORS = """
CREATE TABLE IF NOT EXISTS sensors (
  sensor text PRIMARY KEY,
  version bigint NOT NULL,
  place text,
  updated_at timestamp(3) NOT NULL
);
"""

repository = Repository(name="storm", views=(sensor_activity, sensor_facts), services=())
