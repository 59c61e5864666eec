"""What topics are called that no declaration names: those that come with a declared one."""

from __future__ import annotations

from schemas.sources import CdcTable, EventStream


def source_topic(source: EventStream | CdcTable, prefix: str) -> str:
    """The topic a source is read from; `prefix` begins that of a captured table."""
    return source.topic if isinstance(source, EventStream) else captured_topic(source, prefix)


def captured_topic(table: CdcTable, prefix: str) -> str:
    """The topic Debezium writes a table's changes to."""
    return f"{prefix}.{table.qualified}"


def dead_topic(topic: str) -> str:
    """Where the records of `topic` go that cannot be read."""
    return f"{topic}.dead"


def late_topic(stream: EventStream) -> str:
    """The topic of the rows that came too late to count in a view."""
    return f"{stream.topic}.late"
