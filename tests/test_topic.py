"""Where a span ends in a topic, whatever its producers gave the records for timestamps."""

from __future__ import annotations

import json
import time

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pyiceberg.catalog.sql import SqlCatalog

from headwater.replays.plan import Planner, Wanted
from schemas import (
    Column,
    Entity,
    EventStream,
    FeatureView,
    Repository,
    Type,
    count,
    hours,
    minutes,
    over,
)

HOUR = 3_600_000
START = 1_600_000_000_000
EVENTS = 8000
APART = 60_000
"""A minute from one event to the next of its partition."""

AT_ONCE, AS_IT_HAPPENED, MEANWHILE, NEVER, EMPTY = range(5)
"""Partitions: loaded today, by the event time, an hour later from the middle on, none as new."""

STREAM = EventStream(
    "taps",
    "taps",
    (Column("card", Type.STRING, required=True),),
    partition_by="card",
    disorder=minutes(5),
    drift=minutes(30),
)
VIEW = FeatureView(
    "taps_of_card",
    STREAM,
    (Entity("card", "card"),),
    over([hours(1)], count()),
    ttl=hours(1),
)
REPOSITORY = Repository("gates", (VIEW,), ())


def event(at):
    """The JSON text of an event."""
    return json.dumps({"event_time": at, "card": "c"})


@pytest.fixture(scope="module")
def written(running):
    """The topic, and the event time of each partition's offsets; None for a dead letter."""
    access = running.settings.kafka_access
    admin = AdminClient(access.librdkafka())
    admin.create_topics([NewTopic(STREAM.topic, 5)])[STREAM.topic].result(30)
    producer = Producer(access.librdkafka() | {"linger.ms": 50})
    times = {partition: [] for partition in range(5)}

    def send(partition, text, at, timestamp):
        producer.produce(STREAM.topic, text, partition=partition, timestamp=timestamp)
        producer.poll(0)
        times[partition].append(at)

    today = int(time.time() * 1000)
    dead = ["{}", "no JSON", json.dumps({"event_time": today + 400 * 24 * HOUR, "card": "c"})]
    for number in range(EVENTS):
        at = START + number * APART
        # Three of a hundred come two minutes after a newer one.
        back = at - 2 * APART if number % 33 == 0 else at
        send(AT_ONCE, event(back), back, today)
        for text in dead if number % 100 == 7 else ():
            send(AT_ONCE, text, None, today)
        send(AS_IT_HAPPENED, event(at), at, at)
        send(MEANWHILE, event(at), at, at + (5 * HOUR if number > EVENTS // 2 else 0))
        if number < 600:
            send(NEVER, event(at), at, today)
    producer.flush()
    return running, times


def planned(running, tmp_path, end):
    """First and last-plus-one offset of each partition that a replay would read of Kafka."""
    tables = SqlCatalog("headwater", uri=f"sqlite:///{tmp_path}/c", warehouse=str(tmp_path))
    wanted = Wanted((VIEW.name,), START, end, {})
    (source,) = Planner(REPOSITORY, running.settings.kafka_access, tables).sources(wanted)
    assert source.gap == ""
    return source.log


@pytest.mark.parametrize("number", [1, 599, 600, 1500, 2400, 2600, 5000, 7999])
def test_all_events_of_the_span_are_read_and_little_more(written, tmp_path, number):
    running, times = written
    end = START + number * APART
    read = planned(running, tmp_path, end)
    margin = (STREAM.disorder.seconds + STREAM.drift.seconds) * 1000
    for partition, of_it in times.items():
        first, until = read[partition]
        needed = [o for o, at in enumerate(of_it) if at is not None and START <= at < end]
        assert first <= min(needed, default=0) and until > max(needed, default=-1), partition
        past = [o for o, at in enumerate(of_it) if at is not None and at >= end + margin]
        assert until <= min(past, default=len(of_it)) + 1024
        if partition == AS_IT_HAPPENED:
            assert until == min(past, default=len(of_it))
        # What is not read is further past the end than its stream's disorder and drift.
        left = [at for at in of_it[until:] if at is not None]
        assert min(left, default=end + margin) >= end + margin - 3 * APART
