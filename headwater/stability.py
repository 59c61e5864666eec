"""The population stability index: how far a feature's values have moved from a reference.

With p and q the shares of the reference's and of the present rows that fall into a cell,

    PSI = Σ (q - p) · ln(q / p)

over all cells: the symmetric divergence of Jeffreys (1946), named and used as an index by Siddiqi,
Credit Risk Scorecards (2006), whose rule of thumb is: below 0.1 stable, above 0.25 moved. How much
of it chance makes depends on the numbers of rows n and m: of two samples of one population it is
distributed as (1/n + 1/m) · χ² with one degree of freedom less than there are cells (Yurdakul and
Naranjo, Statistical properties of the population stability index, Journal of Risk Model
Validation 14(3), 2020).

Cells of numbers are the reference's tenths; a value that fills a tenth alone has a cell of its own.
Cells of everything else are its most frequent values, and the others together. What is null, or
not a number, is a cell of its own. The approximation wants five rows in each cell, so there are
fewer cells of numbers where a window has fewer rows, and what is rarer than that in both windows
is one cell. Half a row more is counted in each, so that an empty one has a logarithm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from observability.rules import ANOTHER_PSI

BINS = 10
VALUES = 20
ENOUGH = 5
_RARE = 3.0902
"""Of a standard normal variable, what one in a thousand exceeds."""


@dataclass(frozen=True)
class Stability:
    """How one feature's present values compare with a reference; no window is empty."""

    psi: float
    chance: float
    """What chance alone would exceed once in a thousand comparisons."""

    reference_nulls: float
    """The share of its values that are null or not a number."""

    nulls: float
    grows: bool = False
    """A count or a sum over an entity's lifetime: its values move with every day."""

    def moved(self, bound: float) -> bool:
        """Whether it is over a bound, and further than by chance, or is another altogether.

        One that grows never has.
        """
        return not self.grows and self.psi > max(bound, min(self.chance, ANOTHER_PSI))


def stability(
    reference: pa.ChunkedArray,
    present: pa.ChunkedArray,
    independent: tuple[float, float] | None = None,
) -> Stability:
    """Compare two columns of one type: numbers, strings or booleans. Neither is empty.

    `independent` is how many rows of each count as drawn for themselves, if not all of them do.
    """
    is_number = pa.types.is_integer(reference.type) or pa.types.is_floating(reference.type)
    count = _by_tenths if is_number else _by_values
    before, now = count(reference, present)
    rows, rows_now = before.sum(), now.sum()
    drawn, drawn_now = independent or (rows, rows_now)
    nulls = before[-1] / rows, now[-1] / rows_now
    rare = (before + now) / (rows + rows_now) * min(rows, rows_now) < ENOUGH
    before, now = (np.append(cells[~rare], cells[rare].sum()) + 0.5 for cells in (before, now))
    if before[-1] + now[-1] == 1:  # nothing is rare
        before, now = before[:-1], now[:-1]
    p, q = before / before.sum(), now / now.sum()
    return Stability(
        psi=float(np.sum((q - p) * np.log(q / p))),
        chance=float((1 / drawn + 1 / drawn_now) * _rare_chi_squared(len(p) - 1)),
        reference_nulls=float(nulls[0]),
        nulls=float(nulls[1]),
    )


def _by_tenths(reference: pa.ChunkedArray, present: pa.ChunkedArray) -> tuple[np.ndarray, ...]:
    """Rows in each cell, the last one of what is no number."""
    columns = [column.cast(pa.float64(), safe=False).to_numpy() for column in (reference, present)]
    ordered = np.sort(columns[0][~np.isnan(columns[0])])
    if not len(ordered):
        cuts = ordered
    else:
        fewest = min(len(column) for column in columns)
        bins = max(2, min(BINS, fewest // ENOUGH))
        edges = ordered[-(-len(ordered) * np.arange(1, bins) // bins) - 1]
        # A value that is two edges: what is below it, it alone, what is above.
        alone = edges[1:][edges[1:] == edges[:-1]]
        cuts = np.unique(np.concatenate([edges, np.nextafter(alone, -np.inf)]))
    found = []
    for column in columns:
        nothing = np.isnan(column)
        places = np.searchsorted(cuts, column[~nothing], side="left")
        found.append(np.append(np.bincount(places, minlength=len(cuts) + 1), nothing.sum()))
    return tuple(found)


def _by_values(reference: pa.ChunkedArray, present: pa.ChunkedArray) -> tuple[np.ndarray, ...]:
    """Rows of each of the reference's most frequent values, of the others, of null."""
    counted = pa.Table.from_struct_array(pc.value_counts(reference.drop_null()))
    ordered = counted.sort_by([("counts", "descending"), ("values", "ascending")])
    frequent = ordered["values"].slice(0, VALUES).combine_chunks()
    found = []
    for column in (reference, present):
        values = column.drop_null()
        places = pc.index_in(values, value_set=frequent).fill_null(len(frequent)).to_numpy()
        found.append(np.append(np.bincount(places, minlength=len(frequent) + 1), column.null_count))
    return tuple(found)


def _rare_chi_squared(freedom: int) -> float:
    """What one in a thousand exceeds; the cube root is about normal (Wilson and Hilferty, 1931)."""
    if not freedom:
        return 0.0
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + _RARE * math.sqrt(spread)) ** 3
