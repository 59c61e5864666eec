"""Where a span ends in a topic, whatever its producers gave the records for timestamps."""

from __future__ import annotations

import json
import time

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pyiceberg.catalog.sql import SqlCatalog

from connectors.heartbeat import payload
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

AT_ONCE, AS_IT_HAPPENED, MEANWHILE, FEW, FRAMED, BEATS, EMPTY = range(7)
"""Partitions: loaded today, with bad records among them; with the event time as timestamp; five
hours later from the middle on; few; with a schema registry's frame; heartbeats alone; nothing."""

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
    admin.create_topics([NewTopic(STREAM.topic, 7)])[STREAM.topic].result(30)
    # In their order, also on a machine so busy that Kafka is asked twice.
    producer = Producer(access.librdkafka() | {"linger.ms": 50, "enable.idempotence": True})
    times = {partition: [] for partition in range(7)}

    def send(partition, text, at, timestamp):
        producer.produce(STREAM.topic, text, partition=partition, timestamp=timestamp)
        producer.poll(0)
        times[partition].append(at)

    today = int(time.time() * 1000)
    deep = '{"x":' + "[" * 3000 + "]" * 3000 + ',"event_time":5}'
    dead = ["{}", "no JSON", deep, json.dumps({"event_time": today + 10**11, "card": "c"})]
    for number in range(EVENTS):
        at = START + number * APART
        # Three of a hundred come two minutes after a newer one, and five are of a faulty producer.
        back = at - 2 * APART if number % 33 == 0 else at
        send(AT_ONCE, event(back), back, today)
        for text in dead if number % 100 == 7 else ():
            send(AT_ONCE, text, None, today)
        if number % 20 == 3:
            send(AT_ONCE, json.dumps({"event_time": today}), None, today)
        send(AS_IT_HAPPENED, event(at), at, at)
        send(MEANWHILE, event(at), at, at + (5 * HOUR if number > EVENTS // 2 else 0))
        if number < 600:
            send(FEW, event(at), at, today)
        send(FRAMED, b"\0\0\0\0\7" + event(at).encode(), at, today)
        send(BEATS, payload(at), at, at)
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
