"""Heartbeats that Kafka refuses are said, and those that follow are sent; without a Kafka."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors import heartbeat
from connectors.access import KafkaAccess
from connectors.heartbeat import beat, keep_beating
from connectors.topics import KafkaUnavailable
from tests.shop import visits

ACCESS = KafkaAccess("kafka:9092")
_NOT_ALLOWED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)


class Producer:
    """It takes what is produced, and tells of each delivery what `error` says, or raises that."""

    def __init__(self, error):
        self.error, self.waiting = error, []

    def produce(self, topic, value, partition, timestamp, on_delivery=None):
        if isinstance(self.error, Exception):
            raise self.error
        self.waiting.append(on_delivery or (lambda *_: None))

    def flush(self, timeout):
        for delivered in self.waiting:
            delivered(self.error, None)
        return 0


@pytest.fixture
def kafka(monkeypatch):
    """A Kafka of two partitions a topic that answers a round of heartbeats after the other."""

    def answering(*errors):
        left = list(errors)
        monkeypatch.setattr(heartbeat, "Producer", lambda _: Producer(left.pop(0)))
        log = SimpleNamespace(bounds=lambda _: {0: (0, 9), 1: (0, 9)})
        monkeypatch.setattr(heartbeat, "Log", lambda _: log)
        return left

    return answering


def test_a_heartbeat_that_kafka_refuses_was_not_sent(kafka):
    kafka(_NOT_ALLOWED)
    said = f"kafka:9092 takes no heartbeat: {visits.topic}: .*authorization"
    with pytest.raises(KafkaUnavailable, match=said):
        beat(ACCESS, [visits], 7)
    kafka(None)
    assert beat(ACCESS, [visits], 7) == 2


@pytest.mark.parametrize(
    "error", [_NOT_ALLOWED, KafkaException(_NOT_ALLOWED), BufferError("the queue is full")]
)
def test_whoever_keeps_beating_says_what_was_refused_and_goes_on(kafka, error):
    left, told, stop = kafka(error, error, None), [], Event()
    clock = iter(range(0, 10**6, visits.heartbeat.seconds))
    stop.wait = lambda _: stop.set() if not left else None
    keep_beating(ACCESS, [visits], stop, told.append, lambda: next(clock))
    assert len(told) == 2
    assert all("takes no heartbeat" in text for text in told)
