"""Every metric of the API, in one place.

The metrics live in a registry of their own, so two applications in one process do not meet.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_AGES = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400, 604_800)


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
        self.redis_behind = Gauge(
            "headwater_api_redis_behind_seconds",
            "Since the Redis that is read heard of its primary; 0 if it is the primary",
            registry=self.registry,
        )
        self.redis_answers = Gauge(
            "headwater_api_redis_answers",
            "1 if Redis answered the last look at it and may be read, else 0",
            registry=self.registry,
        )
        self.values = Counter(
            "headwater_api_values",
            "Feature values read to be answered, by view and status (present, missing, stale)",
            ("view", "status"),
            registry=self.registry,
        )
        self.unreadable = Counter(
            "headwater_api_unreadable_values",
            "Values in the online store that are not of their feature's type, by view",
            ("view",),
            registry=self.registry,
        )
        self.age_seconds = Histogram(
            "headwater_api_value_age_seconds",
            "Age of the first value of each view in each answer",
            ("view",),
            buckets=_AGES,
            registry=self.registry,
        )
        self.refused = Counter(
            "headwater_api_refused_requests",
            "Requests refused before any work was done for them, by reason",
            ("reason",),
            registry=self.registry,
        )
        self.reloads = Counter(
            "headwater_api_reloads",
            "Changes of what is registered that were found, by result (served, refused)",
            ("result",),
            registry=self.registry,
        )
        self.logged = Counter(
            "headwater_api_feature_log_events",
            "Events of the feature log, by result (sent, dropped)",
            ("result",),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "headwater_api_requests_in_flight",
            "Lookups being answered",
            registry=self.registry,
        )
        self._served: dict[str, tuple[Counter, Counter, Counter]] = {}
        self._ages: dict[str, Histogram] = {}

    def served(self, view: str, columns: int, rows: int, missing: int, stale: int) -> None:
        """Count the values of `columns` features of a view of `rows` different entities."""
        known = self._served.get(view)
        if known is None:
            known = self._served[view] = (
                self.values.labels(view, "present"),
                self.values.labels(view, "missing"),
                self.values.labels(view, "stale"),
            )
        if present := rows - missing - stale:
            known[0].inc(present * columns)
        if missing:
            known[1].inc(missing * columns)
        if stale:
            known[2].inc(stale * columns)

    def age(self, view: str, seconds: float) -> None:
        """Note the age of a value."""
        known = self._ages.get(view)
        if known is None:
            known = self._ages[view] = self.age_seconds.labels(view)
        known.observe(seconds)
