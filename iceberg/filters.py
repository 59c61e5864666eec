"""Row filters that PyIceberg's own constructors make awkward."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any, cast

from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, In, LessThan
from pyiceberg.table import DataScan

from schemas import EVENT_TIME


def instant(milliseconds: int) -> str:
    """An instant, milliseconds since 1970 UTC, as row filters want it: ISO 8601."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def between(scan: DataScan, start: int | None, end: int | None) -> DataScan:
    """Rows of event times from `start` up to `end`, milliseconds since 1970 UTC; None is open."""
    if start is not None:
        scan = scan.filter(since(start))
    if end is not None:
        scan = scan.filter(before(end))
    return scan


def since(start: int) -> BooleanExpression:
    """The rows of event times from an instant on, milliseconds since 1970 UTC."""
    return where(GreaterThanOrEqual, EVENT_TIME, instant(start))


def before(end: int) -> BooleanExpression:
    """The rows of event times before an instant, milliseconds since 1970 UTC."""
    return where(LessThan, EVENT_TIME, instant(end))


def among(column: str, values: Iterable[object]) -> BooleanExpression:
    """The rows whose column is one of `values`."""
    return where(In, column, values)


def where(predicate: Any, column: str, value: object) -> BooleanExpression:
    """The rows of which one of PyIceberg's predicates is true."""
    # They take a name and a value, their annotations say otherwise.
    return cast(BooleanExpression, predicate(column, value))


def of_keys(columns: Sequence[str], keys: Collection[Sequence[object]]) -> BooleanExpression:
    """The rows of those keys, and of others that are made of their parts; none of no keys."""
    parts = (among(column, {key[place] for key in keys}) for place, column in enumerate(columns))
    return reduce(And, parts)
