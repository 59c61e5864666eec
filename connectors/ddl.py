"""Flink SQL that reads a source from Kafka, and sets aside what cannot be read.

Addresses stand in it as placeholders, `${kafka}`, filled in when a job is submitted, so that the
same text holds on a laptop and in production. Sources live in the Flink database `sources`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from schemas import EVENT_TIME, CdcTable, Column, Duration, EventStream, Expectation, Type
from schemas.sources import OF_RECORDS
from schemas.topics import captured_topic, dead_topic, late_topic, source_topic

REASON, _PAYLOAD, PARTITION, OFFSET, _WRITTEN = OF_RECORDS
"""Why a record is a dead letter, null for every row that a view may see, and its bytes then; where
on its topic it stands; its timestamp there."""

HEARTBEAT = "heartbeat"
"""The reason of a record that is a time alone: no event and no dead letter."""

NO_RECORD = {
    REASON: "STRING",
    _PAYLOAD: "BYTES",
    PARTITION: "INT",
    OFFSET: "BIGINT",
    _WRITTEN: "TIMESTAMP_LTZ(3)",
}
"""What a source has beside its values: all null for one that is not read from Kafka."""

_DEAD = (
    f"`{REASON}` STRING METADATA FROM 'value.reason' VIRTUAL",
    f"`{_PAYLOAD}` BYTES METADATA FROM 'value.payload' VIRTUAL",
    f"`{PARTITION}` INT METADATA FROM 'partition' VIRTUAL",
    f"`{OFFSET}` BIGINT METADATA FROM 'offset' VIRTUAL",
    f"`{_WRITTEN}` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL",
)
TRACEPARENT = "_traceparent"
"""The column of a traced stream with the trace that its record's headers name."""

_TRACEPARENT = f"`{TRACEPARENT}` AS DECODE(`_headers`['traceparent'], 'UTF-8')"
_VERSIONS = {
    "connector": "kafka-versions",
    # Whoever has this topic as its own source counts what cannot be read, and sends it on.
    "headwater-json.counted": "false",
}
DEAD_MESSAGE_BYTES = 2 << 20
"""A dead letter is its record and more: the largest that its topic takes."""

LATE_MESSAGE_BYTES = 3 << 20
"""A late row is a record's JSON within JSON, where a quote in a string takes twice the bytes."""

_SQL = {
    Type.STRING: "STRING",
    Type.INT64: "BIGINT",
    Type.FLOAT64: "DOUBLE",
    Type.BOOL: "BOOLEAN",
    # Both event producers and Debezium (time.precision.mode=connect) send milliseconds.
    Type.TIMESTAMP: "BIGINT",
}


