"""The metrics of expectations, as Prometheus reads them from a file.

`headwater quality --format prometheus` prints them, as `headwater tables list` does its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from observability import textfile

_GAUGES = {
    "newest_events": ("headwater_expectation_events", "Events of the newest window"),
    "newest_broken": (
        "headwater_expectation_broken",
        "How often it was broken in the newest window",
    ),
    "ended": (
        "headwater_expectation_window_end_seconds",
        "When the newest window ended, seconds since 1970 UTC",
    ),
}


def exposition(expectations: Iterable[Mapping[str, object]]) -> str:
    """The newest window of each expectation, and when it ended, as Prometheus' text format."""
    rows = (
        {**one, "ended": datetime.fromisoformat(str(one["newest_end"])).timestamp()}
        for one in expectations
    )
    return textfile.exposition(_GAUGES, ("source", "expectation"), rows)
