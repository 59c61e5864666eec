"""Whether a job may go on from a savepoint: only where the tables are as the savepoint left them.

Going on from an older one would read the log again from there and write, under a new job's name,
rows that are in Iceberg already; nothing in Flink or Iceberg notices. Going on from a newer one, of
before its tables were rolled back, would leave out what is between; and what the savepoint itself
was to commit is gone once it has been. A savepoint knows its checkpoint's number, and each commit
in Iceberg the job and the checkpoint it is of.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from iceberg.catalog import NAMESPACE
from iceberg.lineage import CHECKPOINT, JOB, committed, is_whole, of_branch, taken_out
from schemas import HeadwaterError

_NONE: Mapping[str, str] = MappingProxyType({})

_MAGIC = 0x4960672D
_HEADER = struct.Struct(">iiq")
_SAVEPOINT = re.compile(r"savepoint-([0-9a-f]{6})-[0-9a-f]+$")
_RETAINED = re.compile(r"([0-9a-f]{32})/chk-\d+$")


class OldSavepoint(HeadwaterError):
    """To go on from there would write rows to Iceberg again; the text says how to go on."""


class RolledBack(HeadwaterError):
    """To go on from there would leave out what was rolled back; the text says how to go on."""


class NoSavepoint(HeadwaterError):
    """There is no savepoint at that path, or none that can be told apart."""


@dataclass(frozen=True)
class Savepoint:
    """A savepoint, or a checkpoint that was kept."""

    path: str
    job: str
    """The id of the job it is of, or its beginning."""

    number: int
    """Of the checkpoint that it is, counted by its job."""

    made: float
    """Seconds since 1970 UTC."""

    @classmethod
    def read(cls, path: str, properties: Mapping[str, str] = _NONE) -> Savepoint:
        """The one at `path`, a file's or an object's that a catalog's properties open.

        NoSavepoint if it is none.
        """
        from pyiceberg.io.pyarrow import PyArrowFileIO  # it takes a while to import

        path = path.rstrip("/")
        files = PyArrowFileIO(dict(properties))
        try:
            scheme, netloc, metadata = files.parse_location(f"{path}/_metadata", files.properties)
            system = files.fs_by_scheme(scheme, netloc)
            with system.open_input_file(metadata) as file:
                magic, _, number = _HEADER.unpack(file.read(_HEADER.size))
            made = system.get_file_info(metadata).mtime_ns / 1e9
        except (OSError, ValueError, struct.error) as error:
            raise NoSavepoint(f"{path}: no savepoint ({error})") from error
        if magic != _MAGIC:
            raise NoSavepoint(f"{path}: _metadata is not of a savepoint")
        found = _SAVEPOINT.search(path) or _RETAINED.search(path)
        if found is None:
            raise NoSavepoint(
                f"{path}: neither savepoint-JOB-ID nor JOB/chk-N, so that its job is unknown"
            )
        return cls(path, found[1], int(number), made)

    def of_job(self, snapshot: Snapshot) -> bool:
        """Whether its job has committed a snapshot."""
        return (committed(snapshot, JOB) or "").startswith(self.job)

    def counts_on(self, snapshot: Snapshot) -> bool:
        """Whether a job that goes on from there takes it that a job's commit is in the table."""
        if self.of_job(snapshot):
            return int(committed(snapshot, CHECKPOINT) or -1) <= self.number
        return snapshot.timestamp_ms / 1000 <= self.made

    def left(self, table: Table) -> Snapshot | None:
        """The snapshot of a table's main branch where it left that; None if there is none left.

        What others than jobs committed since the next commit of a job is after it as well.
        """
        found, way = None, list(of_branch(table))
        for snapshot in way:
            if committed(snapshot, JOB) is None:
                found = found or snapshot
            elif self.counts_on(snapshot):
                return found or snapshot
            else:
                found = None
        return found if is_whole(way) else None


def checkpoint_time(path: str) -> float | None:
    """When a job made a checkpoint, seconds since 1970 UTC; None for what is no checkpoint.

    Such as a savepoint, which a job is stopped with: it ends when it has committed that.
    NoSavepoint if it is not there.
    """
    return Savepoint.read(path).made if _RETAINED.search(path.rstrip("/")) else None


def check_savepoint(
    catalog: Catalog,
    names: Iterable[str],
    path: str,
    branch: str = "main",
    is_last: bool = False,
) -> None:
    """Raise if that branch of any of those tables is not as the savepoint at `path` left it.

    OldSavepoint if it has rows from after it: a commit of its job from a later checkpoint, or one
    of a later job. Those of its own job may have expired: another job's counts if it is younger
    than the savepoint. A table without any such commit is no reason to refuse: it has nothing to
    lose. Of the job's last submission, `is_last`, none is later, whatever a clock that was set back
    says of what was committed before it. RolledBack if rows of before it have been taken out since,
    as far as that has not expired.
    """
    savepoint = Savepoint.read(path)
    for name in names:
        try:
            table = catalog.load_table(name)
        except NoSuchTableError:
            continue
        newest: Snapshot | None = None
        for snapshot in of_branch(table, branch):
            if (by := committed(snapshot, JOB)) is None:
                continue
            newest = newest or snapshot
            if not savepoint.of_job(snapshot):
                continue
            if by != committed(newest, JOB):
                raise _old(savepoint, name, "a later job")
            if not savepoint.counts_on(snapshot):
                raise _old(savepoint, name, f"checkpoint {committed(snapshot, CHECKPOINT)}")
            break
        else:
            if not is_last and newest is not None and not savepoint.counts_on(newest):
                raise _old(savepoint, name, "a later job")
        if branch == "main":
            check_not_behind(table, name, savepoint)


def _old(savepoint: Savepoint, name: str, rows_of: str) -> OldSavepoint:
    back = (
        "; to go back to it for good, have `headwater snapshots rollback --savepoint"
        f" {savepoint.path}` take those rows out first"
    )
    return OldSavepoint(
        f"{savepoint.path} is checkpoint {savepoint.number}, and {name} has rows of {rows_of}: to"
        " go on from it would write them twice. Submit without it: the job goes on from where it"
        " was last; or, should that be gone, with --anew, which keeps both and lets the newer ones"
        " count. To correct values use `headwater replay`"
        f"{back if name.startswith(f'{NAMESPACE}.') else ''}."
    )


def check_not_behind(table: Table, name: str, savepoint: Savepoint) -> None:
    """Raise RolledBack if a commit that the savepoint counts on was taken out after it was made."""
    for when, out in taken_out(table):
        if when / 1000 <= savepoint.made:
            continue
        if any(committed(one, JOB) is not None and savepoint.counts_on(one) for one in out):
            raise RolledBack(
                f"{name} was rolled back after {savepoint.path} was made, by rows that a job"
                " does not write again which goes on from it. Name one that was made before"
                f" those by --from; or `headwater snapshots set {name.split('.')[-1]}"
                f" {out[0].snapshot_id}` takes that roll-back back; or submit with --anew,"
                " which reads the whole log again and lets the newer of two rows count"
            )


def check_anew(catalog: Catalog, names: Iterable[str]) -> None:
    """Raise OldSavepoint if a job has written to any of those tables: it cannot begin anew."""
    for name in names:
        try:
            table = catalog.load_table(name)
        except NoSuchTableError:
            continue
        for snapshot in of_branch(table):
            if committed(snapshot, JOB) is not None:
                raise OldSavepoint(
                    f"{name} has rows, and where its job was is not known any more: to begin anew"
                    " would write them twice. Name a savepoint by --from; or submit with --anew,"
                    " which keeps both and lets the newer ones count"
                )
