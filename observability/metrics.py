"""Every metric of the API, in one place.

The metrics live in a registry of their own, so two applications in one process do not meet.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class ApiMetrics:
    """The metrics of one API application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "headwater_api_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "headwater_api_request_seconds",
            "Time from request to the start of its answer",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.redis_seconds = Histogram(
            "headwater_api_redis_seconds",
            "Time of one round trip to Redis",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.redis_errors = Counter(
            "headwater_api_redis_errors",
            "Round trips to Redis that failed",
            registry=self.registry,
        )
        self.values = Counter(
            "headwater_api_values",
            "Feature values answered, by view and status (present, missing, stale)",
            ("view", "status"),
            registry=self.registry,
        )
