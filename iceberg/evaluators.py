"""A repair of PyIceberg, for as long as its releases need it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from pyiceberg.expressions.visitors import _ManifestEvalVisitor
from pyiceberg.manifest import ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table.update.snapshot import _SnapshotProducer


def repair() -> None:
    """Let each of PyIceberg's threads judge manifests by an evaluator of its own.

    Up to 0.12.0 an overwrite asks one evaluator from several threads which manifests may hold the
    files that are to go, and the evaluator keeps the manifest at hand in itself: one thread gets
    the answer for another's, passes its own by, and the commit fails with "Missing required files
    to delete".
    """
    _SnapshotProducer._build_manifest_evaluator = _evaluator  # type: ignore[method-assign, assignment]


def _evaluator(producer: _SnapshotProducer[Any], spec_id: int) -> Callable[[ManifestFile], bool]:
    schema = Schema(*producer.spec(spec_id).partition_type(producer.schema()).fields)
    prepared = _ManifestEvalVisitor(
        schema, producer.partition_filters[spec_id], producer._case_sensitive
    )
    return lambda manifest: copy(prepared).eval(manifest)
