"""The metrics of drift, as Prometheus reads them from a file.

`headwater drift --format prometheus` prints them, as `headwater quality` does its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from observability import textfile

_GAUGES = {
    "psi": ("headwater_drift_psi", "Population stability index of the last comparison"),
    "chance": ("headwater_drift_chance", "What chance would exceed once in a thousand"),
    "nulls": ("headwater_drift_null_ratio", "Share of the window's values that are null"),
    "rows": ("headwater_drift_rows", "Rows of the window that were compared"),
}


def exposition(features: Iterable[Mapping[str, object]]) -> str:
    """Each feature's comparison as Prometheus' text format."""
    return textfile.exposition(_GAUGES, ("view", "feature"), features)
