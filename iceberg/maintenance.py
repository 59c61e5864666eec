"""Care for the tables: fewer and larger files, old snapshots and orphans gone.

All of it is safe beside running jobs. Files are put together once; the commit that puts them in
the place of others fails if anyone else committed, and is tried again. A job that comes back looks
for its last commit among the snapshots, and would write again what it does not find: expiry keeps
that commit of every job that may still come back, and all that came after it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlparse

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import fs
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, PyArrowFileIO, _dataframe_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import IdentityTransform

from iceberg.catalog import QUALITY
from iceberg.commits import commit_beside_others, expire_snapshots
from iceberg.lineage import JOB, OPERATOR, committed, lineage, of_branch, taken_out
from iceberg.promotions import come_to_an_end
from iceberg.writing import gathered
from schemas import EVENT_TIME, HeadwaterError

_COMMITS = 20
_BETWEEN_COMMITS = 15
"""Seconds to wait for a job's next commit, at most."""

_BYTES_A_COMMIT = 1 << 30
_EXPIRED_AT_ONCE = 2000

_MARK = {"headwater.maintenance": "compacted"}


class MaintenanceError(HeadwaterError):
    """A table could not be taken care of; the text names it and says why."""

    exit_code = 1


@dataclass(frozen=True)
class Care:
    """What is asked for."""

    target_bytes: int = 32 << 20
    """Files below three quarters of it are small; they are put together up to it."""

    min_files: int = 5
    """A partition with fewer small files is left as it is."""

    keep_snapshots: timedelta = timedelta(hours=6)
    """Every commit writes all of them anew, and jobs commit every few seconds."""

    keep_orphans: timedelta = timedelta(days=3)
    """A file nobody knows may be one that a job is about to commit."""

    keep_jobs: timedelta = timedelta(days=7)
    """Where several jobs write a table, one that committed in this time may still come back."""


@dataclass(frozen=True)
class TableState:
    """A table in numbers."""

    name: str
    rows: int
    files: int
    small_files: int
    bytes: int
    snapshots: int
    seconds_since_commit: float | None
    """None: it was never written to."""


@dataclass(frozen=True)
class Done:
    """What was done to a table."""

    name: str
    files_before: int
    files_after: int
    """Of those that were put together."""

    snapshots: int
    """Expired."""

    orphans: int
    """Files removed that no snapshot knows."""


def states(catalog: Catalog, names: Iterable[str], care: Care, now: datetime) -> list[TableState]:
    """What each table looks like."""
    found = []
    for name in names:
        table = catalog.load_table(name)
        files = [task.file for task in table.scan().plan_files()]
        snapshots = table.snapshots()
        newest = _last_commit(table)
        found.append(
            TableState(
                name,
                sum(file.record_count for file in files),
                len(files),
                sum(_is_small(file, care) for file in files),
                sum(file.file_size_in_bytes for file in files),
                len(snapshots),
                None if newest is None else now.timestamp() - newest / 1000,
            )
        )
    return found


def maintain(catalog: Catalog, name: str, care: Care, now: datetime) -> Done:
    """Everything, on one table."""
    before, after = compact(catalog, name, care)
    expired = expire(catalog, name, care, now)
    return Done(name, before, after, expired, remove_orphans(catalog, name, care, now))


def compact(catalog: Catalog, name: str, care: Care) -> tuple[int, int]:
    """Put the small files of each partition together; how many they were, and have become."""
    before = after = 0
    # What is lost with this process is no more than one commit's.
    groups = _small_groups(catalog.load_table(name), care)
    for at_once in gathered(groups, _bytes, _BYTES_A_COMMIT):
        after += _rewrite(catalog, name, at_once)
        before += sum(map(len, at_once))
    return before, after


def expire(catalog: Catalog, name: str, care: Care, now: datetime) -> int:
    """Forget old snapshots that nobody needs; how many."""

    def change() -> int:
        table = catalog.load_table(name)
        needed = needed_snapshots(table, care, now)
        until = (now - care.keep_snapshots).timestamp() * 1000
        going = [
            snapshot.snapshot_id
            for snapshot in table.snapshots()
            if snapshot.snapshot_id not in needed and snapshot.timestamp_ms < until
        ]
        # The oldest are found at once, the newest at the end of all that are there.
        return expire_snapshots(table, going[:_EXPIRED_AT_ONCE])

    expired = 0
    while gone := commit_beside_others(name, change):
        expired += gone
    return expired


