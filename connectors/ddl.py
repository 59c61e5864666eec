"""Flink SQL that reads a source from Kafka.

Addresses stand in it as placeholders, `${kafka}`, filled in when a job is submitted, so that the
same text holds on a laptop and in production. Sources live in the Flink database `sources`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schemas import EVENT_TIME, CdcTable, Column, EventStream, Type

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
        return stream_ddl(source)
    return _table(source, prefix)


def versions_ddl(source: EventStream | CdcTable, prefix: str, stream: EventStream) -> str:
    """CREATE TABLE for a source that the events of `stream` are joined with.

    The connector holds events back while it catches up with its topic and sets no watermarks
    beyond that. The one that is declared is for readers that are not Kafka: a version may come as
    late as the events.
    """
    if isinstance(source, EventStream):
        topic, time, lines = source.topic, identifier(EVENT_TIME), _events(source)
    else:
        topic, time = captured_topic(source, prefix), "`source`.`ts_ms`"
        lines = [*_changes(source), "`source` ROW<`ts_ms` BIGINT>"]
    lines += [
        f"{identifier('rowtime')} AS TO_TIMESTAMP_LTZ({time}, 3)",
        f"WATERMARK FOR {identifier('rowtime')} AS {identifier('rowtime')} - {_interval(stream)}",
    ]
    return _create(source.name, lines, _kafka(topic) | {"connector": "kafka-versions"})


def stream_ddl(stream: EventStream, more: Iterable[str] = ()) -> str:
    """CREATE TABLE for a stream; `more` are further columns, such as Kafka's metadata."""
    lines = [
        *_events(stream),
        *more,
        f"{identifier('rowtime')} AS TO_TIMESTAMP_LTZ({identifier(EVENT_TIME)}, 3)",
        f"WATERMARK FOR {identifier('rowtime')} AS {identifier('rowtime')} - {_interval(stream)}",
    ]
    return _create(stream.name, lines, {**_kafka(stream.topic), **_aligned(stream)})


def _table(table: CdcTable, prefix: str) -> str:
    """The change log as it stands on the topic: one row a change, before and after images."""
    return _create(table.name, _changes(table), _kafka(captured_topic(table, prefix)))


def _events(stream: EventStream) -> list[str]:
    return [f"{identifier(EVENT_TIME)} BIGINT", *(_column(column) for column in stream.columns)]


def _changes(table: CdcTable) -> list[str]:
    row = ", ".join(_column(column) for column in table.columns)
    return [
        f"{identifier('before')} ROW<{row}>",
        f"{identifier('after')} ROW<{row}>",
        f"{identifier('op')} STRING",
        f"{identifier('ts_ms')} BIGINT",
    ]


def _interval(stream: EventStream) -> str:
    seconds = stream.disorder.seconds
    return f"INTERVAL '{seconds}' SECOND({len(str(seconds))})"


def _aligned(stream: EventStream) -> dict[str, str]:
    """Keeps a replay's partitions together, or the fastest one fills the state."""
    return {
        "scan.watermark.alignment.group": stream.name,
        "scan.watermark.alignment.max-drift": f"{stream.drift.seconds} s",
        "scan.watermark.alignment.update-interval": "200 ms",
    }


def captured_topic(table: CdcTable, prefix: str) -> str:
    """The topic Debezium writes a table's changes to."""
    return f"{prefix}.{table.schema}.{table.table}"


def late_topic(stream: EventStream) -> str:
    """The topic of the rows that came too late to count in a view."""
    return f"{stream.topic}.late"


def late_ddl(stream: EventStream) -> str:
    """CREATE TABLE for the late rows of a stream: one JSON object for each view it missed.

    `row` is the JSON text of the columns that the view reads. Exactly once: a row that a failed
    job wrote is not there for a reader of committed records.
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
            # As long as Kafka allows, for a job that is down keeps its transactions no longer.
            "properties.transaction.timeout.ms": "900000",
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
        "scan.startup.mode": "earliest-offset",
        "format": "json",
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
