"""The metrics of expectations, as Prometheus reads them from a file.

`headwater quality --format prometheus` prints them, as `headwater tables list` does its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge, generate_latest

_LABELS = ("source", "expectation")


def exposition(expectations: Iterable[Mapping[str, object]]) -> str:
    """The newest window of each expectation, and when it ended, as Prometheus' text format."""
    registry = CollectorRegistry()
    events = Gauge(
        "headwater_expectation_events", "Events of the newest window", _LABELS, registry=registry
    )
    broken = Gauge(
        "headwater_expectation_broken",
        "How often it was broken in the newest window",
        _LABELS,
        registry=registry,
    )
    ended = Gauge(
        "headwater_expectation_window_end_seconds",
        "When the newest window ended, seconds since 1970 UTC",
        _LABELS,
        registry=registry,
    )
    for one in expectations:
        labels = [str(one[label]) for label in _LABELS]
        events.labels(*labels).set(float(str(one["newest_events"])))
        broken.labels(*labels).set(float(str(one["newest_broken"])))
        ended.labels(*labels).set(datetime.fromisoformat(str(one["newest_end"])).timestamp())
    return generate_latest(registry).decode()
