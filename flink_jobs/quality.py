"""How a stream's expectations are summed up: a row a window and expectation, in plain Flink SQL."""

from __future__ import annotations

from collections.abc import Iterator

from connectors.ddl import HEARTBEAT, REASON, identifier, interval, literal
from schemas import EVENT_TIME, EventStream, Expectation, WindowExpectation

_EVENT = f"{identifier(REASON)} IS NULL"
_EVENTS = f"COUNT(*) FILTER (WHERE {_EVENT})"


def checked_sql(stream: EventStream, repository: str) -> tuple[str, str]:
    """The view of a stream's windows, and the statement that writes their rows to Iceberg.

    A heartbeat counts as no event and lets a window without one be seen. The windows of dead
    letters are not: they are counted by their reason, and have no event time.
    """
    assert stream.checked is not None
    view = f"sources.{identifier(f'{stream.name}_checked')}"
    broken = list(_broken(stream))
    columns = ",\n".join(f"  {text} AS {identifier(name)}" for name, text in broken)
    made = (
        f"CREATE VIEW {view} AS\n"
        f"SELECT window_start, window_end, {_EVENTS} AS `_events`,\n{columns}\n"
        "FROM TUMBLE(\n"
        f"  (SELECT * FROM sources.{identifier(stream.name)}\n"
        f"   WHERE {_EVENT} OR {identifier(REASON)} = {literal(HEARTBEAT)}),\n"
        f"  DESCRIPTOR(`rowtime`), {interval(stream.checked)})\n"
        "GROUP BY window_start, window_end;\n"
    )
    rows = ",\n  ".join(
        f"ROW(CAST({literal(name)} AS STRING), {identifier(name)})" for name, _ in broken
    )
    written = (
        f"INSERT INTO headwater.`quality`.{identifier(repository)}\n"
        f"SELECT {literal(stream.name)}, `_name`,\n"
        "  CAST(window_start AS TIMESTAMP_LTZ(3)), CAST(window_end AS TIMESTAMP_LTZ(3)),\n"
        "  `_events`, `_broken`\n"
        f"FROM {view}\n"
        f"CROSS JOIN UNNEST(ARRAY[\n  {rows}\n]) AS of_each (`_name`, `_broken`);\n"
    )
    return made, written


def _broken(stream: EventStream) -> Iterator[tuple[str, str]]:
    """Each expectation's name, and how often it was broken in a window, as SQL."""
    for expectation in stream.expectations:
        if isinstance(expectation, WindowExpectation):
            yield expectation.name, _of_window(expectation)
        else:
            yield expectation.name, f"COUNT(*) FILTER (WHERE {_EVENT} AND {_breaks(expectation)})"


def _breaks(expectation: Expectation) -> str:
    """A condition that is true of an event that breaks it, and not of a null."""
    column = identifier(expectation.column)
    if expectation.not_null:
        return f"{column} IS NULL"
    if expectation.values:
        return f"{column} NOT IN ({', '.join(map(literal, expectation.values))})"
    return f"({_outside(column, expectation.low, expectation.high)})"


def _of_window(expectation: WindowExpectation) -> str:
    if expectation.columns:
        there = " AND ".join(
            [_EVENT, *(f"{identifier(column)} IS NOT NULL" for column in expectation.columns)]
        )
        # Each text with its length before it, so that no two different lists look the same.
        texts = [f"CAST({identifier(column)} AS STRING)" for column in expectation.columns]
        value = " || ".join(
            f"CAST(CHAR_LENGTH({text}) AS STRING) || ':' || {text}" for text in texts
        )
        return (
            f"COUNT(*) FILTER (WHERE {there})\n    - COUNT(DISTINCT {value}) FILTER (WHERE {there})"
        )
    if expectation.max_age is not None:
        age = f"UNIX_TIMESTAMP() * 1000 - {identifier(EVENT_TIME)}"
        return f"COUNT(*) FILTER (WHERE {_EVENT} AND {age} > {expectation.max_age.seconds * 1000})"
    outside = _outside(_EVENTS, expectation.low, expectation.high)
    return f"CASE WHEN {outside} THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END"


def _outside(value: str, low: float | None, high: float | None) -> str:
    bounds = (("<", low), (">", high))
    return " OR ".join(f"{value} {sign} {bound!r}" for sign, bound in bounds if bound is not None)
