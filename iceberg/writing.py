"""Writes more rows than fit the memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import pyarrow as pa  # type: ignore[import-untyped]
from pyiceberg.manifest import DataFile
from pyiceberg.table import DataScan, FileScanTask, Table

from iceberg.reading import batches

_ROWS = 500_000
"""Of one file, about."""


def copied(table: Table, scan: DataScan, tasks: Iterable[FileScanTask]) -> list[DataFile]:
    """New files of a table with the rows of those files that a scan asks for.

    They are in no snapshot yet. Columns that the table got later are null. Whoever does not commit
    them leaves orphans.
    """
    from pyiceberg.io.pyarrow import _dataframe_to_data_files  # it takes pandas with it

    partitions: dict[str, list[FileScanTask]] = defaultdict(list)
    for task in tasks:
        partitions[repr(task.file.partition)].append(task)
    return [
        file
        for of_it in partitions.values()
        for rows in _parts(batches(scan, of_it, table.schema()))
        for file in _dataframe_to_data_files(table.metadata, rows, table.io)
    ]


def _parts(rows: pa.RecordBatchReader) -> Iterator[pa.Table]:
    part: list[pa.RecordBatch] = []
    for batch in rows:
        part.append(batch)
        if sum(map(len, part)) >= _ROWS:
            yield pa.Table.from_batches(part)
            part = []
    if sum(map(len, part)):
        yield pa.Table.from_batches(part)
