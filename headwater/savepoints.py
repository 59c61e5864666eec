"""Whether a job may go on from a savepoint: not from one older than what it has committed.

Going on from an older one would read the log again from there and write, under a new job's name,
rows that are in Iceberg already; nothing in Flink or Iceberg notices. A savepoint knows its
checkpoint's number, and each commit in Iceberg the job and the checkpoint it is of.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlparse

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table.snapshots import Snapshot

from iceberg.lineage import CHECKPOINT, JOB, committed, of_branch
from schemas import HeadwaterError

_MAGIC = 0x4960672D
_HEADER = struct.Struct(">iiq")
_SAVEPOINT = re.compile(r"savepoint-([0-9a-f]{6})-[0-9a-f]+$")
_RETAINED = re.compile(r"([0-9a-f]{32})/chk-\d+$")


class OldSavepoint(HeadwaterError):
    """To go on from there would write rows to Iceberg again; the text says how to go on."""


class NoSavepoint(HeadwaterError):
    """There is no savepoint at that path, or none that can be told apart."""


def checkpoint_number(path: str) -> int:
    """The number of the checkpoint that a savepoint is; NoSavepoint if it is none."""
    metadata = _metadata(path)
    try:
        with metadata.open("rb") as file:
            magic, _, number = _HEADER.unpack(file.read(_HEADER.size))
    except (OSError, struct.error) as error:
        raise NoSavepoint(f"{path}: no savepoint ({error})") from error
    if magic != _MAGIC:
        raise NoSavepoint(f"{path}: {metadata.name} is not of a savepoint")
    return int(number)


def checkpoint_time(path: str) -> float | None:
    """When a job made a checkpoint, seconds since 1970 UTC; None for what is no checkpoint.

    Such as a savepoint, which a job is stopped with: it ends when it has committed that.
    """
    if not _RETAINED.search(path.rstrip("/")):
        return None
    try:
        return _metadata(path).stat().st_mtime
    except OSError as error:
        raise NoSavepoint(f"{path}: no savepoint ({error})") from error


def check_savepoint(
    catalog: Catalog, names: Iterable[str], path: str, branch: str = "main"
) -> None:
    """Raise OldSavepoint if that branch of any of those tables has rows from after the savepoint.

    That is a commit of its job from a later checkpoint, or one of a later job. Those of its own job
    may have expired: another job's counts if it is younger than the savepoint. A table without any
    such commit is no reason to refuse: it has nothing to lose.
    """
    number, job = checkpoint_number(path), _job(path)
    made = _metadata(path).stat().st_mtime
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
            if not by.startswith(job):
                continue
            last = int(committed(snapshot, CHECKPOINT) or -1)
            if by != committed(newest, JOB):
                raise _old(path, number, name, "a later job")
            if last > number:
                raise _old(path, number, name, f"checkpoint {last}")
            break
        else:
            if newest is not None and newest.timestamp_ms / 1000 > made:
                raise _old(path, number, name, "a later job")


def _old(path: str, number: int, name: str, rows_of: str) -> OldSavepoint:
    return OldSavepoint(
        f"{path} is checkpoint {number}, and {name} has rows of {rows_of}: to go on from it would"
        " write them twice. Submit without it: the job goes on from where it was last. To correct"
        " values use `headwater replay`."
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


def _metadata(path: str) -> Path:
    return Path(urlparse(path).path) / "_metadata"


def _job(path: str) -> str:
    """The id of the job a savepoint is of, or its beginning."""
    found = _SAVEPOINT.search(path.rstrip("/")) or _RETAINED.search(path.rstrip("/"))
    if found is None:
        raise NoSavepoint(
            f"{path}: neither savepoint-JOB-ID nor JOB/chk-N, so that its job is unknown"
        )
    return found[1]
