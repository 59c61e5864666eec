"""The metrics of the Iceberg tables, as Prometheus reads them from a file.

`headwater tables list --format prometheus` prints them; whoever schedules the care of the tables
writes them where a node exporter's textfile collector, or a push gateway, finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from observability import textfile

_GAUGES = {
    "rows": ("headwater_table_rows", "Rows of an Iceberg table"),
    "files": ("headwater_table_files", "Data files of an Iceberg table"),
    "small_files": ("headwater_table_small_files", "Data files that should be put together"),
    "bytes": ("headwater_table_bytes", "Bytes of data files"),
    "snapshots": ("headwater_table_snapshots", "Snapshots that are kept"),
    "seconds_since_commit": (
        "headwater_table_seconds_since_commit",
        "Since the last commit: checkpoints may go on while commits fail",
    ),
}


def exposition(states: Iterable[Mapping[str, object]]) -> str:
    """Tables as Prometheus' text format; each is its `name` and a number for each gauge."""
    rows = ({**state, "table": state["name"]} for state in states)
    return textfile.exposition(_GAUGES, ("table",), rows)
