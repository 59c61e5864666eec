"""What is sent to Kafka: here to librdkafka's own broker, which takes all it is sent."""

from __future__ import annotations

from connectors import producer
from connectors.access import KafkaAccess
from connectors.producer import produce, record_key
from schemas import Column, EventStream, Type

VISITS = EventStream(
    "visits",
    "visits",
    (Column("page", Type.STRING), Column("user", Type.INT64, required=False)),
    partition_by="user",
)
PARTITIONS = 4
"""Of a topic of librdkafka's broker."""

EVENTS = [
    {"event_time": 5, "page": "home", "user": 7},
    {"event_time": 6, "page": "home", "user": None},
    {"event_time": 7, "page": "home"},
]


class Mocked(KafkaAccess):
    def librdkafka(self):
        return super().librdkafka() | {"test.mock.num.brokers": "1"}


def test_an_event_without_the_column_it_is_partitioned_by_is_sent_without_a_key():
    assert [record_key(VISITS, event) for event in EVENTS] == [b"7", None, None]
    assert produce(Mocked("none:1"), {VISITS: EVENTS}).counts == {"visits": 3}


def test_what_comes_in_a_burst_comes_after_each_partition_has_an_event(monkeypatch):
    """Those that are silent count as idle, and would be late by those that are not."""
    slept = []
    monkeypatch.setattr(producer.time, "sleep", slept.append)
    events = [{"event_time": n, "page": "home", "user": n} for n in range(3_000)]
    sent = produce(Mocked("none:1"), {VISITS: events}, wakes=True)
    assert sent.counts == {"visits": 3_000}
    assert 1 <= len(slept) <= PARTITIONS
    slept.clear()
    produce(Mocked("none:1"), {VISITS: events[:10]})
    assert not slept
