"""Flink SQL that reads a source from Kafka.

Addresses are not part of it: the job adds `properties.bootstrap.servers` and the like when it
submits, so that the same text holds on a laptop and in production.
"""

from __future__ import annotations

from schemas import EVENT_TIME, CdcTable, Column, EventStream, Source, Type

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


def source_ddl(source: Source, prefix: str) -> str:
    """CREATE TABLE for one source; `prefix` begins the topic of a captured table."""
    if isinstance(source, EventStream):
        return _stream(source)
    return _table(source, prefix)


def _stream(stream: EventStream) -> str:
    lines = [
        f"{identifier(EVENT_TIME)} BIGINT",
        *(_column(column) for column in stream.columns),
        f"{identifier('rowtime')} AS TO_TIMESTAMP_LTZ({identifier(EVENT_TIME)}, 3)",
        f"WATERMARK FOR {identifier('rowtime')} AS {identifier('rowtime')}"
        f" - INTERVAL '{stream.disorder.seconds}' SECOND({len(str(stream.disorder.seconds))})",
    ]
    return _create(
        stream.name,
        lines,
        {
            "connector": "kafka",
            "topic": stream.topic,
            "format": "json",
            "scan.startup.mode": "earliest-offset",
        },
    )


def _table(table: CdcTable, prefix: str) -> str:
    """The change log as it stands on the topic: one row a change, before and after images."""
    row = ", ".join(_column(column) for column in table.columns)
    lines = [
        f"{identifier('before')} ROW<{row}>",
        f"{identifier('after')} ROW<{row}>",
        f"{identifier('op')} STRING",
        f"{identifier('ts_ms')} BIGINT",
    ]
    return _create(
        table.name,
        lines,
        {
            "connector": "kafka",
            "topic": f"{prefix}.{table.schema}.{table.table}",
            "format": "json",
            "scan.startup.mode": "earliest-offset",
        },
    )


def _column(column: Column) -> str:
    return f"{identifier(column.name)} {_SQL[column.type]}"


def _create(name: str, lines: list[str], options: dict[str, str]) -> str:
    body = ",\n  ".join(lines)
    with_ = ",\n  ".join(f"{literal(key)} = {literal(value)}" for key, value in options.items())
    return f"CREATE TABLE {identifier(name)} (\n  {body}\n) WITH (\n  {with_}\n);\n"
