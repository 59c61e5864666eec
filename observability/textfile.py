"""Numbers of a command as Prometheus' text format, for a textfile collector or a push gateway."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Gauge, generate_latest


def exposition(
    gauges: Mapping[str, tuple[str, str]],
    labels: tuple[str, ...],
    rows: Iterable[Mapping[str, object]],
) -> str:
    """A value of each gauge for each row.

    `gauges` are name and help by the key of a row; what is no number there has no value.
    """
    registry = CollectorRegistry()
    made = {
        key: Gauge(name, text, labels, registry=registry) for key, (name, text) in gauges.items()
    }
    for row in rows:
        for key, gauge in made.items():
            value = row[key]
            if isinstance(value, int | float):
                gauge.labels(*(str(row[label]) for label in labels)).set(value)
    return generate_latest(registry).decode()
