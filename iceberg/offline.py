"""Reads feature tables as they were: point-in-time joins, ranges and newest values.

PyIceberg reads only the files, rows and columns asked for, batch by batch; DuckDB joins them and
spills to disk beyond its memory limit. A table may hold several rows of one key and event time, a
correction after its original: the newest `available_at` counts, and where that is equal too, the
larger values, so that no answer depends on the order of files.

Timestamps among the features come out as int64 milliseconds, as the online store has them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain

import duckdb
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    GreaterThanOrEqual,
    LessThanOrEqual,
    Not,
)
from pyiceberg.table import DataScan, Table
from pyiceberg.types import TimestamptzType

from iceberg.filters import among, where
from iceberg.promotions import Promotion, promotions
from iceberg.reading import batches
from schemas import HeadwaterError

_KEYS_PUSHED_DOWN = 200  # beyond it Iceberg compares no key set with a file's bounds
_INSTANT = pa.timestamp("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JoinError(HeadwaterError, ValueError):
    """What was asked for cannot be joined; the text names the column."""


@dataclass(frozen=True)
class Lookup:
    """One table to look values up in.

    `keys` maps the table's key columns to the columns of the entity rows that hold them, and
    `features` the table's feature columns to their names in the result. A value older than `ttl`
    is not found; None is for ever. `available_at` is None for a table that never has corrections.
    """

    table: Table
    keys: Mapping[str, str]
    features: Mapping[str, str]
    ttl: timedelta | None
    event_time: str
    available_at: str | None


def join(
    entities: pa.Table,
    at: str,
    lookups: Sequence[Lookup],
    known_then: bool = False,
    memory_limit: str = "1GB",
) -> pa.Table:
    """`entities` in its own order, with the features that held at each row's `at`.

    That is the newest row of its key with event time in [at - ttl, at], nulls if there is none.
    With `known_then`, a row that was written after `at` is not seen: neither late arrivals nor
    corrections nor a replay's values, just what could have been served. JoinError if a column is
    missing, of another type, or there already; or where that is known no more, since a replay was
    put in its place and what was there before has expired.
    """
    instants = _instants(entities, at)
    result = entities
    with spilling_database(memory_limit) as database:
        for lookup in lookups:
            if known_then and lookup.available_at:
                found = _look_up_then(database, entities, instants, lookup)
            else:
                found = _look_up(database, entities, instants, lookup, known_then)
            for column, name in lookup.features.items():
                if name in result.column_names:
                    raise JoinError(f"{name}: two columns of the result would have this name")
                result = result.append_column(name, found.column(column))
    return result


def rows(
    table: Table,
    keys: Sequence[str],
    features: Sequence[str],
    event_time: str,
    available_at: str | None,
    start: datetime | None = None,
    end: datetime | None = None,
    newest_only: bool = False,
    memory_limit: str = "1GB",
    one_in: int = 1,
) -> pa.Table:
    """Keys, features and times of the rows with event time in [start, end], without duplicates.

    With `newest_only`, one row for each key: its newest. Of `one_in` pairs of key and event time
    only about one is taken, always the same one.
    """
    times = [event_time, *([available_at] if available_at else [])]
    columns = [*keys, *features, *times]
    lower, upper = (None if limit is None else _microseconds(limit) for limit in (start, end))
    scanned = scan(table, columns, event_time, lower, upper)
    group = keys if newest_only else [*keys, event_time]
    timestamps = {f.name for f in table.schema().fields if f.field_type == TimestamptzType()}
    selected = ", ".join(
        _feature(name, name in timestamps) if name in features else quoted(name) for name in columns
    )
    with spilling_database(memory_limit) as database:
        database.register("scanned", batches(scanned))
        found = database.sql(
            f"SELECT {selected} FROM scanned"
            f" WHERE hash({_list([*keys, event_time])}) % {one_in} = 0"
            " QUALIFY row_number() OVER ("
            f"PARTITION BY {_list(group)} ORDER BY {_newest([*times, *features])}) = 1"
        ).to_arrow_table()
        database.unregister("scanned")
    for name in times:
        position = found.column_names.index(name)
        found = found.set_column(position, name, found.column(name).cast(_INSTANT))
    return found


def scan(
    table: Table,
    columns: Sequence[str],
    event_time: str,
    start: int | None,
    end: int | None,
    also: BooleanExpression | None = None,
) -> DataScan:
    """A scan of just `columns` and of event times in [start, end], microseconds since 1970 UTC."""
    wanted: BooleanExpression = also or AlwaysTrue()
    if start is not None:
        wanted = And(wanted, _at_least(event_time, start))
    if end is not None:
        wanted = And(wanted, _at_most(event_time, end))
    selected = tuple(dict.fromkeys(columns))
    return table.scan(row_filter=wanted, selected_fields=selected)


def plan(
    entities: pa.Table, at: str, lookup: Lookup, known_then: bool = False
) -> tuple[DataScan, pa.Table]:
    """What a join reads for one lookup, and the entity rows it reads it for, as `row, at, k0…`."""
    return _plan(entities, _instants(entities, at), lookup, known_then)


def _plan(
    entities: pa.Table, instants: pa.ChunkedArray, lookup: Lookup, known_then: bool
) -> tuple[DataScan, pa.Table]:
    fields = {field.name: field for field in lookup.table.schema().fields}
    times = [lookup.event_time, *([lookup.available_at] if lookup.available_at else [])]
    for column in (*lookup.keys, *lookup.features, *times):
        if column not in fields:
            raise JoinError(
                f"{'.'.join(lookup.table.name())}: no column {column!r}."
                f" Choices: {', '.join(fields)}."
            )
    types = lookup.table.schema().as_arrow()
    asked = {"row": pa.array(range(entities.num_rows), pa.int64()), "at": instants.cast(pa.int64())}
    also: BooleanExpression = AlwaysTrue()
    for number, (column, name) in enumerate(lookup.keys.items()):
        if name not in entities.column_names:
            raise JoinError(
                f"entity rows: no column {name!r}. Choices: {', '.join(entities.column_names)}."
            )
        type_ = types.field(column).type
        try:
            values = entities.column(name).cast(type_)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise JoinError(f"entity rows: {name} is not {type_}: {error}") from None
        asked[f"k{number}"] = values
        distinct = pc.unique(values).drop_null()
        if len(distinct) <= _KEYS_PUSHED_DOWN:
            also = And(also, among(column, distinct.to_pylist()))
    start, end = _range(instants, lookup.ttl)
    if known_then and lookup.available_at:
        also = And(also, _at_most(lookup.available_at, end))
    columns = [*lookup.keys, *times, *lookup.features]
    found = scan(lookup.table, columns, lookup.event_time, start, end, also)
    return found, pa.table(asked)


def _look_up_then(
    database: duckdb.DuckDBPyConnection,
    entities: pa.Table,
    instants: pa.ChunkedArray,
    lookup: Lookup,
) -> pa.Table:
    """What `_look_up` gives of the table as it was at each row's instant, as far as replays go."""
    known = [(one.at, one) for one in promotions(lookup.table).values() if one.at is not None]
    placed = sorted(known, key=lambda pair: pair[0])
    if not (placed and entities.num_rows):
        return _look_up(database, entities, instants, lookup, True)
    asked = pc.fill_null(instants.cast(pa.int64()), np.iinfo(np.int64).max).to_numpy()
    numbers = np.searchsorted([at * 1000 for at, _ in placed], asked, side="right")
    parts, rows = [], []
    for number in np.unique(numbers):
        its = np.flatnonzero(numbers == number)
        then = instants.take(pa.array(its))
        there = _as_then([one for _, one in placed[number:]], lookup, then)
        parts.append(_look_up(database, entities.take(pa.array(its)), then, lookup, True, there))
        rows.append(its)
    order = np.argsort(np.concatenate(rows), kind="stable")
    return pa.concat_tables(parts).take(pa.array(order))


