"""Measures what no part tells of itself, time and again, and keeps it for Prometheus.

The Iceberg tables, the newest window of each expectation, and what the features are like.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from threading import Event

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from pyiceberg.catalog import Catalog

from headwater.drift import newest
from iceberg.catalog import NAMESPACE, table_names
from iceberg.maintenance import Care, states, utc_now
from iceberg.quality import Newest, kept
from observability import drift, quality, tables
from observability.queries import DUE
from schemas import FeatureView, Repository

_AGAIN_SECONDS = 30.0
"""Until what failed is tried again, for the first time."""

_LATEST_SECONDS = 86_400
"""After its end a window may come that late; what ended earlier is not read again and again."""


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

    def of_features(view: FeatureView) -> Iterable[Metric]:
        now = int(time.time() * 1000)
        found = newest(view, opened(), now, windows.last, windows.against, windows.sample)
        return drift.metrics(found.numbers())

    found = {"tables": Measure(every, of_tables)}
    if repository.checked:
        found["expectations"] = Measure(every, Checked(repository, opened, every).metrics)
    # Each view for itself: one that cannot be read keeps none of the others from being looked at.
    return found | {
        f"{NAMESPACE}.{view.name}": Measure(features_every, partial(of_features, view))
        for view in repository.views
    }


class Checked:
    """What became of expectations in the windows that were summed up since the look before.

    Windows are short, and looks are seldom: the newest one alone would say little.
    """

    def __init__(self, repository: Repository, opened: Callable[[], Catalog], every: float) -> None:
        self._repository = repository
        self._opened = opened
        self._every = int(every * 1000)
        self._told: dict[tuple[str, str], int] = {}

    def metrics(self) -> Iterable[Metric]:
        """At the first look, of the windows of as long as one look is from the next."""
        streams = [one.checked for one in self._repository.streams]
        views = [one.checked for one in self._repository.views]
        longest = max(length.seconds for length in (*streams, *views) if length)
        since = int(time.time() - _LATEST_SECONDS - longest) * 1000
        newest = Newest(self._told, self._every)
        found = kept(self._opened(), self._repository, since, None, newest)
        self._told = {
            (one.source, one.expectation): round(
                datetime.fromisoformat(one.newest_end).timestamp() * 1000
            )
            for one in found
        }
        return quality.metrics(asdict(one) for one in found)


class Exporter(Collector):
    """What was measured last, as Prometheus reads it.

    A measure that fails keeps what it had found: an alert must not end because the catalog is
    away. When it was to be measured again stands beside it. What was never measured was always
    due, so that one who is killed at it again and again is not taken for one who begins.
    """

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self._measures = measures
        self._found: dict[str, list[Metric]] = {}
        self._due = dict.fromkeys(measures, 0.0)
        self._next = dict.fromkeys(measures, 0.0)
        self._failed = dict.fromkeys(measures, 0)
        self._patience = dict.fromkeys(measures, _AGAIN_SECONDS)

    def measure(self, report: Callable[[str], None]) -> None:
        """Measure once what is due; what fails is reported, stays due, and stops nothing else."""
        for name, measure in self._measures.items():
            if self._next[name] > time.time():
                continue
            try:
                found = list(measure.metrics())
            except Exception as error:
                # Whatever a server that is away makes of it.
                self._failed[name] += 1
                self._next[name] = time.time() + self._patience[name]
                # It may have read much until it failed.
                self._patience[name] = min(2 * self._patience[name], measure.every)
                report(f"{name} could not be measured: {type(error).__name__}: {error}")
            else:
                self._found[name], self._patience[name] = found, _AGAIN_SECONDS
                self._due[name] = self._next[name] = time.time() + measure.every

    def keep_measuring(self, stop: Event, report: Callable[[str], None]) -> None:
        """Measure what is due, time and again, until `stop` is set."""
        while not stop.is_set():
            self.measure(report)
            stop.wait(max(_AGAIN_SECONDS, min(self._next.values()) - time.time()))

    def collect(self) -> Iterator[Metric]:
        """Everything that was found, when the next time is due, and what failed."""
        yield from _together(metric for found in list(self._found.values()) for metric in found)
        due = GaugeMetricFamily(
            DUE,
            "When it is to be measured next, seconds since 1970 UTC; 0 if it never was",
            labels=("measure",),
        )
        failed = CounterMetricFamily(
            "headwater_exporter_failures", "Measures that failed", labels=("measure",)
        )
        for name in self._measures:
            due.add_metric([name], self._due[name])
            failed.add_metric([name], self._failed[name])
        yield due
        yield failed


def _together(found: Iterable[Metric]) -> Iterable[Metric]:
    """Those of one name as one, as Prometheus reads them."""
    families: dict[str, Metric] = {}
    for metric in found:
        family = families.setdefault(
            metric.name, Metric(metric.name, metric.documentation, metric.type, metric.unit)
        )
        family.samples += metric.samples
    return families.values()
