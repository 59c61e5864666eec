"""The metrics of the Iceberg tables, as Prometheus reads them.

`headwater exporter` serves them; `headwater tables list --format prometheus` prints them once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric

from observability import textfile
from observability.queries import SMALL_FILES

_GAUGES = {
    "rows": ("headwater_table_rows", "Rows of an Iceberg table"),
    "files": ("headwater_table_files", "Data files of an Iceberg table"),
    "small_files": (SMALL_FILES, "Data files that should be put together"),
    "bytes": ("headwater_table_bytes", "Bytes of data files"),
    "snapshots": ("headwater_table_snapshots", "Snapshots that are kept"),
    "seconds_since_commit": (
        "headwater_table_seconds_since_commit",
        "Since the last commit: checkpoints may go on while commits fail",
    ),
}


def metrics(states: Iterable[Mapping[str, object]]) -> Iterator[Metric]:
    """Of tables; each is its `name` and a number for each gauge."""
    rows = ({**state, "table": state["name"]} for state in states)
    return textfile.metrics(_GAUGES, ("table",), rows)
