"""Measures what no part tells of itself, time and again, and keeps it for Prometheus.

The Iceberg tables, the newest window of each expectation, and what the features are like.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from threading import Event

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from pyiceberg.catalog import Catalog

from headwater.drift import newest
from iceberg.catalog import table_names
from iceberg.maintenance import Care, states, utc_now
from iceberg.quality import kept
from observability import drift, quality, tables
from observability.queries import DUE
from schemas import Repository

_AGAIN_SECONDS = 30.0
"""Until what failed is tried again."""


@dataclass(frozen=True)
class Measure:
    """Something to measure, and how long from one time to the next, in seconds."""

    every: float
    metrics: Callable[[], Iterable[Metric]]


@dataclass(frozen=True)
class Windows:
    """Which rows of a view are looked at."""

    last: int
    """Up to its newest event, in milliseconds."""

    against: int
    """Before those, in milliseconds."""

    sample: int
    """Rows of each window, about."""


def measures(
    repository: Repository,
    opened: Callable[[], Catalog],
    windows: Windows,
    every: float,
    features_every: float,
) -> dict[str, Measure]:
    """What there is to measure; `opened` is asked for the catalog each time, which may be away.

    The features have times of their own, in seconds too: to look at them, whole windows are read.
    """

    def of_tables() -> Iterable[Metric]:
        catalog = opened()
        found = states(catalog, table_names(catalog), Care(), utc_now())
        return tables.metrics(asdict(state) for state in found)

    def of_expectations() -> Iterable[Metric]:
        return quality.metrics(asdict(one) for one in kept(opened(), repository, None, None))

    def of_features() -> Iterable[Metric]:
        catalog, now = opened(), int(time.time() * 1000)
        found = (
            newest(view, catalog, now, windows.last, windows.against, windows.sample)
            for view in repository.views
        )
        return drift.metrics(feature for one in found for feature in one.numbers())

    found = {"tables": Measure(every, of_tables)}
    if repository.checked:
        found["expectations"] = Measure(every, of_expectations)
    return found | {"features": Measure(features_every, of_features)}


class Exporter(Collector):
    """What was measured last, as Prometheus reads it.

    A measure that fails keeps what it had found: an alert must not end because the catalog is
    away. When it was to be measured again stands beside it.
    """

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self._measures = measures
        self._found: dict[str, list[Metric]] = {}
        self._due = dict.fromkeys(measures, time.time())
        self._failed = dict.fromkeys(measures, 0)

    def measure(self, report: Callable[[str], None]) -> None:
        """Measure once what is due; what fails is reported, stays due, and stops nothing else."""
        for name, measure in self._measures.items():
            if self._due[name] > time.time():
                continue
            try:
                found = list(measure.metrics())
            except Exception as error:
                # Whatever a server that is away makes of it.
                self._failed[name] += 1
                report(f"{name} could not be measured: {type(error).__name__}: {error}")
            else:
                self._found[name], self._due[name] = found, time.time() + measure.every

    def keep_measuring(self, stop: Event, report: Callable[[str], None]) -> None:
        """Measure what is due, time and again, until `stop` is set."""
        while not stop.is_set():
            self.measure(report)
            stop.wait(max(_AGAIN_SECONDS, min(self._due.values()) - time.time()))

    def collect(self) -> Iterator[Metric]:
        """Everything that was found, when the next time is due, and what failed."""
        for found in list(self._found.values()):
            yield from found
        due = GaugeMetricFamily(
            DUE, "When it is to be measured next, seconds since 1970 UTC", labels=("measure",)
        )
        failed = CounterMetricFamily(
            "headwater_exporter_failures", "Measures that failed", labels=("measure",)
        )
        for name in self._measures:
            due.add_metric([name], self._due[name])
            failed.add_metric([name], self._failed[name])
        yield due
        yield failed