def _as_then(
    later: Sequence[Promotion], lookup: Lookup, instants: pa.ChunkedArray
) -> list[tuple[int | None, BooleanExpression]]:
    """What could be read before those promotions, oldest first, which the instants are all before.

    A promotion takes away the rows of its span and of no other event times: these come from the
    snapshot of before, or of before an earlier one, and all others from the table of now, None, for
    what was written by an instant may have been committed after a promotion. JoinError if there is
    no such snapshot of a span that matters.
    """
    parts: list[tuple[int | None, BooleanExpression]] = []
    others: BooleanExpression = AlwaysTrue()
    before: int | None = None
    for promotion in later:
        if lookup.table.snapshot_by_id(promotion.before) is not None:
            before = promotion.before
        if not _matters(promotion, lookup, instants):
            continue
        if before is None:
            raise JoinError(
                f"{'.'.join(lookup.table.name())}: what could have been served before"
                f" {_text((promotion.at or 0) * 1000)} is known no more: a replay was put in its"
                " place then, and the rows of before have expired with it"
            )
        span = _within(promotion, lookup.event_time)
        parts.append((before, And(others, span)))
        others = And(others, Not(span))
    return [*parts, (None, others)]


def _matters(promotion: Promotion, lookup: Lookup, instants: pa.ChunkedArray) -> bool:
    """Whether at one of the instants a row of its span can be seen."""
    asked = instants.drop_null().cast(pa.int64()).to_numpy()
    oldest = np.iinfo(np.int64).min if lookup.ttl is None else asked - _span(lookup.ttl)
    end = min(promotion.end * 1000, np.iinfo(np.int64).max)
    return bool(np.any((asked >= promotion.start * 1000) & (oldest < end)))


