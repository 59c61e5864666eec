"""The metrics of a replay, told by the command that follows it."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge


class ReplayMetrics:
    """One replay's metrics, in a registry of their own."""

    def __init__(self, replay_id: str) -> None:
        self.registry = CollectorRegistry()
        label = ("replay",)
        gauges = {
            "share": "How far it is, 0 to 1",
            "rows": "Records read",
            "rows_per_second": "Records read a second",
            "seconds_left": "Expected until it is done",
            "lag_records": "Records it has not read yet, if it follows the log",
            "rate_limit": "Records a second it may read, +Inf for no limit",
            "serving_p99_seconds": "The API's 99th percentile, as the governor saw it last",
            "live_lag_records": "Records the live jobs have not read, as the governor saw it last",
        }
        self.gauges = {
            name: Gauge(f"headwater_replay_{name}", text, label, registry=self.registry).labels(
                replay_id
            )
            for name, text in gauges.items()
        }
        self.slowed = Counter(
            "headwater_replay_slowed",
            "Times the governor has slowed it down",
            label,
            registry=self.registry,
        ).labels(replay_id)
        self._told = 0

    def tell(self, values: Mapping[str, float | None], slowed: int) -> None:
        """Set gauges by name, but for those that are not known; `slowed` is the count so far."""
        for name, value in values.items():
            if value is not None:
                self.gauges[name].set(value)
        self.slowed.inc(slowed - self._told)
        self._told = slowed
