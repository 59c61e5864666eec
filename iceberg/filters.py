"""Row filters that PyIceberg's own constructors make awkward."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import reduce
from typing import Any, cast

from pyiceberg.expressions import And, BooleanExpression, In


def among(column: str, values: Iterable[object]) -> BooleanExpression:
    """The rows whose column is one of `values`."""
    # The constructor takes a name and values, its annotations say otherwise.
    predicate: Any = In
    return cast(BooleanExpression, predicate(column, values))


def of_keys(columns: Sequence[str], keys: Collection[Sequence[object]]) -> BooleanExpression:
    """The rows of those keys, and of others that are made of their parts; none of no keys."""
    parts = (among(column, {key[place] for key in keys}) for place, column in enumerate(columns))
    return reduce(And, parts)
