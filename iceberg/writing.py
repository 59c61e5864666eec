"""Writes more rows than fit the memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import pyarrow as pa  # type: ignore[import-untyped]
from pyiceberg.manifest import DataFile
from pyiceberg.table import DataScan, FileScanTask, Table

from iceberg.reading import batches

_T = TypeVar("_T")

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
        for part in gathered(batches(scan, of_it, table.schema()), len, _ROWS)
        if (rows := pa.Table.from_batches(part)).num_rows
        for file in _dataframe_to_data_files(table.metadata, rows, table.io)
    ]


def gathered(items: Iterable[_T], size: Callable[[_T], int], enough: int) -> Iterator[list[_T]]:
    """Items as they come, in lists that end once their sizes come to `enough`."""
    some: list[_T] = []
    total = 0
    for item in items:
        some.append(item)
        total += size(item)
        if total >= enough:
            yield some
            some, total = [], 0
    if some:
        yield some
