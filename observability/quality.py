"""The metrics of expectations, as Prometheus reads them.

`headwater exporter` serves them; `headwater quality --format prometheus` prints them once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from prometheus_client import Metric

from observability import textfile

_GAUGES = {
    "newest_events": ("headwater_expectation_events", "Events of the newest windows"),
    "newest_broken": (
        "headwater_expectation_broken",
        "How often it was broken in the newest windows: those that came since the look before",
    ),
    "ended": (
        "headwater_expectation_window_end_seconds",
        "When the newest window ended, seconds since 1970 UTC",
    ),
}


def metrics(expectations: Iterable[Mapping[str, object]]) -> Iterator[Metric]:
    """The newest windows of each expectation, and when the last one ended."""
    rows = (
        {**one, "ended": datetime.fromisoformat(str(one["newest_end"])).timestamp()}
        for one in expectations
    )
    return textfile.metrics(_GAUGES, ("source", "expectation"), rows)
