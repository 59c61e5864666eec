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
from observability.queries import MEASURED
from schemas import Repository

Measures = Mapping[str, Callable[[], Iterable[Metric]]]


@dataclass(frozen=True)
class Windows:
    """Which rows of a view are looked at."""

    last: int
    """Up to its newest event, in milliseconds."""

    against: int
    """Before those, in milliseconds."""

    sample: int
    """Rows of each window, about."""


def measures(repository: Repository, opened: Callable[[], Catalog], windows: Windows) -> Measures:
    """What there is to measure; `opened` is asked for the catalog each time, which may be away."""

    def of_tables() -> Iterable[Metric]:
        catalog = opened()
        found = states(catalog, table_names(catalog), Care(), utc_now())
        return tables.metrics(asdict(state) for state in found)

    def of_expectations() -> Iterable[Metric]:
        return quality.metrics(asdict(one) for one in kept(opened(), repository.name, None, None))

    def of_features() -> Iterable[Metric]:
        catalog, now = opened(), int(time.time() * 1000)
        found = (
            newest(view, catalog, now, windows.last, windows.against, windows.sample)
            for view in repository.views
        )
        return drift.metrics(feature for one in found for feature in one.numbers())

    found = {"tables": of_tables, "features": of_features}
    return found | {"expectations": of_expectations} if repository.checked else found


class Exporter(Collector):
    """What was measured last, as Prometheus reads it.

    A measure that fails keeps what it had found: an alert must not end because the catalog is
    away. How old that is stands beside it.
    """

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._found: dict[str, list[Metric]] = {}
        self._measured = dict.fromkeys(measures, 0.0)
        self._failed = dict.fromkeys(measures, 0)

    def measure(self, report: Callable[[str], None]) -> None:
        """Measure everything once; what fails is reported and stops nothing else."""
        for name, measured in self._measures.items():
            try:
                found = list(measured())
            except Exception as error:
                # Whatever a server that is away makes of it: the next round tries again.
                self._failed[name] += 1
                report(f"{name} could not be measured: {type(error).__name__}: {error}")
            else:
                self._found[name], self._measured[name] = found, time.time()

    def keep_measuring(self, every: float, stop: Event, report: Callable[[str], None]) -> None:
        """Measure, and again `every` so many seconds after it was done, until `stop` is set."""
        while not stop.is_set():
            self.measure(report)
            stop.wait(every)

    def collect(self) -> Iterator[Metric]:
        """Everything that was found, when that was, and what failed."""
        for found in list(self._found.values()):
            yield from found
        ended = GaugeMetricFamily(
            MEASURED,
            "When it was measured last, seconds since 1970 UTC; 0: never",
            labels=("measure",),
        )
        for name, at in self._measured.items():
            ended.add_metric([name], at)
        yield ended
        failed = CounterMetricFamily(
            "headwater_exporter_failures", "Measures that failed", labels=("measure",)
        )
        for name, times in self._failed.items():
            failed.add_metric([name], times)
        yield failed
