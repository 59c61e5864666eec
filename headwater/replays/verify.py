"""Compares what a replay wrote with what live wrote: every row, every feature."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa  # type: ignore[import-untyped]
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from headwater.replays.journal import Replay
from iceberg.catalog import NAMESPACE
from iceberg.tables import AVAILABLE_AT
from schemas import EVENT_TIME, FeatureView, HeadwaterError, Type

if TYPE_CHECKING:
    import duckdb

_LARGEST = 5
_SLICES = 48


class NothingToVerify(HeadwaterError):
    """The replay has written nothing that could be compared."""


@dataclass(frozen=True)
class Difference:
    """One of the largest differences of a feature."""

    keys: dict[str, str | int]
    event_time: str
    live: str | int | float | bool | None
    replayed: str | int | float | bool | None


@dataclass(frozen=True)
class FeatureReport:
    """How one feature compares over the rows that both have."""

    equal: int
    changed: int
    largest: list[Difference] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)
    """Numbers that differ, counted by the power of ten of the difference."""


@dataclass(frozen=True)
class Slice:
    """How the rows of a part of the span compare."""

    start: str
    """ISO 8601, UTC."""

    equal: int
    changed: int
    """Rows of which some feature differs."""

    missing: int
    extra: int


@dataclass(frozen=True)
class Thresholds:
    """The shares of a view's rows that may differ, 0 to 1; none by default."""

    changed: float = 0.0
    missing: float = 0.0
    extra: float = 0.0


@dataclass(frozen=True)
class ViewReport:
    """How one view compares; a row is a value of every feature for a key at an event time."""

    live: int
    replayed: int
    missing: int
    """Rows that live wrote and the replay did not."""

    extra: int
    """Rows that the replay wrote and live did not."""

    features: dict[str, FeatureReport]
    timeline: list[Slice] = field(default_factory=list)

    def within(self, allowed: Thresholds) -> bool:
        """Whether no feature differs, and no rows are missing or extra, in more than that."""
        rows = max(self.live, self.replayed, 1)
        changed = max((f.changed for f in self.features.values()), default=0)
        return (
            changed <= allowed.changed * rows
            and self.missing <= allowed.missing * rows
            and self.extra <= allowed.extra * rows
        )

    @property
    def equal(self) -> bool:
        """Whether the replay gave what live gave, row for row."""
        return not (self.missing or self.extra or any(f.changed for f in self.features.values()))


def verify(catalog: Catalog, view: FeatureView, replay: Replay) -> ViewReport:
    """Compare a view's rows in the replay's span; NothingToVerify if the replay has none.

    Values are compared exactly, floats too: the same job over the same events must give the same
    bits. Of several rows of one key and event time, the one available last counts, and of those
    the larger values, as for who reads the table. What live wrote is, while the replay is in its
    place, what the table held before.
    """
    table = catalog.load_table(f"{NAMESPACE}.{view.name}")
    ref = table.refs().get(replay.branch)
    if ref is None:
        raise NothingToVerify(f"{view.name}: replay {replay.id} has written nothing")
    kept = table.refs().get(replay.kept)
    live = _rows(table, replay.within(view.name), None if kept is None else kept.snapshot_id)
    return compare(view, live, _rows(table, replay.within(view.name), ref.snapshot_id))


def _rows(table: Table, within: str, snapshot: int | None) -> pa.RecordBatchReader:
    """Batch by batch: a span may hold more rows than fit the memory.

    With the columns of today, of a snapshot from before one was added, too.
    """
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow  # it takes pandas with it

    scan = table.scan(row_filter=within, snapshot_id=snapshot)
    schema = schema_to_pyarrow(table.schema())
    read = ArrowScan(table.metadata, table.io, table.schema(), scan.row_filter)
    batches = read.to_record_batches(scan.plan_files())
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in batches))


def compare(
    view: FeatureView,
    live: pa.Table | pa.RecordBatchReader,
    replayed: pa.Table | pa.RecordBatchReader,
) -> ViewReport:
    """Compare two sets of rows of a view."""
    import duckdb  # of all that is done with replays, for this alone

    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.register("live_rows", live)
        db.register("replayed_rows", replayed)
        index = [*view.keys, EVENT_TIME]
        keys = ", ".join(map(_quoted, index))
        newest = (AVAILABLE_AT, *(column.name for column in view.schema))
        order = ", ".join(f"{_quoted(name)} DESC NULLS LAST" for name in newest)
        for name in ("live", "replayed"):
            db.execute(
                f"CREATE TABLE {name} AS SELECT DISTINCT ON ({keys}) * FROM {name}_rows "
                f"ORDER BY {keys}, {order}"
            )
        on = " AND ".join(f"l.{_quoted(c)} = r.{_quoted(c)}" for c in index)
        features = {c.name: _feature(db, view, c.name, c.type, on) for c in view.schema}
        missing, extra = (
            _count(db, f"SELECT count(*) FROM {a} l ANTI JOIN {b} r ON {on}")
            for a, b in (("live", "replayed"), ("replayed", "live"))
        )
        return ViewReport(
            _count(db, "SELECT count(*) FROM live"),
            _count(db, "SELECT count(*) FROM replayed"),
            missing,
            extra,
            features,
            _timeline(db, view, on),
        )


