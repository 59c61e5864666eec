"""What a job has left of its state: checkpoints by its id, savepoints by the beginning of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path


def newest_left(state: Path, job: str) -> str | None:
    """The newest checkpoint or savepoint that a live job has left; None if it left none.

    Of a job that ended as it was stopped that is its savepoint, whoever was told of it: Flink then
    keeps no checkpoint.
    """
    checkpoints = (state / "checkpoints" / job).glob("chk-*/_metadata")
    found = newest((*checkpoints, *savepoints(state / "savepoints", job)))
    return None if found is None else str(found)


def savepoints(folder: Path, job: str) -> Iterator[Path]:
    """The `_metadata` of the savepoints in a folder that are of a job, known by its id."""
    return folder.glob(f"savepoint-{job[:6]}-*/_metadata")


def newest(found: Iterable[Path]) -> Path | None:
    """The newest of checkpoints and savepoints, by their `_metadata`, which are written last."""
    last = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return None if last is None else last.parent
