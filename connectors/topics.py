"""The topics a repository needs, made with kafka-python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from connectors.access import KafkaAccess
from connectors.ddl import DEAD_MESSAGE_BYTES, LATE_MESSAGE_BYTES
from schemas import HeadwaterError, Repository
from schemas.topics import captured_topic, dead_topic, late_topic

if TYPE_CHECKING:
    from kafka import KafkaAdminClient

PARTITIONS = 2
_AS_CONFIGURED = -1
_LONGEST = "transaction.max.timeout.ms"
_KEPT = {"retention.ms": "-1"}
"""Every feature is computed from the log, again and again; of captured tables, letters and late
rows it is all there is. By itself a broker keeps a week."""


class KafkaUnavailable(HeadwaterError):
    """Kafka does not answer or refuses; the text has its address and what it said."""

    exit_code = 1


class ShortTransactions(HeadwaterError):
    """Kafka keeps a transaction shorter than a job may be away; the text says what to do."""


@dataclass(frozen=True)
class Topic:
    """A topic as it must be."""

    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    """Beside its retention: the chart has a word of its own on that."""

    @property
    def settings(self) -> dict[str, str]:
        """All that it is made with; it is kept for ever unless `config` says otherwise."""
        return {**_KEPT, **self.config}


def topics(repository: Repository) -> dict[str, Topic]:
    """Each topic of the repository, by name, those of dead letters and late rows too.

    A captured table has one partition: its changes are few, and their order is plain to see. So
    have late rows.
    """
    read = {stream.topic: Topic(PARTITIONS) for stream in repository.archived} | {
        captured_topic(table, repository.name): Topic(1) for table in repository.tables
    }
    letters = Topic(1, {"max.message.bytes": str(DEAD_MESSAGE_BYTES)})
    rows = Topic(1, {"max.message.bytes": str(LATE_MESSAGE_BYTES)})
    late = {late_topic(stream): rows for stream in repository.streams}
    return read | {dead_topic(name): letters for name in read} | late


def create_topics(access: KafkaAccess, wanted: Mapping[str, Topic]) -> list[str]:
    """Create the topics that are missing and return their names; KafkaUnavailable if it cannot.

    Each has as many replicas as the cluster gives by default. One that somebody else creates just
    now is there.
    """
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError, for_code

    with _admin(access) as admin:
        missing = sorted(set(wanted) - set(admin.list_topics()))
        asked = [
            NewTopic(
                name,
                wanted[name].partitions,
                _AS_CONFIGURED,
                topic_configs=wanted[name].settings,
            )
            for name in missing
        ]
        told = admin.create_topics(asked, raise_errors=False)["topics"] if asked else []
    made = []
    for topic in told:
        if not topic["error_code"]:
            made.append(topic["name"])
        elif (error := for_code(topic["error_code"])) is not TopicAlreadyExistsError:
            said = topic["error_message"] or error.__name__
            raise KafkaUnavailable(f"Kafka at {access.bootstrap}: {topic['name']}: {said}")
    return made


def differences(access: KafkaAccess, wanted: Mapping[str, Topic]) -> list[str]:
    """How topics that are there differ from what would be made; KafkaUnavailable.

    More partitions are as good. Settings that are not for us to see are passed over.
    """
    from kafka.admin import ConfigResource

    with _admin(access) as admin:
        there = {
            one["name"]: len(one["partitions"])
            for one in admin.describe_topics()
            if one["name"] in wanted
        }
        asked = [
            ConfigResource("topic", name, dict.fromkeys(wanted[name].settings)) for name in there
        ]
        found = admin.describe_configs(asked, config_filter="all")["topic"] if asked else {}
    texts = []
    for name, partitions in sorted(there.items()):
        if partitions < wanted[name].partitions:
            texts.append(f"{name} has {partitions} partitions, not {wanted[name].partitions}")
        has = {key: one["value"] for key, one in found.get(name, {}).items()}
        texts += [
            f"{name} has {key}={has[key]}, not {value}"
            for key, value in wanted[name].settings.items()
            if has.get(key, value) != value
        ]
    return texts


def check_transactions(access: KafkaAccess, seconds: int) -> None:
    """Raise ShortTransactions if a broker takes none that live so long; KafkaUnavailable."""
    from kafka.admin import ConfigResource

    with _admin(access) as admin:
        names = [str(broker["broker_id"]) for broker in admin.describe_cluster()["brokers"]]
        wanted = [ConfigResource("broker", name, {_LONGEST: None}) for name in names]
        found = admin.describe_configs(wanted, config_filter="all")["broker"]
    for name, settings in found.items():
        if _LONGEST not in settings:  # it is not for us to see; the job will
            continue
        longest = int(settings[_LONGEST]["value"])
        if longest < seconds * 1000:
            raise ShortTransactions(
                f"HEADWATER_OUTAGE_SECONDS={seconds}: broker {name} of {access.bootstrap} takes no"
                f" transaction of more than {longest // 1000} s; raise its {_LONGEST} to"
                f" {seconds * 1000}, or declare a shorter outage"
            )


@contextmanager
def _admin(access: KafkaAccess) -> Iterator[KafkaAdminClient]:
    """A client, until it is done with; KafkaUnavailable for what fails of it."""
    from kafka import KafkaAdminClient  # most commands need none, and it takes a while to import
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(
            **access.client(), bootstrap_timeout_ms=5000, request_timeout_ms=10_000
        )
    except Exception as error:  # some of these are no KafkaError
        raise KafkaUnavailable(f"Kafka at {access.bootstrap} does not answer: {error}") from error
    with closing(admin):
        try:
            yield admin
        except (KafkaError, RuntimeError) as error:  # the latter where no broker is in charge
            raise KafkaUnavailable(f"Kafka at {access.bootstrap}: {error}") from error
