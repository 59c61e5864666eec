"""A table's snapshots, and which job and checkpoint committed them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

JOB = "flink.job-id"
CHECKPOINT = "flink.max-committed-checkpoint-id"
OPERATOR = "flink.operator-id"
"""What Iceberg's Flink sink writes into the summary of a snapshot."""


def lineage(table: Table, snapshot_id: int | None) -> Iterator[Snapshot]:
    """A snapshot and its ancestors, newest first, as far as they are there."""
    there = by_id(table)
    while snapshot_id is not None and snapshot_id in there:
        snapshot = there[snapshot_id]
        yield snapshot
        snapshot_id = snapshot.parent_snapshot_id


def of_branch(table: Table, branch: str = "main") -> Iterator[Snapshot]:
    """The snapshots of a branch, newest first, as far as they are there; none if it is not."""
    head = table.refs().get(branch)
    return lineage(table, head.snapshot_id if head else None)


def taken_out(table: Table) -> Iterator[tuple[int, list[Snapshot]]]:
    """Each time that a table's main branch went back: when, and what went out of it, newest first.

    Milliseconds since 1970 UTC. Not what has come into it again, nor what has expired; none of the
    lists is empty. A snapshot that was made current later than it was committed was gone back to.
    """
    there, kept = by_id(table), {snapshot.snapshot_id for snapshot in of_branch(table)}
    for before, after in pairwise(table.history()):
        now = there.get(after.snapshot_id)
        if now is None or after.timestamp_ms <= now.timestamp_ms:
            continue
        way = lineage(table, before.snapshot_id)
        if out := list(takewhile(lambda snapshot: snapshot.snapshot_id not in kept, way)):
            yield after.timestamp_ms, out


def is_whole(way: Sequence[Snapshot]) -> bool:
    """Whether a line of snapshots, newest first, reaches back to the first of the table.

    One that is forgotten is no parent any more of what came after it.
    """
    return bool(way) and way[-1].sequence_number == 1


def committed(snapshot: Snapshot, what: str) -> str | None:
    """What a job wrote into a snapshot's summary; None if it wrote no such thing, or is none."""
    return snapshot.summary.additional_properties.get(what) if snapshot.summary else None


def by_id(table: Table) -> dict[int, Snapshot]:
    """A table's snapshots; the table itself looks through all of them for each."""
    return {snapshot.snapshot_id: snapshot for snapshot in table.snapshots()}
