"""What is asked of Kafka's administration, and what it may answer; without a Kafka."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from confluent_kafka import KafkaError, KafkaException

from connectors import deadletters, topics
from connectors.access import KafkaAccess
from connectors.ddl import DEAD_MESSAGE_BYTES
from connectors.deadletters import DeadLetters
from connectors.topics import KafkaUnavailable, Topic, create_topics, differences
from feature_repo.flights.repository import repository
from headwater.cli import headwater
from headwater.commands import data
from schemas.topics import dead_topic

ACCESS = KafkaAccess("kafka:9092")
_ALREADY_EXISTS, _NOT_ALLOWED = 36, 29


class Admin:
    """It knows of one topic, and answers the creation of others with an error's number, or 0."""

    def __init__(self, partitions=1, settings=None, **errors):
        self.errors, self.partitions, self.settings = errors, partitions, settings
        self.made = {}

    def list_topics(self):
        return ["known"]

    def describe_topics(self):
        return [
            {"name": "known", "partitions": [{}] * self.partitions},
            {"name": "of somebody else", "partitions": [{}]},
        ]

    def describe_configs(self, asked, config_filter):
        assert config_filter == "all", "what a topic has of its broker counts as well"
        return {
            "topic": {
                one.name: {
                    name: {"value": self.settings[name]}
                    for name in one.configs
                    if name in self.settings
                }
                for one in asked
            }
        }

    def create_topics(self, asked, raise_errors):
        self.made |= {one.name: one.topic_configs for one in asked}
        assert not raise_errors, "of several the first that fails is not all there is to say"
        told = {one.name: self.errors[one.name] for one in asked}
        return {
            "topics": [
                {"name": name, "error_code": code, "error_message": None}
                for name, code in told.items()
            ]
        }


def answering(monkeypatch, **answers):
    it = Admin(**answers)
    monkeypatch.setattr(topics, "_admin", lambda _: nullcontext(it))
    return it


def test_a_topic_that_somebody_else_creates_at_once_is_there(monkeypatch):
    answering(monkeypatch, theirs=_ALREADY_EXISTS, ours=0)
    wanted = dict.fromkeys(("known", "theirs", "ours"), Topic(1))
    assert create_topics(ACCESS, wanted) == ["ours"]


def test_a_topic_that_may_not_be_created_is_named(monkeypatch):
    answering(monkeypatch, secret=_NOT_ALLOWED)
    with pytest.raises(KafkaUnavailable, match="kafka:9092: secret: TopicAuthorizationFailed"):
        create_topics(ACCESS, {"secret": Topic(1)})


def test_a_topic_is_kept_for_ever_whatever_its_broker_does_by_itself(monkeypatch):
    admin = answering(monkeypatch, **dict.fromkeys(topics.topics(repository), 0))
    create_topics(ACCESS, topics.topics(repository))
    assert admin.made.keys() == topics.topics(repository).keys()
    assert {config["retention.ms"] for config in admin.made.values()} == {"-1"}
    letters = admin.made[dead_topic("flights.departures")]
    assert letters["max.message.bytes"] == str(DEAD_MESSAGE_BYTES)


@pytest.mark.parametrize(
    ("settings", "partitions", "told"),
    [
        ({"retention.ms": "-1", "max.message.bytes": "7"}, 2, []),
        ({}, 2, []),
        ({"retention.ms": "-1"}, 1, ["known has 1 partitions, not 2"]),
        (
            {"retention.ms": "604800000", "max.message.bytes": "6"},
            2,
            ["known has retention.ms=604800000, not -1", "known has max.message.bytes=6, not 7"],
        ),
    ],
)
def test_how_a_topic_that_is_there_differs_is_told(monkeypatch, settings, partitions, told):
    answering(monkeypatch, partitions=partitions, settings=settings)
    wanted = {"known": Topic(2, {"max.message.bytes": "7"}), "missing": Topic(1)}
    assert differences(ACCESS, wanted) == told


def test_apply_tells_how_topics_differ_and_ends_well(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADWATER_STATE", str(tmp_path))
    monkeypatch.setattr(data, "apply_all", lambda *_: None)
    monkeypatch.setattr(data, "topics", lambda _: {"known": Topic(1)})
    answering(monkeypatch, settings={"retention.ms": "7"})
    line = (
        "topics: known has retention.ms=7, not -1; it is left as it is,"
        " `kafka-configs --alter` changes it\n"
    )
    for kinds, said in (([], line), (["topics"], line), (["tables"], "")):
        done = CliRunner().invoke(headwater, ["apply", *kinds])
        assert (done.exit_code, done.output) == (0, said), kinds


def test_letters_that_kafka_does_not_remove_are_an_outage(monkeypatch):
    def refused():
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    future = SimpleNamespace(result=refused)
    admin = SimpleNamespace(delete_records=lambda *_, **__: {"t": future})
    monkeypatch.setattr(deadletters, "AdminClient", lambda _: admin)
    with pytest.raises(KafkaUnavailable, match=r"kafka:9092: .*TIMED_OUT"):
        DeadLetters(ACCESS, ["t"])._remove("t", 7)
