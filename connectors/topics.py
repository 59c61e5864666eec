"""The topics a repository needs, made with kafka-python."""

from __future__ import annotations

from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from connectors.access import KafkaAccess
from connectors.ddl import captured_topic, late_topic
from schemas import HeadwaterError, Repository

PARTITIONS = 2
_AS_CONFIGURED = -1


class KafkaUnavailable(HeadwaterError):
    """Kafka does not answer; the text has its address and what it said."""


def topics(repository: Repository) -> dict[str, int]:
    """Each topic with its number of partitions.

    A captured table has one partition: its changes are few, and their order is plain to see. So
    have late rows.
    """
    return {
        **{stream.topic: PARTITIONS for stream in repository.streams},
        **{late_topic(stream): 1 for stream in repository.streams},
        **{captured_topic(table, repository.name): 1 for table in repository.tables},
    }


def create_topics(access: KafkaAccess, wanted: dict[str, int]) -> list[str]:
    """Create the topics that are missing and return their names; KafkaUnavailable if it cannot.

    Each has as many replicas as the cluster gives by default.
    """
    try:
        admin = KafkaAdminClient(
            **access.client(), bootstrap_timeout_ms=5000, request_timeout_ms=10_000
        )
    except Exception as error:  # the library's errors have no common root
        raise KafkaUnavailable(f"Kafka at {access.bootstrap} does not answer: {error}") from error
    try:
        missing = sorted(set(wanted) - set(admin.list_topics()))
        if missing:
            admin.create_topics([NewTopic(name, wanted[name], _AS_CONFIGURED) for name in missing])
        return missing
    finally:
        admin.close()