def _within(promotion: Promotion, event_time: str) -> BooleanExpression:
    last = min(promotion.end * 1000 - 1, _microseconds(datetime.max))
    return And(_at_least(event_time, promotion.start * 1000), _at_most(event_time, last))


def _look_up(
    database: duckdb.DuckDBPyConnection,
    entities: pa.Table,
    instants: pa.ChunkedArray,
    lookup: Lookup,
    known_then: bool,
    parts: Sequence[tuple[int | None, BooleanExpression]] = ((None, AlwaysTrue()),),
) -> pa.Table:
    """The lookup's features under the table's names, one row for each entity row, in order.

    Of the table as its `parts` say: the rows of each snapshot that its filter takes.
    """
    scanned, asked = _plan(entities, instants, lookup, known_then)
    timestamps = {f.name for f in lookup.table.schema().fields if f.field_type == TimestamptzType()}
    keys = ", ".join(f"{_scanned(column)} AS k{n}" for n, column in enumerate(lookup.keys))
    numbered = [f"k{n}" for n in range(len(lookup.keys))]
    values = [f"v{n}" for n in range(len(lookup.features))]
    read = ", ".join(
        f"{_feature(column, column in timestamps, name)}"
        for name, column in zip(values, lookup.features, strict=True)
    )
    event, written = (
        f"epoch_us({_scanned(name)})" if name else "0"
        for name in (lookup.event_time, lookup.available_at)
    )
    by_key = f"PARTITION BY {', '.join(numbered)}"
    # A row counts from `since` on. As of event time that is its event time. As of what was known,
    # it is the later of its two times, unless a newer event was known by then: `newest`.
    since = "greatest(event, written)" if known_then and lookup.available_at else "event"
    newest = (
        f"QUALIFY event = max(event) OVER ({by_key} ORDER BY since RANGE UNBOUNDED PRECEDING)"
        if since != "event"
        else ""
    )
    ttl = "true" if lookup.ttl is None else f"found.event >= asked.at - {_span(lookup.ttl)}"
    matched = " AND ".join(f"asked.{key} = found.{key}" for key in numbered)
    present = " AND ".join(f"{_scanned(c)} = wanted.k{n}" for n, c in enumerate(lookup.keys))
    database.register("asked", asked)
    # With the columns of today, of a snapshot from before one was added, too.
    columns = lookup.table.schema().select(*scanned.selected_fields)
    readers = [
        batches(scanned.filter(rows).update(snapshot_id=snapshot), schema=columns)
        for snapshot, rows in parts
    ]
    every = chain.from_iterable(readers)
    database.register("scanned", pa.RecordBatchReader.from_batches(readers[0].schema, every))
    try:
        found = database.sql(f"""
            WITH wanted AS (SELECT DISTINCT {", ".join(numbered)} FROM asked),
            read AS (
              SELECT {keys}, {event} AS event, {written} AS written, {read}
              FROM scanned SEMI JOIN wanted ON {present}
            ),
            counted AS (SELECT *, {since} AS since FROM read),
            known AS (SELECT * FROM counted {newest}),
            found AS (
              SELECT * FROM known QUALIFY row_number() OVER (
                {by_key}, since ORDER BY {_newest(["event", "written", *values])}
              ) = 1
            )
            SELECT {", ".join(f"CASE WHEN {ttl} THEN found.{v} END AS {v}" for v in values)}
            FROM asked ASOF LEFT JOIN found ON {matched} AND asked.at >= found.since
            ORDER BY asked.row
        """).to_arrow_table()
    finally:
        database.unregister("asked")
        database.unregister("scanned")
    return found.rename_columns(list(lookup.features))


