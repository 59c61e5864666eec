"""What is sent to Kafka: here to librdkafka's own broker, which takes all it is sent."""

from __future__ import annotations

from connectors.access import KafkaAccess
from connectors.producer import produce, record_key
from schemas import Column, EventStream, Type

VISITS = EventStream(
    "visits",
    "visits",
    (Column("page", Type.STRING), Column("user", Type.INT64, required=False)),
    partition_by="user",
)
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