def needed_snapshots(table: Table, care: Care, now: datetime) -> set[int]:
    """The heads of all branches and tags, what a job that comes back must find, and a way back.

    Flink walks from the head of a branch to the last commit of the job it restores: no snapshot
    on that way may be missing. The table itself can go back to how it was `keep_snapshots` ago,
    however long before that it was committed; and where it has gone back and no job has gone on
    since, forth again.
    """
    needed = set[int]()
    for name, ref in table.refs().items():
        way = list(lineage(table, ref.snapshot_id))
        places = set(_come_back_to(table, way, care, now))
        if name == MAIN_BRANCH:
            places.add(_then(way, (now - care.keep_snapshots).timestamp() * 1000))
        needed.update(snapshot.snapshot_id for snapshot in way[: max(places, default=0) + 1])
    last = _last_commit(table) or 0
    for when, out in taken_out(table):
        if when >= last:
            needed.update(snapshot.snapshot_id for snapshot in out)
    return needed


def _then(way: Sequence[Snapshot], when: float) -> int:
    """The place of what a table was then, and of the job's commit that was the last before that."""
    then = [place for place, one in enumerate(way) if one.timestamp_ms <= when]
    by_job = (place for place in then if committed(way[place], JOB))
    return next(by_job, then[0] if then else len(way) - 1)


def _come_back_to(
    table: Table, way: Iterable[Snapshot], care: Care, now: datetime
) -> Iterator[int]:
    """The places, on the way from a head, of the last commits of jobs that may come back.

    One before the last that wrote comes back only where jobs share a table: that of expectations.
    Elsewhere the last one went on from its state.
    """
    shared = table.name()[-2] == QUALITY
    since = (now - care.keep_jobs).timestamp() * 1000
    sinks: set[tuple[str, str]] = set()
    last: str | None = None
    for place, snapshot in enumerate(way):
        sink = _committed_by(snapshot)
        if sink is None or sink in sinks:
            continue
        sinks.add(sink)
        last = last or sink[0]
        # The last job that wrote counts whatever its age: it may be one that rests.
        if sink[0] == last or (shared and snapshot.timestamp_ms >= since):
            yield place


def remove_orphans(catalog: Catalog, name: str, care: Care, now: datetime) -> int:
    """Remove old files below the table's location that no snapshot knows; how many.

    Old is what was written long before a job last committed to each branch. What came after may be
    all that a job had to commit when it was lost: its checkpoint names it, and it comes back.
    """
    table = catalog.load_table(name)
    # Listed before the references are read: a file of a newer commit is not in the list.
    until = min(now, _all_committed(table, care, now) or now) - care.keep_orphans
    scheme, netloc, location = _split(table.location())
    assert isinstance(table.io, PyArrowFileIO)
    files = table.io.fs_by_scheme(scheme, netloc)
    listed = [
        info.path
        for info in files.get_file_info(fs.FileSelector(location, recursive=True))
        if info.type == fs.FileType.File and info.mtime < until
    ]
    known = {_split(path)[2] for path in _referenced(catalog.load_table(name))}
    orphans = [path for path in listed if path not in known]
    for path in orphans:
        with suppress(FileNotFoundError):  # who drops a replay removes its files as well
            files.delete_file(path)
    return len(orphans)


def _all_committed(table: Table, care: Care, now: datetime) -> datetime | None:
    """When the first of the commits was made, on all branches, that jobs may come back to.

    The job of a replay that was put in place has ended.
    """
    times, ended = [], come_to_an_end(table)
    for name, ref in table.refs().items():
        if ref.snapshot_ref_type == SnapshotRefType.BRANCH and name not in ended:
            way = list(lineage(table, ref.snapshot_id))
            times += [way[place].timestamp_ms for place in _come_back_to(table, way, care, now)]
    return datetime.fromtimestamp(min(times) / 1000, UTC) if times else None


def _last_commit(table: Table) -> int | None:
    """When a job last committed to the table itself, or whoever did where none has; ms UTC."""
    way = list(of_branch(table))
    by_job = (one.timestamp_ms for one in way if committed(one, JOB))
    return next(by_job, way[0].timestamp_ms if way else None)


