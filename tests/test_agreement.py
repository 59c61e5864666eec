"""Four answers are held against each other."""

from __future__ import annotations

from headwater.agreement import Answer, agree
from schemas import Column, Entity, EventStream, FeatureView, Type, count, days, over

VISITS = EventStream(
    "visits",
    "visits",
    (Column("page", Type.STRING), Column("user", Type.STRING, required=False)),
    partition_by="page",
)
VIEW = FeatureView("v", VISITS, (Entity("user", "user"),), over([days(1)], count()), ttl=days(1))


class Right:
    """Every place has one visit of each user."""

    def redis(self, view, key):
        return Answer(5, {"count_1d": 1})

    api = redis

    def iceberg(self, view, keys):
        return {key: self.redis(view, key) for key in keys}


def test_an_event_without_its_key_is_of_no_entity():
    events = [
        {"event_time": 5, "page": "home", "user": "a"},
        {"event_time": 6, "page": "home", "user": None},
        {"event_time": 7, "page": "home"},
    ]
    found = agree([VIEW], {"visits": events}, Right(), sample=9)
    assert (found.entities, found.differences) == (1, [])