def identifier(name: str) -> str:
    """`name` quoted for Flink SQL."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """`text` as a string literal of Flink SQL."""
    return "'" + text.replace("'", "''") + "'"


def source_ddl(source: EventStream | CdcTable, prefix: str) -> str:
    """CREATE TABLE for one source; `prefix` begins the topic of a captured table."""
    if isinstance(source, EventStream):
        return _stream(source)
    return _table(source, prefix)


def versions_ddl(source: EventStream | CdcTable, prefix: str, stream: EventStream) -> str:
    """CREATE TABLE for a source that the events of `stream` are joined with.

    The connector holds events back while it catches up with its topic and sets no watermarks
    beyond that. The one that is declared is for readers that are not Kafka: a version may come as
    late as the events.
    """
    if isinstance(source, EventStream):
        topic, time = source.topic, identifier(EVENT_TIME)
        lines, checks = _events(source), _event_checks(source)
    else:
        topic, time = captured_topic(source, prefix), "`source`.`ts_ms`"
        lines, checks = _changes(source), _change_checks(source)
    lines += [
        *_DEAD,
        f"{identifier('rowtime')} AS TO_TIMESTAMP_LTZ({time}, 3)",
        _watermark(stream),
    ]
    return _create(source.name, lines, _kafka(topic) | checks | _VERSIONS)


def untraced(ddl: str) -> str:
    """The DDL of a stream, its events of no trace: what is replayed goes on in none."""
    return ddl.replace(_TRACEPARENT, f"`{TRACEPARENT}` AS CAST(NULL AS STRING)")


def _traced(stream: EventStream) -> list[str]:
    if not stream.traced:
        return []
    return ["`_headers` MAP<STRING, BYTES> METADATA FROM 'headers' VIRTUAL", _TRACEPARENT]


def _stream(stream: EventStream) -> str:
    lines = [
        *_events(stream),
        *_DEAD,
        *_traced(stream),
        f"{identifier('rowtime')} AS TO_TIMESTAMP_LTZ({identifier(EVENT_TIME)}, 3)",
        _watermark(stream),
    ]
    return _create(
        stream.name,
        lines,
        {**_kafka(stream.topic), **_aligned(stream), **_event_checks(stream)},
    )


def _event_checks(stream: EventStream) -> dict[str, str]:
    times = [c.name for c in stream.columns if c.type is Type.TIMESTAMP]
    return {
        **_checks(
            [EVENT_TIME, *(c.name for c in stream.columns if c.required)], [EVENT_TIME, *times]
        ),
        "headwater-json.event-time": EVENT_TIME,
        "headwater-json.ahead": f"{stream.ahead.seconds} s",
        **_expect(stream.of_records, ""),
    }


def _table(table: CdcTable, prefix: str) -> str:
    """The change log as it stands on the topic: one row a change."""
    return _create(
        table.name,
        [*_changes(table), *_DEAD],
        {**_kafka(captured_topic(table, prefix)), **_change_checks(table)},
    )


def _change_checks(table: CdcTable) -> dict[str, str]:
    required = ["source", "source.ts_ms", f"before.{table.primary_key}"]
    required += [f"after.{column.name}" for column in table.columns if column.required]
    times = [f"after.{column.name}" for column in table.columns if column.type is Type.TIMESTAMP]
    return {
        **_checks(required, ["source.ts_ms", *times]),
        "headwater-json.debezium": "true",
        **_expect(table.expectations, "after."),
    }


def _events(stream: EventStream) -> list[str]:
    return [f"{identifier(EVENT_TIME)} BIGINT", *(_column(column) for column in stream.columns)]


def _watermark(stream: EventStream) -> str:
    rowtime = identifier("rowtime")
    return f"WATERMARK FOR {rowtime} AS {rowtime} - {interval(stream.disorder)}"


def interval(duration: Duration) -> str:
    """`duration` as an interval of Flink SQL."""
    seconds = duration.seconds
    return f"INTERVAL '{seconds}' SECOND({len(str(seconds))})"


def _aligned(stream: EventStream) -> dict[str, str]:
    """Keeps a replay's partitions together, or the fastest one fills the state."""
    return {
        "scan.watermark.alignment.group": stream.name,
        "scan.watermark.alignment.max-drift": f"{stream.drift.seconds} s",
        "scan.watermark.alignment.update-interval": "200 ms",
    }


def _changes(table: CdcTable) -> list[str]:
    """Debezium's envelope: which row it was, what it is now, and when that was committed.

    Of the row that was nobody reads more than its key, and PostgreSQL often tells no more: a value
    that may not be there any more is no reason to refuse the one that took its place.
    """
    row = ", ".join(_column(column) for column in table.columns)
    (key,) = (column for column in table.columns if column.name == table.primary_key)
    return [
        f"{identifier('before')} ROW<{_column(key)}>",
        f"{identifier('after')} ROW<{row}>",
        f"{identifier('op')} STRING",
        f"{identifier('source')} ROW<{identifier('ts_ms')} BIGINT>",
    ]


def _checks(required: Iterable[str], timestamps: Iterable[str]) -> dict[str, str]:
    return {
        "headwater-json.required": ";".join(required),
        "headwater-json.timestamps": ";".join(timestamps),
    }


def _expect(expectations: Iterable[Expectation], prefix: str) -> dict[str, str]:
    """What the format counts, or rejects, as JSON."""
    told = []
    for expectation in expectations:
        one: dict[str, object] = {
            "name": expectation.name,
            "column": f"{prefix}{expectation.column}",
            "min": expectation.low,
            "max": expectation.high,
            "in": list(expectation.values) or None,
            "present": expectation.not_null or None,
            "reject": expectation.reject or None,
        }
        told.append({key: value for key, value in one.items() if value is not None})
    if not told:
        return {}
    return {"headwater-json.expect": json.dumps(told, separators=(",", ":"), ensure_ascii=False)}


