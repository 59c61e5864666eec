"""What is asked of Kafka's administration, and what it may answer; without a Kafka."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors import deadletters, topics
from connectors.access import KafkaAccess
from connectors.deadletters import DeadLetters
from connectors.topics import KafkaUnavailable, Topic, create_topics

ACCESS = KafkaAccess("kafka:9092")
_ALREADY_EXISTS, _NOT_ALLOWED = 36, 29


class Admin:
    """It knows of one topic, and answers the creation of others with an error's number, or 0."""

    def __init__(self, **errors):
        self.errors = errors

    def list_topics(self):
        return ["known"]

    def create_topics(self, asked, raise_errors):
        assert not raise_errors, "of several the first that fails is not all there is to say"
        told = {one.name: self.errors[one.name] for one in asked}
        return {
            "topics": [
                {"name": name, "error_code": code, "error_message": None}
                for name, code in told.items()
            ]
        }


def answering(monkeypatch, **errors):
    @contextmanager
    def admin(_):
        yield Admin(**errors)

    monkeypatch.setattr(topics, "_admin", admin)


def test_a_topic_that_somebody_else_creates_at_once_is_there(monkeypatch):
    answering(monkeypatch, theirs=_ALREADY_EXISTS, ours=0)
    wanted = dict.fromkeys(("known", "theirs", "ours"), Topic(1))
    assert create_topics(ACCESS, wanted) == ["ours"]


def test_a_topic_that_may_not_be_created_is_named(monkeypatch):
    answering(monkeypatch, secret=_NOT_ALLOWED)
    with pytest.raises(KafkaUnavailable, match="kafka:9092: secret: TopicAuthorizationFailed"):
        create_topics(ACCESS, {"secret": Topic(1)})


def test_letters_that_kafka_does_not_remove_are_an_outage(monkeypatch):
    def refused():
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    future = SimpleNamespace(result=refused)
    admin = SimpleNamespace(delete_records=lambda *_, **__: {"t": future})
    monkeypatch.setattr(deadletters, "AdminClient", lambda _: admin)
    with pytest.raises(KafkaUnavailable, match=r"kafka:9092: .*TIMED_OUT"):
        DeadLetters(ACCESS, ["t"])._remove("t", 7)
