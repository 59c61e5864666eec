"""What comes of a replay's span once it is planned keeps it from being promoted."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pyiceberg.catalog.sql import SqlCatalog

from connectors.heartbeat import payload
from headwater.replays import context
from headwater.replays.arrivals import check_whole, planned_ends
from headwater.replays.context import Context
from headwater.replays.journal import Journal, Replay
from headwater.replays.plan import ReplayError, Wanted, expected
from schemas import (
    CdcTable,
    Column,
    Entity,
    EventStream,
    FeatureView,
    Repository,
    Type,
    count,
    hours,
    latest,
    minutes,
    over,
)
from schemas.topics import captured_topic

MINUTE = 60_000
START = 1_600_000_020_000
END = START + 60 * MINUTE
CARD = Entity("card", "card")
STREAM = EventStream(
    "swipes",
    "swipes",
    (Column("card", Type.STRING),),
    partition_by="card",
    disorder=minutes(5),
    drift=minutes(10),
)
TABLE = CdcTable(
    "cards",
    "cards",
    (
        Column("card", Type.STRING),
        Column("limit", Type.INT64),
        Column("updated_at", Type.TIMESTAMP),
    ),
    primary_key="card",
)
SWIPES = FeatureView("swipes_of_card", STREAM, (CARD,), over([hours(1)], count()), ttl=hours(1))
FACTS = FeatureView("card_facts", TABLE, (CARD,), latest("limit"), ttl=hours(1))
NUMBERS = itertools.count()


class World:
    """Both topics, of two partitions each, and a replay that was planned of what they hold."""

    def __init__(self, running, folder):
        self.access = running.settings.kafka_access
        name = f"doors_{next(NUMBERS)}"
        self.swipes, self.changes = f"{name}.swipes", captured_topic(TABLE, name)
        stream = replace(STREAM, topic=self.swipes)
        repository = Repository(name, (replace(SWIPES, source=stream), FACTS), ())
        admin = AdminClient(self.access.librdkafka())
        topics = [NewTopic(topic, 2) for topic in (self.swipes, self.changes)]
        for made in admin.create_topics(topics).values():
            made.result(30)
        for partition in (0, 1):
            self.swipe(10, partition)
            self.change(10, partition)
        settings = SimpleNamespace(
            state=folder, flink_url="http://nowhere", kafka_access=self.access
        )
        self.context = Context(settings, repository)
        self.replay = self.planned()

    def planned(self, **more):
        wanted = Wanted((SWIPES.name, FACTS.name), START, END, {}, **more)
        plan = expected(self.context.planner.sources(wanted), [], None, None)
        journal = Journal(self.context.settings.state)
        replay = Replay(journal.reserve(), wanted.views, START, END, offsets=planned_ends(plan))
        journal.write(replay)
        return journal.find(replay.id)

    def _send(self, topic, text, partition):
        producer = Producer(self.access.librdkafka())
        producer.produce(topic, text, partition=partition)
        producer.flush()

    def swipe(self, minute, partition=0):
        at = START + minute * MINUTE
        self._send(self.swipes, json.dumps({"event_time": at, "card": "c"}), partition)

    def beat(self, minute):
        self._send(self.swipes, payload(START + minute * MINUTE), 0)

    def change(self, minute, partition=0, deleted=False, text=False):
        at = START + minute * MINUTE
        since = datetime.fromtimestamp(at / 1000, UTC).isoformat() if text else at
        row = {"card": "c", "limit": 1, "updated_at": since}
        committed = at if deleted else START + 600 * MINUTE
        change = {
            "before": {"card": "c"},
            "after": None if deleted else row,
            "source": {"ts_ms": committed},
            "op": "d" if deleted else "u",
        }
        self._send(self.changes, json.dumps(change), partition)

    def check(self, replay=None):
        check_whole(self.context, replay or self.replay, END)

    def refuses(self, topic, minute):
        at = datetime.fromtimestamp(START / 1000 + minute * 60, UTC).isoformat()
        with pytest.raises(ReplayError) as told:
            self.check()
        assert str(told.value).startswith(f"{topic}: a record of {at} came since replay 0001")
        self.check(self.planned())  # another one knows of it


@pytest.fixture
def world(running, tmp_path, monkeypatch):
    tables = SqlCatalog("headwater", uri=f"sqlite:///{tmp_path}/c", warehouse=str(tmp_path))
    monkeypatch.setattr(context, "catalog", lambda _: tables)
    return World(running, tmp_path)


def test_an_event_of_the_span_that_came_since_is_named(world):
    world.check()
    world.beat(20)
    world.swipe(60)
    world.swipe(64)
    world.check()
    world.swipe(59, partition=1)
    world.refuses(world.swipes, 59)


def test_what_comes_after_all_of_the_span_is_late_and_no_reason(world):
    for _ in range(32):
        world.swipe(75)
    world.swipe(30)
    world.check()
    # Another partition has not come there yet.
    world.swipe(30, partition=1)
    world.refuses(world.swipes, 30)


@pytest.mark.parametrize("how", [{}, {"text": True}, {"deleted": True}])
def test_a_change_of_a_captured_table_that_came_since_is_named(world, how):
    world.change(60)
    world.change(60, partition=1, **how)
    world._send(world.changes, "no JSON", 0)
    world._send(world.changes, "[]", 0)
    world.change(-1, partition=1, **how)
    world.check()
    world.change(42, partition=1, **how)
    world.refuses(world.changes, 42)


def test_who_asks_for_what_was_known_then_knows_of_nothing_later(world):
    older = world.replay
    world.swipe(20)
    world.check(
        Replay(older.id, older.views, START, END)
    )  # of an older version, which kept no ends
    world.refuses(world.swipes, 20)
