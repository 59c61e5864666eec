"""A third feature repository, of one stream, whose job the tests take away for a while."""

from __future__ import annotations

from dataclasses import replace

from schemas import (
    Column,
    Entity,
    EventStream,
    FeatureView,
    Repository,
    Type,
    count,
    days,
    hours,
    over,
    seconds,
)

levels = EventStream(
    name="levels",
    topic="tides.levels",
    columns=(Column("gauge", Type.STRING),),
    partition_by="gauge",
    disorder=seconds(10),
)

gauge_levels = FeatureView(
    name="gauge_levels",
    source=levels,
    entities=(Entity("gauge", "gauge"),),
    features=over([hours(1)], count()),
    ttl=days(1),
)

repository = Repository(name="tides", views=(gauge_levels,), services=())
traced = replace(repository, views=(replace(gauge_levels, source=replace(levels, traced=True)),))