@contextmanager
def spilling_database(memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that reads no file, loads no extension, and spills to a folder."""
    with tempfile.TemporaryDirectory(prefix="headwater-join-") as folder:
        options: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "temp_directory": folder,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        with duckdb.connect(":memory:", config=options) as database:
            yield database


def _instants(entities: pa.Table, at: str) -> pa.ChunkedArray:
    """The column `at` in microseconds UTC; a timestamp without zone is UTC."""
    if at not in entities.column_names:
        raise JoinError(
            f"entity rows: no column {at!r}. Choices: {', '.join(entities.column_names)}."
        )
    column = entities.column(at)
    if not pa.types.is_timestamp(column.type):
        raise JoinError(f"entity rows: {at} is {column.type}, expected a timestamp")
    return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(_INSTANT)


def _range(instants: pa.ChunkedArray, ttl: timedelta | None) -> tuple[int | None, int]:
    """The event times that can be found, in microseconds since 1970; none for no entity rows."""
    bounds = pc.min_max(instants.cast(pa.int64())).as_py()
    if bounds["max"] is None:
        return 1, 0
    if ttl is None:
        return None, bounds["max"]
    return max(bounds["min"] - _span(ttl), _microseconds(datetime.min)), bounds["max"]


def _feature(column: str, timestamp: bool, name: str | None = None) -> str:
    value = f"epoch_ms({_scanned(column)})" if timestamp else _scanned(column)
    return f"{value} AS {quoted(name or column)}"


def _scanned(column: str) -> str:
    """A column of the table, which may have a name that we give to another one."""
    return f"scanned.{quoted(column)}"


def _newest(columns: Sequence[str]) -> str:
    return ", ".join(f"{quoted(column)} DESC NULLS LAST" for column in columns)


def _list(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def quoted(name: str) -> str:
    """A name of a column as DuckDB reads it."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _span(length: timedelta) -> int:
    return length // timedelta(microseconds=1)


def _microseconds(instant: datetime) -> int:
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def _at_least(column: str, microseconds: int) -> BooleanExpression:
    return where(GreaterThanOrEqual, column, _text(microseconds))


def _at_most(column: str, microseconds: int) -> BooleanExpression:
    return where(LessThanOrEqual, column, _text(microseconds))


def _text(microseconds: int) -> str:
    """An instant as PyIceberg's filters read it."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()