def dead_ddl(source: EventStream | CdcTable, prefix: str) -> str:
    """CREATE TABLE for the dead letters of a source.

    Not by transactions: after a restart a letter may come twice, known by its source offset, and
    none is lost when a job comes back later than Kafka keeps a transaction.
    """
    return create_table(
        f"dead.{identifier(source.name)}",
        [
            "`payload` BYTES",
            "`headers` MAP<STRING, BYTES> METADATA",
            "`time` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'",
        ],
        {
            "connector": "kafka",
            "topic": dead_topic(source_topic(source, prefix)),
            "properties.bootstrap.servers": "${kafka}",
            "properties.max.request.size": str(DEAD_MESSAGE_BYTES),
            "format": "raw",
        },
    )


def dead_insert(source: EventStream | CdcTable, prefix: str) -> str:
    """Send what cannot be read to the dead letters; the record's own time stays."""
    headers = {
        "reason": identifier(REASON),
        "topic": literal(source_topic(source, prefix)),
        "partition": f"CAST(`{PARTITION}` AS STRING)",
        "offset": f"CAST(`{OFFSET}` AS STRING)",
    }
    entries = ",\n  ".join(
        f"{literal(name)}, ENCODE({value}, 'UTF-8')" for name, value in headers.items()
    )
    return (
        f"INSERT INTO dead.{identifier(source.name)}\n"
        f"SELECT `{_PAYLOAD}`, MAP[\n  {entries}\n],\n"
        # Kafka stores a time before 1970, and then refuses to take it again.
        f"  CASE WHEN `{_WRITTEN}` >= TO_TIMESTAMP_LTZ(0, 3) THEN `{_WRITTEN}` END\n"
        f"FROM sources.{identifier(source.name)}\n"
        f"WHERE `{REASON}` <> {literal(HEARTBEAT)};\n"
    )


def late_ddl(stream: EventStream) -> str:
    """CREATE TABLE for the late rows of a stream: one JSON object for each view it missed.

    `row` is the JSON text of the columns that the view reads. Exactly once: a row that a failed
    job wrote is not there for a reader of committed records. A transaction lives as long as a job
    may be away: Kafka aborts an older one, though a checkpoint of the job says that it is whole.
    """
    return create_table(
        f"late.{identifier(stream.name)}",
        [
            "`view` STRING",
            "`entity` MAP<STRING, STRING>",
            f"{identifier(EVENT_TIME)} TIMESTAMP_LTZ(3)",
            "`row` STRING",
        ],
        {
            "connector": "kafka",
            "topic": late_topic(stream),
            "properties.bootstrap.servers": "${kafka}",
            "properties.transaction.timeout.ms": "${outage_ms}",
            "properties.max.request.size": str(LATE_MESSAGE_BYTES),
            "format": "json",
            "json.timestamp-format.standard": "ISO-8601",
            "sink.delivery-guarantee": "exactly-once",
            "sink.transactional-id-prefix": "${group}-late",
        },
    )


def _kafka(topic: str) -> dict[str, str]:
    return {
        "connector": "kafka",
        "topic": topic,
        "properties.bootstrap.servers": "${kafka}",
        "properties.group.id": "${group}",
        # What a producer took back is no event.
        "properties.isolation.level": "read_committed",
        "scan.startup.mode": "earliest-offset",
        "format": "headwater-json",
    }


def _column(column: Column) -> str:
    return f"{identifier(column.name)} {_SQL[column.type]}"


def _create(name: str, lines: list[str], options: dict[str, str]) -> str:
    return create_table(f"sources.{identifier(name)}", lines, options)


def create_table(name: str, lines: Iterable[str], options: Mapping[str, str]) -> str:
    """CREATE TABLE of a quoted `name`."""
    body = ",\n  ".join(lines)
    with_ = ",\n  ".join(f"{literal(key)} = {literal(value)}" for key, value in options.items())
    return f"CREATE TABLE {name} (\n  {body}\n) WITH (\n  {with_}\n);\n"


def sql_type(type_: Type) -> str:
    """The Flink SQL type of a column; a timestamp is a BIGINT of milliseconds."""
    return _SQL[type_]
