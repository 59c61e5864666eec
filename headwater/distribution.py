"""What a feature's values are like in one window, in a few numbers that a dashboard can draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Distribution:
    """Of one column of numbers, strings or booleans."""

    nulls: float
    """The share of its values that are null or not a number; 0 of none."""

    distinct: int
    """Different values, null not among them."""

    frequent: float
    """The share of the rows that have the most frequent value; 0 where all are null."""

    quantiles: Mapping[float, float] = field(default_factory=dict)
    """Of numbers, by their share: `QUANTILES`, interpolated between two values."""


def distribution(column: pa.ChunkedArray) -> Distribution:
    """Count a column's values."""
    rows = len(column)
    if pa.types.is_floating(column.type):
        column = column.filter(pc.invert(pc.is_nan(column)).fill_null(False))
    values = column.drop_null()
    if not len(values):
        return Distribution(nulls=float(rows > 0), distinct=0, frequent=0.0)
    counts = pc.struct_field(pc.value_counts(values), "counts")
    quantiles = {}
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        found = pc.quantile(values, q=list(QUANTILES)).to_pylist()
        quantiles = dict(zip(QUANTILES, found, strict=True))
    return Distribution(
        nulls=1 - len(values) / rows,
        distinct=len(counts),
        frequent=pc.max(counts).as_py() / rows,
        quantiles=quantiles,
    )
