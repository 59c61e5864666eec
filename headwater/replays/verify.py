"""Compares what a replay wrote with what live wrote: every row, every feature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

from pyiceberg.catalog import Catalog
from pyiceberg.table import DataScan, FileScanTask, Table

from headwater.replays.journal import Replay
from headwater.replays.reports import ViewReport
from iceberg.bounds import bounds
from iceberg.catalog import NAMESPACE
from iceberg.filters import between, instant
from iceberg.reading import batches
from schemas import EVENT_TIME, FeatureView, HeadwaterError

if TYPE_CHECKING:
    from headwater.replays.compare import Rows

_AT_ONCE = 250_000
"""Rows of both sides that are compared at once, or as many as files share a time."""

_EVER = (-62_135_596_800_000_000, 253_402_300_799_999_999)
"""Microseconds since 1970 UTC: the time of a file that does not tell its own."""

Told = Callable[[int, int], None]
"""Takes how many rows of files are compared, and how many there are."""


class NothingToVerify(HeadwaterError):
    """The replay has written nothing that could be compared."""


def verify(
    catalog: Catalog, view: FeatureView, replay: Replay, told: Told = lambda _, __: None
) -> ViewReport:
    """Compare a view's rows in the replay's span; NothingToVerify if the replay has none.

    Values are compared exactly, floats too: the same job over the same events must give the same
    bits. Of several rows of one key and event time, the one available last counts, and of those
    the larger values, as for who reads the table. What live wrote is, while the replay is in its
    place, what the table held before.

    Of a replay that follows, what both sides have committed by now is compared: rows up to the
    event time of the newest of the side that is behind. A job lets its rows out, and commits them,
    in the order of event time.

    A span may hold more rows than fit the memory: those of files that share a time are compared
    together, and of others no more than a few hundred thousand.
    """
    from headwater.replays.compare import compare_parts  # it takes DuckDB with it

    table = catalog.load_table(f"{NAMESPACE}.{view.name}")
    ref = table.refs().get(replay.branch)
    if ref is None:
        raise NothingToVerify(f"{view.name}: replay {replay.id} has written nothing")
    kept = table.refs().get(replay.kept)
    within = replay.within(view.name)
    sides = [
        table.scan(row_filter=within, snapshot_id=snapshot)
        for snapshot in (None if kept is None else kept.snapshot_id, ref.snapshot_id)
    ]
    files = [list(_files(table, scan, side)) for side, scan in enumerate(sides)]
    until = ""
    if replay.end_of(view.name) is None and all(files):
        newest = min(max(file.last for file in its) for its in files) // 1000
        until = instant(newest)
        sides = [between(scan, None, newest + 1) for scan in sides]
        files = [list(_files(table, scan, side)) for side, scan in enumerate(sides)]
    parts = _parts(chain(*files))
    total = sum(part.rows for part in parts)

    def read() -> Iterator[tuple[Rows, Rows]]:
        done = 0
        for part in parts:
            told(done, total)
            # With the columns of today, of a snapshot from before one was added, too.
            live, replayed = (
                batches(scan, tasks, table.schema())
                for scan, tasks in zip(sides, part.tasks, strict=True)
            )
            yield live, replayed
            done += part.rows
        told(total, total)

    return replace(compare_parts(view, read(), _span(replay, view, parts)), until=until)


def _span(replay: Replay, view: FeatureView, parts: Sequence[_Part]) -> tuple[float, float] | None:
    """Seconds since 1970 UTC, between which the rows of a replay lie; None if nothing tells."""
    if not parts:
        return None
    first, last = parts[0].first, parts[-1].last
    end = replay.end_of(view.name)
    if end is not None:
        last = min(last, end * 1000)
    if first == _EVER[0] or last == _EVER[1]:
        return None
    return max(first, replay.start * 1000) / 1e6, last / 1e6


@dataclass
class _Part:
    """Files of both sides, none of which shares a time with another part's."""

    first: int
    last: int
    """Microseconds since 1970 UTC."""

    rows: int = 0
    tasks: tuple[list[FileScanTask], list[FileScanTask]] = field(default_factory=lambda: ([], []))

    def take(self, other: _Part) -> None:
        """Make another part's files this one's."""
        self.last = max(self.last, other.last)
        self.rows += other.rows
        for mine, its in zip(self.tasks, other.tasks, strict=True):
            mine += its


def _files(table: Table, scan: DataScan, side: int) -> Iterator[_Part]:
    """A part for each file."""
    for task in scan.plan_files():
        try:
            first, last = bounds(table.schema(), task.file, EVENT_TIME)
        except ValueError:
            first, last = _EVER
        part = _Part(first, last, task.file.record_count)
        part.tasks[side].append(task)
        yield part


def _parts(files: Iterable[_Part]) -> list[_Part]:
    """Parts of as many rows as are compared at once, in order of event time."""
    apart: list[_Part] = []
    for file in sorted(files, key=lambda file: file.first):
        if apart and file.first <= apart[-1].last:
            apart[-1].take(file)
        else:
            apart.append(file)
    found: list[_Part] = []
    for part in apart:
        if found and found[-1].rows + part.rows <= _AT_ONCE:
            found[-1].take(part)
        else:
            found.append(part)
    return found
