"""The metrics of what features are like, and how far they have moved, as Prometheus reads them.

`headwater exporter` serves them; `headwater drift --format prometheus` prints them once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric

from observability import textfile
from observability.queries import CHANCE, FREQUENT, NULLS, PSI, QUANTILE

_GAUGES = {
    "psi": (PSI, "Population stability index of the last comparison"),
    "chance": (CHANCE, "What chance would exceed once in a thousand"),
    "rows": ("headwater_feature_rows", "Rows of the window that were looked at"),
    "nulls": (NULLS, "Share of the window's values that are null or not a number"),
    "distinct": ("headwater_feature_distinct_values", "Different values of the window"),
    "frequent": (FREQUENT, "Share of the window's rows that have the most frequent value"),
}
_QUANTILE = {"value": (QUANTILE, "Value below which this share of the window's numbers lie")}


def metrics(features: Iterable[Mapping[str, object]]) -> Iterator[Metric]:
    """Of features; each is its `view`, its `feature`, a number for each gauge, its `quantiles`."""
    given = list(features)
    yield from textfile.metrics(_GAUGES, ("view", "feature"), given)
    yield from textfile.metrics(_QUANTILE, ("view", "feature", "quantile"), _quantiles(given))


def _quantiles(features: Iterable[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
    for one in features:
        known = one["quantiles"]
        assert isinstance(known, Mapping)
        for share, value in known.items():
            named = {"view": one["view"], "feature": one["feature"]}
            yield {**named, "quantile": f"{share:g}", "value": value}
