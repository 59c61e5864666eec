"""Repairs of PyIceberg, for as long as its releases need them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar

from pyiceberg.expressions.visitors import _ManifestEvalVisitor
from pyiceberg.manifest import ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot, SnapshotLogEntry
from pyiceberg.table.update.snapshot import _SnapshotProducer

_T = TypeVar("_T")


def repair() -> None:
    """Let each of PyIceberg's threads judge manifests by itself, and copy no snapshots.

    Up to 0.12.0 an overwrite asks one evaluator from several threads which manifests may hold the
    files that are to go, and the evaluator keeps the manifest at hand in itself: one thread gets
    the answer for another's, passes its own by, and the commit fails with "Missing required files
    to delete".

    Each look at the metadata of a transaction copies them, with all snapshots and their log, that
    nothing ever changes: 5 s of processor time to promote a replay into a table of 4,000 snapshots,
    which a job that commits every five seconds has made in six hours.
    """
    _SnapshotProducer._build_manifest_evaluator = _evaluator  # type: ignore[method-assign, assignment]
    for unchanging in (Snapshot, SnapshotLogEntry):
        unchanging.__deepcopy__ = _same  # type: ignore[method-assign, assignment]


def _evaluator(producer: _SnapshotProducer[Any], spec_id: int) -> Callable[[ManifestFile], bool]:
    schema = Schema(*producer.spec(spec_id).partition_type(producer.schema()).fields)
    prepared = _ManifestEvalVisitor(
        schema, producer.partition_filters[spec_id], producer._case_sensitive
    )
    return lambda manifest: copy(prepared).eval(manifest)


def _same(one: _T, _copied: object = None) -> _T:
    return one
