"""What a feature repository may bring along to try it with: recorded events and rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Record = dict[str, str | int | float | None]


@dataclass(frozen=True)
class History:
    """Recorded events by stream name, sorted by event time, and rows by table name."""

    streams: Mapping[str, Callable[[], Sequence[Record]]]
    tables: Mapping[str, Callable[[], Iterable[Record]]]
    generated: Mapping[str, Callable[[Record], Record]]
    """The columns the database generates, recomputed from a row, by table name."""

    tables_sql: Path
    """Creates the tables in the source database; it may be run again and again."""
