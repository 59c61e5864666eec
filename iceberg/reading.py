"""Reads more rows than fit the memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa  # type: ignore[import-untyped]
from pyiceberg.schema import Schema
from pyiceberg.table import DataScan, FileScanTask

_AHEAD = 250_000
"""Rows of files that are read at once."""


def batches(
    scan: DataScan, tasks: Iterable[FileScanTask] | None = None, schema: Schema | None = None
) -> pa.RecordBatchReader:
    """The rows of a scan, or of those of its files, in the columns of a schema, or its own.

    PyIceberg's own reader has all files read as fast as they come, and keeps what is not asked for
    yet. This one reads on when those before are taken.
    """
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow  # it takes pandas with it

    wanted = schema or scan.projection()
    columns = schema_to_pyarrow(wanted)
    read = ArrowScan(scan.table_metadata, scan.io, wanted, scan.row_filter)

    def read_all() -> Iterator[pa.RecordBatch]:
        for some in _few(scan.plan_files() if tasks is None else tasks):
            for batch in read.to_record_batches(some):
                yield batch.cast(columns)

    return pa.RecordBatchReader.from_batches(columns, read_all())


def _few(tasks: Iterable[FileScanTask]) -> Iterator[list[FileScanTask]]:
    some: list[FileScanTask] = []
    rows = 0
    for task in tasks:
        if some and rows + task.file.record_count > _AHEAD:
            yield some
            some, rows = [], 0
        some.append(task)
        rows += task.file.record_count
    if some:
        yield some