def _small_groups(table: Table, care: Care) -> list[list[FileScanTask]]:
    """Small files that can become one, by partition."""
    partitions: dict[str, list[FileScanTask]] = defaultdict(list)
    for task in table.scan().plan_files():
        if _is_small(task.file, care) and not task.delete_files:
            partitions[repr(task.file.partition)].append(task)
    groups = []
    for tasks in partitions.values():
        if len(tasks) < care.min_files:
            continue
        group: list[FileScanTask] = []
        size = 0
        for task in tasks:
            if group and size + task.file.file_size_in_bytes > care.target_bytes:
                groups.append(group)
                group, size = [], 0
            group.append(task)
            size += task.file.file_size_in_bytes
        groups.append(group)
    return [group for group in groups if len(group) > 1]


def _bytes(group: list[FileScanTask]) -> int:
    return sum(task.file.file_size_in_bytes for task in group)


def _rewrite(catalog: Catalog, name: str, groups: list[list[FileScanTask]]) -> int:
    table = catalog.load_table(name)
    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    written: list[DataFile] = []
    try:
        for group in groups:
            rows: pa.Table = scan.to_table(group).sort_by(_order(table))
            written += _dataframe_to_data_files(table.metadata, rows, table.io)
        old = [task.file for group in groups for task in group]
        _replace(catalog, table, old, written)
    except MaintenanceError:
        for file in written:
            table.io.delete(file.file_path)
        raise
    return len(written)


def _replace(catalog: Catalog, table: Table, old: list[DataFile], new: list[DataFile]) -> None:
    """Put files in the place of others that hold the same rows.

    Jobs that commit in between add files and touch none of these, so the commit is tried again and
    the files are not written again: that may take longer than it is from one commit to the next.
    """
    name = ".".join(table.name())
    for attempt in range(_COMMITS):
        transaction = table.transaction()
        try:
            with transaction.update_snapshot(snapshot_properties=_MARK).overwrite() as update:
                for file in old:
                    update.delete_data_file(file)
                for file in new:
                    update.append_data_file(file)
        except ValidationException as error:
            raise MaintenanceError(
                f"{name}: somebody else took away files that were being put together ({error});"
                " the table is as they left it; try again"
            ) from error
        try:
            transaction.commit_transaction()
            return
        except (CommitFailedException, ValidationException):  # a job committed in between
            table = catalog.load_table(name) if attempt == 0 else _committed(catalog, name)
    raise MaintenanceError(f"{name}: the table changed {_COMMITS} times; try again")


def _committed(catalog: Catalog, name: str) -> Table:
    """The table right after somebody's commit: then it is the longest until the next.

    Who commits no more at the pace of the last two is not waited for.
    """
    table = catalog.load_table(name)
    last = [snapshot.timestamp_ms / 1000 for snapshot in table.snapshots()[-2:]]
    deadline = time.monotonic() + min(2 * (last[-1] - last[0]), _BETWEEN_COMMITS)
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = catalog.load_table(name)
        if now.metadata_location != table.metadata_location:
            return now
    return table


def _order(table: Table) -> list[tuple[str, str]]:
    """As the table is declared to be sorted, or by event time."""
    fields = [
        table.schema().find_column_name(field.source_id)
        for field in table.sort_order().fields
        if isinstance(field.transform, IdentityTransform)
    ]
    return [(name, "ascending") for name in fields if name] or [(EVENT_TIME, "ascending")]


def _is_small(file: DataFile, care: Care) -> bool:
    return file.file_size_in_bytes < care.target_bytes * 3 // 4


def _committed_by(snapshot: Snapshot) -> tuple[str, str] | None:
    """The job and its sink; None for who is none."""
    job = committed(snapshot, JOB)
    return None if job is None else (job, committed(snapshot, OPERATOR) or "")


def _referenced(table: Table) -> Iterator[str]:
    yield table.metadata_location
    for log in table.metadata.metadata_log:
        yield log.metadata_file
    for statistics in (*table.metadata.statistics, *table.metadata.partition_statistics):
        yield statistics.statistics_path
    seen: set[str] = set()
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path in seen:
                continue
            seen.add(manifest.manifest_path)
            yield manifest.manifest_path
            for entry in manifest.fetch_manifest_entry(table.io):
                yield entry.data_file.file_path


def _split(location: str) -> tuple[str, str, str]:
    """Scheme, host and path, as PyIceberg's files are opened; `file:///a` and `file:/a` alike."""
    parsed = urlparse(location)
    if parsed.scheme in ("", "file"):
        return "file", "", parsed.path
    return parsed.scheme, parsed.netloc, f"{parsed.netloc}{parsed.path}"


def utc_now() -> datetime:
    """The present, for those who care for tables now."""
    return datetime.now(UTC)
