"""Numbers of a command as Prometheus' text format, for a textfile collector or a push gateway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Told(Collector):
    """Metrics that were made elsewhere, as a registry asks for them."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        """As they were made."""
        return self._metrics


def metrics(
    gauges: Mapping[str, tuple[str, str]],
    labels: tuple[str, ...],
    rows: Iterable[Mapping[str, object]],
) -> Iterator[Metric]:
    """A value of each gauge for each row.

    `gauges` are name and help by the key of a row; what is no number there has no value.
    """
    given = list(rows)
    for key, (name, text) in gauges.items():
        family = GaugeMetricFamily(name, text, labels=labels)
        for row in given:
            value = row.get(key)
            if isinstance(value, int | float):
                family.add_metric([str(row[label]) for label in labels], value)
        yield family


def exposition(found: Iterable[Metric]) -> str:
    """Metrics as text."""
    registry = CollectorRegistry()
    registry.register(Told(found))
    return generate_latest(registry).decode()
