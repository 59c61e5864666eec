"""How expectations are summed up: a row a window and expectation, in plain Flink SQL.

Those of a stream by the job of the archive, which sees every event; those of a view by the job
that computes it, which sees every row before anything is left out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from connectors.ddl import HEARTBEAT, REASON, identifier, interval, literal, sql_type
from flink_jobs.rolled import LATE, of_result, results
from schemas import (
    EVENT_TIME,
    Column,
    Duration,
    EventStream,
    Expectation,
    FeatureView,
    WindowExpectation,
)
from schemas.expectations import of_view
from schemas.sources import CHECKED

TIMED = "io.headwater.kernel.quality.Timed"
_ROW = "_row"


@dataclass(frozen=True)
class _Rows:
    """What expectations are checked of, and as what they are told."""

    source: str
    """As it stands in the table of expectations."""

    view: str
    """The SQL view of its windows."""

    rows: str
    """A query, indented by three."""

    rowtime: str
    """The time attribute of the query."""

    is_row: str
    """A condition that is not true of what only says that time has passed."""

    age: str
    """How long after its event time a row comes, in whole seconds or finer."""

    per_second: int
    """Units of `age` in a second."""

    expectations: tuple[Expectation | WindowExpectation, ...]
    length: Duration


def checked_sql(stream: EventStream, repository: str) -> tuple[str, str]:
    """The view of a stream's windows, and the statement that writes their rows to Iceberg.

    A heartbeat counts as no event and lets a window without one be seen. The windows of dead
    letters are not: they are counted by their reason, and have no event time.
    """
    assert stream.checked is not None
    is_event = f"{identifier(REASON)} IS NULL"
    return _summed(
        _Rows(
            source=stream.name,
            view=f"sources.{identifier(f'{stream.name}_{CHECKED}')}",
            rows=(
                f"SELECT * FROM sources.{identifier(stream.name)}\n"
                f"   WHERE {is_event} OR {identifier(REASON)} = {literal(HEARTBEAT)}"
            ),
            rowtime="rowtime",
            is_row=is_event,
            age=f"UNIX_TIMESTAMP() * 1000 - {identifier(EVENT_TIME)}",
            per_second=1000,
            expectations=stream.expectations,
            length=stream.checked,
        ),
        repository,
    )


def checked_view_sql(view: FeatureView, repository: str) -> tuple[list[str], str]:
    """The views over `rolled.VIEW` up to its windows, and the statement that writes their rows.

    Late rows are no rows of the view. Where its stream has heartbeats they let a window without a
    row be seen.
    """
    assert view.checked is not None and view.stream is not None
    # Names of ours begin with an underscore, which none that is declared does.
    whole, timed = (identifier(f"_{view.name}_{part}") for part in ("rows", "timed"))
    columns = [*(Column(e.key, e.type) for e in view.entities), *view.schema]
    names = ", ".join(identifier(column.name) for column in columns)
    values = results((*(column.name for column in columns), EVENT_TIME))
    steps = [
        f"CREATE VIEW checked.{whole} AS\n"
        f"SELECT {values}\n"
        f"FROM rolled.{identifier(view.name)}\n"
        f"WHERE {of_result(LATE)} IS NULL;\n",
        f"CREATE VIEW checked.{timed} AS\n"
        f"SELECT {names}, {identifier(EVENT_TIME)}, TRUE AS `{_ROW}`\n"
        f"FROM timed(input => TABLE checked.{whole}, uid => {literal(f'{view.name}-timed')})"
        f"{_silence(view.stream, columns)};\n",
    ]
    windows, written = _summed(
        _Rows(
            source=of_view(view.name),
            view=f"checked.{identifier(view.name)}",
            rows=f"SELECT * FROM checked.{timed}",
            rowtime=EVENT_TIME,
            is_row=f"`{_ROW}`",
            age=f"TIMESTAMPDIFF(SECOND, {identifier(EVENT_TIME)}, CURRENT_TIMESTAMP)",
            per_second=1,
            expectations=view.expectations,
            length=view.checked,
        ),
        repository,
    )
    return [*steps, windows], written


def breaks(expectation: Expectation, column: str | None = None) -> str:
    """A condition that is true of a row that breaks it, and not of a null.

    `column` is how its column is written where that is not by its name.
    """
    column = column or identifier(expectation.column)
    if expectation.not_null:
        return f"{column} IS NULL"
    if expectation.values:
        return f"{column} NOT IN ({', '.join(map(literal, expectation.values))})"
    return f"({_outside(column, expectation.low, expectation.high)})"


def _silence(stream: EventStream, columns: Iterable[Column]) -> str:
    if stream.heartbeat is None:
        return ""
    nulls = ", ".join(f"CAST(NULL AS {sql_type(column.type)})" for column in columns)
    return (
        f"\nUNION ALL\nSELECT {nulls}, `rowtime`, FALSE\n"
        f"FROM sources.{identifier(stream.name)}\n"
        f"WHERE {identifier(REASON)} = {literal(HEARTBEAT)}"
    )


def _summed(of: _Rows, repository: str) -> tuple[str, str]:
    broken = list(_broken(of))
    columns = ",\n".join(f"  {text} AS {identifier(name)}" for name, text in broken)
    made = (
        f"CREATE VIEW {of.view} AS\n"
        f"SELECT window_start, window_end, {_count(of.is_row)} AS `_events`,\n{columns}\n"
        "FROM TUMBLE(\n"
        f"  ({of.rows}),\n"
        f"  DESCRIPTOR({identifier(of.rowtime)}), {interval(of.length)})\n"
        "GROUP BY window_start, window_end;\n"
    )
    rows = ",\n  ".join(
        f"ROW(CAST({literal(name)} AS STRING), {identifier(name)})" for name, _ in broken
    )
    written = (
        f"INSERT INTO headwater.`quality`.{identifier(repository)}\n"
        f"SELECT {literal(of.source)}, `_name`,\n"
        "  CAST(window_start AS TIMESTAMP_LTZ(3)), CAST(window_end AS TIMESTAMP_LTZ(3)),\n"
        "  `_events`, `_broken`\n"
        f"FROM {of.view}\n"
        f"CROSS JOIN UNNEST(ARRAY[\n  {rows}\n]) AS of_each (`_name`, `_broken`);\n"
    )
    return made, written


def _broken(of: _Rows) -> Iterator[tuple[str, str]]:
    """Each expectation's name, and how often it was broken in a window, as SQL."""
    for expectation in of.expectations:
        if isinstance(expectation, WindowExpectation):
            yield expectation.name, _of_window(of, expectation)
        else:
            yield expectation.name, _count(f"{of.is_row} AND {breaks(expectation)}")


def _of_window(of: _Rows, expectation: WindowExpectation) -> str:
    if expectation.columns:
        there = " AND ".join(
            [of.is_row, *(f"{identifier(column)} IS NOT NULL" for column in expectation.columns)]
        )
        # Each text with its length before it, so that no two different lists look the same.
        texts = [f"CAST({identifier(column)} AS STRING)" for column in expectation.columns]
        value = " || ".join(
            f"CAST(CHAR_LENGTH({text}) AS STRING) || ':' || {text}" for text in texts
        )
        return f"{_count(there)}\n    - COUNT(DISTINCT {value}) FILTER (WHERE {there})"
    if expectation.max_age is not None:
        oldest = expectation.max_age.seconds * of.per_second
        return _count(f"{of.is_row} AND {of.age} > {oldest}")
    outside = _outside(_count(of.is_row), expectation.low, expectation.high)
    return f"CASE WHEN {outside} THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END"


def _count(condition: str) -> str:
    return f"COUNT(*) FILTER (WHERE {condition})"


def _outside(value: str, low: float | None, high: float | None) -> str:
    bounds = (("<", low), (">", high))
    return " OR ".join(f"{value} {sign} {bound!r}" for sign, bound in bounds if bound is not None)
