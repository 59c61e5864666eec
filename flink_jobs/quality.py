"""How a stream's expectations are summed up: a row a window and expectation, in plain Flink SQL."""

from __future__ import annotations

from collections.abc import Iterator

from connectors.ddl import HEARTBEAT, REASON, identifier, literal
from schemas import EVENT_TIME, EventStream, Expectation, WindowExpectation

_EVENT = f"{identifier(REASON)} IS NULL"


def checked_sql(stream: EventStream, repository: str) -> tuple[str, str]:
    """The view of a stream's windows, and the statement that writes their rows to Iceberg.

    A heartbeat counts as no event and lets a window without one be seen. The windows of dead
    letters are not: they are counted by their reason, and have no event time.
    """
    assert stream.checked is not None
    view = f"sources.{identifier(f'{stream.name}_checked')}"
    seconds = stream.checked.seconds
    columns = ",\n".join(f"  {text} AS {identifier(name)}" for name, text in _broken(stream))
    events = f"COUNT(*) FILTER (WHERE {_EVENT})"
    made = (
        f"CREATE VIEW {view} AS\n"
        f"SELECT window_start, window_end, {events} AS `_events`,\n{columns}\n"
        "FROM TUMBLE(\n"
        f"  (SELECT * FROM sources.{identifier(stream.name)}\n"
        f"   WHERE {_EVENT} OR {identifier(REASON)} = {literal(HEARTBEAT)}),\n"
        f"  DESCRIPTOR(`rowtime`), INTERVAL '{seconds}' SECOND({len(str(seconds))}))\n"
        "GROUP BY window_start, window_end;\n"
    )
    rows = ",\n  ".join(
        f"ROW(CAST({literal(name)} AS STRING), {identifier(name)})" for name, _ in _broken(stream)
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
    bounds = []
    if expectation.low is not None:
        bounds.append(f"{column} < {expectation.low!r}")
    if expectation.high is not None:
        bounds.append(f"{column} > {expectation.high!r}")
    return f"({' OR '.join(bounds)})"


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
    events = f"COUNT(*) FILTER (WHERE {_EVENT})"
    bounds = []
    if expectation.low is not None:
        bounds.append(f"{events} < {expectation.low}")
    if expectation.high is not None:
        bounds.append(f"{events} > {expectation.high}")
    return f"CASE WHEN {' OR '.join(bounds)} THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END"
