"""What the archive of a stream holds: which offsets, since when they are known, and for whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow.compute as pc  # type: ignore[import-untyped]
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import FileScanTask, Table

from iceberg.bounds import bounds
from iceberg.catalog import ARCHIVE, check_topic
from iceberg.commits import commit_beside_others
from iceberg.filters import instant
from iceberg.tables import ARCHIVED_AT, OFFSET, PARTITION
from schemas import EVENT_TIME, EventStream, HeadwaterError


class SnapshotGone(HeadwaterError):
    """What is to be kept of an archive has expired; the text says of which, and what to do."""

    exit_code = 1


@dataclass(frozen=True)
class Kept:
    """The records of one Kafka partition that the archive holds."""

    first: int
    end: int
    """One more than the last offset."""

    rows: int
    """Fewer than offsets where a record was no event, or Kafka gave an offset to none."""

    bytes: int


@dataclass(frozen=True)
class _File:
    partition: int
    first: int
    last: int
    rows: int
    bytes: int


class StreamArchive:
    """The archive of one stream as of the snapshot that was current when it was opened."""

    def __init__(self, table: Table) -> None:
        self._table = table
        current = table.current_snapshot()
        self.snapshot = None if current is None else current.snapshot_id
        """None: it holds nothing yet."""

    @staticmethod
    def open(catalog: Catalog, stream: EventStream) -> StreamArchive | None:
        """The archive of a stream; None if there is no such table.

        TableMismatch if it is of another topic.
        """
        name = f"{ARCHIVE}.{stream.name}"
        try:
            table = catalog.load_table(name)
        except NoSuchTableError:
            return None
        check_topic(table, stream, name)
        return StreamArchive(table)

    def kept(self, within: dict[int, tuple[int, int]] | None = None) -> dict[int, Kept]:
        """What it holds, by partition; of `within`, offsets by partition, if that is given.

        Read from the files' statistics; a file that lies half within counts as a half.
        """
        found: dict[int, list[_File]] = defaultdict(list)
        for file in self._files(None):
            if within is not None:
                if file.partition not in within:
                    continue
                low, end = within[file.partition]
                first, last = max(low, file.first), min(end - 1, file.last)
                if first > last:
                    continue
                share = (last - first + 1) / (file.last - file.first + 1)
                file = _File(
                    file.partition,
                    first,
                    last,
                    round(file.rows * share),
                    round(file.bytes * share),
                )
            found[file.partition].append(file)
        return {
            partition: Kept(
                min(file.first for file in files),
                max(file.last for file in files) + 1,
                sum(file.rows for file in files),
                sum(file.bytes for file in files),
            )
            for partition, files in sorted(found.items())
        }

    def newest(self) -> dict[int, int]:
        """The newest event time of each partition, milliseconds since 1970 UTC, rounded down."""
        found: dict[int, int] = {}
        for task in self._tasks(None):
            partition, _ = bounds(self._table.schema(), task.file, PARTITION)
            _, last = bounds(self._table.schema(), task.file, EVENT_TIME)
            found[partition] = max(found.get(partition, last // 1000), last // 1000)
        return found

    def first_at(self, milliseconds: int) -> dict[int, int]:
        """The lowest offset of an event with that event time or a later one, by partition."""
        since = f"{EVENT_TIME} >= '{instant(milliseconds)}'"
        files: dict[int, list[_File]] = defaultdict(list)
        for file in self._files(since):
            files[file.partition].append(file)
        found: dict[int, int] = {}
        for partition, of_it in files.items():
            for file in sorted(of_it, key=lambda file: file.first):
                if partition in found and found[partition] <= file.first:
                    break
                lowest = self._lowest(f"{since} and {_range(file)}")
                if lowest is not None:
                    found[partition] = min(found.get(partition, lowest), lowest)
        return found

    def known_at(self, milliseconds: int) -> dict[int, int]:
        """One more than the last offset that had been archived by then, by partition."""
        later = f"{ARCHIVED_AT} >= '{instant(milliseconds)}'"
        ends = {partition: kept.end for partition, kept in self.kept().items()}
        for file in sorted(self._files(later), key=lambda file: file.first):
            if file.first < ends[file.partition]:
                lowest = self._lowest(f"{later} and {_range(file)}")
                if lowest is not None:
                    ends[file.partition] = min(ends[file.partition], lowest)
        return ends

    def _lowest(self, rows: str) -> int | None:
        offsets = self._table.scan(
            row_filter=rows, selected_fields=(OFFSET,), snapshot_id=self.snapshot
        ).to_arrow()[OFFSET]
        return None if len(offsets) == 0 else int(pc.min(offsets).as_py())

    def _tasks(self, rows: str | None) -> Iterable[FileScanTask]:
        if self.snapshot is None:
            return ()
        scan = self._table.scan(snapshot_id=self.snapshot)
        tasks: Iterable[FileScanTask] = (scan if rows is None else scan.filter(rows)).plan_files()
        return tasks

    def _files(self, rows: str | None) -> Iterator[_File]:
        for task in self._tasks(rows):
            file = task.file
            partition, _ = bounds(self._table.schema(), file, PARTITION)
            first, last = bounds(self._table.schema(), file, OFFSET)
            yield _File(partition, first, last, file.record_count, file.file_size_in_bytes)


def keep(catalog: Catalog, stream: str, snapshot: int, name: str) -> None:
    """Keep a snapshot of a stream's archive from expiry until `release` of that name; also again.

    SnapshotGone if it has expired.
    """
    table = catalog.load_table(f"{ARCHIVE}.{stream}")
    tag = f"{name}_{snapshot}"  # two jobs may read the stream as of two snapshots

    def change() -> None:
        if table.refresh().snapshot_by_id(snapshot) is None:
            raise SnapshotGone(
                f"{ARCHIVE}.{stream}: snapshot {snapshot} has expired; drop the replay that was to"
                " read it and run another"
            )
        table.manage_snapshots().create_tag(snapshot, tag).commit()

    commit_beside_others(f"{ARCHIVE}.{stream}", change)


def release(catalog: Catalog, name: str) -> None:
    """Let go of what was kept under that name, of all streams."""
    if not catalog.namespace_exists(ARCHIVE):
        return
    for identifier in catalog.list_tables(ARCHIVE):
        table = catalog.load_table(identifier)

        def change(table: Table = table) -> None:
            changes = table.refresh().manage_snapshots()
            for tag in table.refs():
                if tag.startswith(f"{name}_"):
                    changes = changes.remove_tag(tag)
            changes.commit()

        commit_beside_others(".".join(identifier), change)


def _range(file: _File) -> str:
    place = f"{PARTITION} = {file.partition}"
    return f"{place} and {OFFSET} >= {file.first} and {OFFSET} <= {file.last}"