def _timeline(db: duckdb.DuckDBPyConnection, view: FeatureView, on: str) -> list[Slice]:
    """The span in up to 48 slices that are no shorter than a minute."""
    time = _quoted(EVENT_TIME)
    bounds = db.execute(
        f"SELECT epoch(min({time})), epoch(max({time})) FROM"
        f" (SELECT {time} FROM live UNION ALL SELECT {time} FROM replayed)"
    ).fetchone()
    if bounds is None or bounds[0] is None:
        return []
    width = max(60, int((bounds[1] - bounds[0]) // _SLICES) + 1)
    slice_ = f"(epoch(l.{time}) // {width})::BIGINT"
    changed = " OR ".join(
        f"l.{_quoted(c.name)} IS DISTINCT FROM r.{_quoted(c.name)}" for c in view.schema
    )
    rows = db.execute(
        f"""
        WITH counted AS (
          SELECT {slice_} AS s, count(*) FILTER (NOT ({changed})) AS equal,
                 count(*) FILTER ({changed}) AS changed, 0 AS missing, 0 AS extra
          FROM live l JOIN replayed r ON {on} GROUP BY s
          UNION ALL
          SELECT {slice_}, 0, 0, count(*), 0 FROM live l ANTI JOIN replayed r ON {on} GROUP BY 1
          UNION ALL
          SELECT {slice_}, 0, 0, 0, count(*) FROM replayed l ANTI JOIN live r ON {on} GROUP BY 1
        )
        SELECT s, sum(equal), sum(changed), sum(missing), sum(extra)
        FROM counted GROUP BY s ORDER BY s
        """
    ).fetchall()
    return [
        Slice(datetime.fromtimestamp(s * width, UTC).isoformat(), *map(int, counts))
        for s, *counts in rows
    ]


def _difference(column: str, type_: Type) -> str:
    """Of two integers it may be larger than they are."""
    wide = "HUGEINT" if type_ is Type.INT64 else "DOUBLE"
    return f"abs(l.{column}::{wide} - r.{column}::{wide})"


def _sizes(db: duckdb.DuckDBPyConnection, difference: str, both: str) -> dict[int, int]:
    rows = db.execute(
        f"SELECT floor(log10({difference}))::INTEGER AS power, count(*) {both}"
        f" WHERE {difference} > 0 AND isfinite({difference}::DOUBLE) GROUP BY power ORDER BY power"
    ).fetchall()
    return {int(power): int(count) for power, count in rows}


def _feature(
    db: duckdb.DuckDBPyConnection, view: FeatureView, name: str, type_: Type, on: str
) -> FeatureReport:
    column = _quoted(name)
    both = f"FROM live l JOIN replayed r ON {on}"
    changed = f"l.{column} IS DISTINCT FROM r.{column}"
    difference = _difference(column, type_)
    size = f"{difference} DESC NULLS FIRST, " if type_.is_numeric else ""
    keys = ", ".join(f"l.{_quoted(key)}" for key in view.keys)
    rows = db.execute(
        f"SELECT {keys}, l.{_quoted(EVENT_TIME)}::VARCHAR, l.{column}, r.{column} {both} "
        f"WHERE {changed} ORDER BY {size}l.{_quoted(EVENT_TIME)} "
        f"LIMIT {_LARGEST}"
    ).fetchall()
    n = len(view.keys)
    return FeatureReport(
        _count(db, f"SELECT count(*) {both} WHERE NOT ({changed})"),
        _count(db, f"SELECT count(*) {both} WHERE {changed}"),
        [
            Difference(dict(zip(view.keys, row[:n], strict=True)), row[n], row[n + 1], row[n + 2])
            for row in rows
        ],
        _sizes(db, difference, both) if type_.is_numeric else {},
    )


def _count(db: duckdb.DuckDBPyConnection, query: str) -> int:
    row = db.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
