"""Compares rows of a view, every row and every feature, part by part."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]

from headwater.replays.reports import Difference, FeatureReport, Slice, ViewReport
from iceberg.offline import quoted, spilling_database
from iceberg.tables import AVAILABLE_AT
from schemas import EVENT_TIME, Column, FeatureView, Type

Rows: TypeAlias = pa.Table | pa.RecordBatchReader

_LARGEST = 5
_SLICES = 48
_SHORTEST = 60
"""Seconds; no slice of the timeline is shorter."""

_MEMORY = "1GB"
"""What a part needs beyond it lies on the disk."""


def compare(view: FeatureView, live: Rows, replayed: Rows) -> ViewReport:
    """Compare two sets of rows of a view, which fit the memory."""
    return compare_parts(view, [(live, replayed)])


def compare_parts(
    view: FeatureView,
    parts: Iterable[tuple[Rows, Rows]],
    span: tuple[float, float] | None = None,
) -> ViewReport:
    """Compare rows of live and of a replay, part by part.

    The rows of a key at an event time must all be in one part; parts come in order of event time.
    `span` are the first and the last event time of all, in seconds since 1970 UTC, for the
    timeline; those of the first part's rows where it is not given.
    """
    with spilling_database(_MEMORY) as db:
        db.execute("SET TimeZone = 'UTC'")
        comparison = _Comparison(db, view, span)
        for live, replayed in parts:
            comparison.add(live, replayed)
        return comparison.report()


@dataclass
class _Feature:
    """How one feature compares so far."""

    changed: int = 0
    sizes: Counter[int] = field(default_factory=Counter)
    largest: list[tuple[Any, Difference]] = field(default_factory=list)
    """Each with its size, None where that says nothing."""


class _Comparison:
    """Rows of two sides as tables of DuckDB, and what came of those before."""

    def __init__(
        self, db: duckdb.DuckDBPyConnection, view: FeatureView, span: tuple[float, float] | None
    ) -> None:
        self._db = db
        self._view = view
        self._width = None if span is None else _width(*span)
        self._keys = [*view.keys, EVENT_TIME]
        self._features = {column.name: _Feature() for column in view.schema}
        names = map(quoted, self._features)
        self._each_differs = [f"l.{name} IS DISTINCT FROM r.{name}" for name in names]
        self._some_differs = f"({' OR '.join(self._each_differs)})"
        self._slices: dict[int, list[int]] = {}
        """Rows that are equal, changed, missing and extra, by number of the slice."""

    def add(self, live: Rows, replayed: Rows) -> None:
        """Count a part."""
        for name, rows in (("live", live), ("replayed", replayed)):
            self._take(name, rows)
        if self._count():
            self._detail()

    def _take(self, name: str, given: Rows) -> None:
        """Make a table of rows, of several of one key and event time the one that counts."""
        db, keys = self._db, ", ".join(map(quoted, self._keys))
        db.register("given", given)
        db.execute(f"CREATE OR REPLACE TABLE {name} AS FROM given")
        db.unregister("given")
        db.execute(
            f"CREATE OR REPLACE TABLE twice AS SELECT {keys} FROM {name}"
            f" GROUP BY {keys} HAVING count(*) > 1"
        )
        if db.execute("SELECT count(*) FROM twice").fetchall() == [(0,)]:
            return
        newest = (AVAILABLE_AT, *(column.name for column in self._view.schema))
        order = ", ".join(f"{quoted(column)} DESC NULLS LAST" for column in newest)
        # All of them in an order would take a hundred times as long as those few.
        db.execute(
            f"CREATE OR REPLACE TABLE {name} AS"
            f" FROM {name} ANTI JOIN twice USING ({keys})"
            f" UNION ALL FROM {name} SEMI JOIN twice USING ({keys})"
            f" QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"
        )

    def _count(self) -> bool:
        """Count the rows and features of the part; whether some feature differs."""
        time = f"epoch(coalesce(l.{quoted(EVENT_TIME)}, r.{quoted(EVENT_TIME)}))"
        if self._width is None:
            query = f"SELECT min({time}), max({time}) FROM {self._joined('FULL')}"
            ((first, last),) = self._db.execute(query).fetchall()
            if first is None:
                return False
            self._width = _width(first, last)
        both = f"l.{quoted(EVENT_TIME)} IS NOT NULL AND r.{quoted(EVENT_TIME)} IS NOT NULL"
        found = self._db.execute(
            f"SELECT floor({time} / {self._width})::BIGINT, count(*) FILTER ({both}),"
            f" count(*) FILTER ({both} AND {self._some_differs}),"
            f" count(*) FILTER (r.{quoted(EVENT_TIME)} IS NULL),"
            f" count(*) FILTER (l.{quoted(EVENT_TIME)} IS NULL),"
            f" {', '.join(f'count(*) FILTER ({both} AND {one})' for one in self._each_differs)}"
            f" FROM {self._joined('FULL')} GROUP BY 1"
        ).fetchall()
        for slice_, there, changed, missing, extra, *changes in found:
            counts = self._slices.setdefault(slice_, [0, 0, 0, 0])
            for place, more in enumerate((there - changed, changed, missing, extra)):
                counts[place] += more
            for feature, more in zip(self._features.values(), changes, strict=True):
                feature.changed += more
        return any(row[2] for row in found)

    def _detail(self) -> None:
        """What of the part differs, and by how much."""
        names = list(self._features)
        values = ", ".join(
            f"l.{quoted(name)} AS _l{i}, r.{quoted(name)} AS _r{i}" for i, name in enumerate(names)
        )
        keys = ", ".join(f"l.{quoted(name)}" for name in self._keys)
        self._db.execute(
            f"CREATE OR REPLACE TABLE differing AS"
            f" SELECT {keys}, {values} FROM {self._joined('INNER')} WHERE {self._some_differs}"
        )
        for i, column in enumerate(self._view.schema):
            self._detail_of(column, i)

    def _detail_of(self, column: Column, i: int) -> None:
        # No declared name begins as these do.
        feature, live, replayed = self._features[column.name], f"_l{i}", f"_r{i}"
        size = _size(column.type, live, replayed)
        keys = ", ".join(map(quoted, self._view.keys))
        told = (f"{v}::VARCHAR" if column.type is Type.TIMESTAMP else v for v in (live, replayed))
        rows = self._db.execute(
            f"SELECT {size}, {quoted(EVENT_TIME)}::VARCHAR, {', '.join(told)}, {keys}"
            f" FROM differing WHERE {live} IS DISTINCT FROM {replayed}"
            f" ORDER BY 1 DESC NULLS FIRST, {quoted(EVENT_TIME)} LIMIT {_LARGEST}"
        ).fetchall()
        for found, *values, key in ((*row[:4], row[4:]) for row in rows):
            named = dict(zip(self._view.keys, key, strict=True))
            feature.largest.append((found, Difference(named, *values)))
        feature.largest = sorted(feature.largest, key=lambda one: _order(one[0]))[:_LARGEST]
        if column.type.is_numeric:
            sizes = self._db.execute(
                f"SELECT floor(log10({size}))::INTEGER, count(*) FROM differing"
                f" WHERE {size} > 0 AND isfinite({size}::DOUBLE) GROUP BY 1"
            ).fetchall()
            feature.sizes.update({int(power): int(count) for power, count in sizes})

    def _joined(self, how: str) -> str:
        on = " AND ".join(f"l.{quoted(name)} = r.{quoted(name)}" for name in self._keys)
        return f"live l {how} JOIN replayed r ON {on}"

    def report(self) -> ViewReport:
        """What came of all parts."""
        equal, changed, missing, extra = (
            sum(counts[place] for counts in self._slices.values()) for place in range(4)
        )
        both = equal + changed
        width = self._width or 0
        return ViewReport(
            both + missing,
            both + extra,
            missing,
            extra,
            {
                name: FeatureReport(
                    both - found.changed,
                    found.changed,
                    [difference for _, difference in found.largest],
                    dict(sorted(found.sizes.items())),
                )
                for name, found in self._features.items()
            },
            [
                Slice(datetime.fromtimestamp(number * width, UTC).isoformat(), *counts)
                for number, counts in sorted(self._slices.items())
            ],
        )


def _width(first: float, last: float) -> int:
    """Seconds of a slice, of which up to 48 cover a span."""
    return max(_SHORTEST, int((last - first) // _SLICES) + 1)


def _size(type_: Type, live: str, replayed: str) -> str:
    """Of a difference; of two integers it may be larger than they are."""
    if not type_.is_numeric:
        return "NULL"
    wide = "HUGEINT" if type_ is Type.INT64 else "DOUBLE"
    return f"abs({live}::{wide} - {replayed}::{wide})"


def _order(size: float | None) -> tuple[int, float]:
    """As DuckDB has them: none, then what is no number, then the larger ones."""
    if size is None:
        return 0, 0
    return (1, 0) if math.isnan(size) else (2, -size)
