"""Reads more rows than fit the memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa  # type: ignore[import-untyped]
from pyiceberg.schema import Schema
from pyiceberg.table import DataScan, FileScanTask

_AHEAD = 250_000
"""Rows of files that are read before those before are taken, or as many as two files have."""

_THREADS = 8


def batches(
    scan: DataScan, tasks: Iterable[FileScanTask] | None = None, schema: Schema | None = None
) -> pa.RecordBatchReader:
    """The rows of a scan, or of those of its files, in the columns of a schema, or its own.

    PyIceberg's own reader has all files read as fast as they come, and keeps what is not asked for
    yet. This one reads little ahead. A limit of the scan counts for nothing.
    """
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow  # it takes pandas with it

    wanted = schema or scan.projection()
    columns = schema_to_pyarrow(wanted)
    reader = ArrowScan(scan.table_metadata, scan.io, wanted, scan.row_filter, scan.case_sensitive)

    def read(task: FileScanTask) -> list[pa.RecordBatch]:
        return [batch.cast(columns) for batch in reader.to_record_batches([task])]

    def read_all() -> Iterator[pa.RecordBatch]:
        left = deque(scan.plan_files() if tasks is None else tasks)
        under_way: deque[tuple[int, Future[list[pa.RecordBatch]]]] = deque()
        ahead = 0
        with ThreadPoolExecutor(_THREADS) as pool:
            while left or under_way:
                while left and (len(under_way) < 2 or ahead + left[0].file.record_count <= _AHEAD):
                    task = left.popleft()
                    under_way.append((task.file.record_count, pool.submit(read, task)))
                    ahead += task.file.record_count
                rows, found = under_way.popleft()
                yield from found.result()
                ahead -= rows

    return pa.RecordBatchReader.from_batches(columns, read_all())
