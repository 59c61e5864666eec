"""The columns of `rolled.VIEW`: the shard, and `result` with all that `rolling` returns.

As columns of their own each value would be looked for through the three rows that Flink joins what
a process table function returns from, and that takes longer than to compute it.
"""

from __future__ import annotations

from collections.abc import Iterable

from connectors.ddl import identifier

LATE = "late_row"
"""The one that holds the row itself if it came too late, and is null otherwise."""


def of_result(name: str) -> str:
    """One of the values, as SQL."""
    return f"`result`.{identifier(name)}"


def results(names: Iterable[str]) -> str:
    """Some of them as columns of a query."""
    return ", ".join(f"{of_result(name)} AS {identifier(name)}" for name in names)
