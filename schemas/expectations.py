"""What the values of a source should be: declared beside its columns, checked as they are read.

A broken expectation is counted by its name; one that rejects makes the record a dead letter. A
null breaks `present` alone: `Column(required=True)` is what rejects it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.errors import DeclarationError
from schemas.types import Column, Type, check_column, check_name, check_unique


@dataclass(frozen=True)
class Expectation:
    """Made by `within`, `among` and `present`."""

    name: str
    column: str
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    not_null: bool = False
    reject: bool = False


def within(column: str, low: float | None, high: float | None, reject: bool = False) -> Expectation:
    """A number is at least `low` and at most `high`; None is open."""
    return Expectation(f"{column}_within", column, low, high, reject=reject)


def among(column: str, *values: str, reject: bool = False) -> Expectation:
    """A text is one of `values`."""
    return Expectation(f"{column}_among", column, values=values, reject=reject)


def present(column: str) -> Expectation:
    """A value is there, though it need not be."""
    return Expectation(f"{column}_present", column, not_null=True)


def check_expectations(
    path: str, expectations: Iterable[Expectation], columns: Iterable[Column]
) -> None:
    """Raise DeclarationError, with the path, for the first that does not suit its column."""
    known = tuple(columns)
    found = tuple(expectations)
    check_unique(path, (expectation.name for expectation in found))
    for expectation in found:
        where = f"{path}.{expectation.name}"
        check_name(where, expectation.name)
        column = check_column(where, known, expectation.column)
        if expectation.values and column.type is not Type.STRING:
            raise DeclarationError(where, "among needs a string column", column.type.value)
        bounds = (expectation.low, expectation.high)
        if bounds != (None, None) and not (column.type.is_numeric or column.type is Type.TIMESTAMP):
            raise DeclarationError(where, "within needs a numeric column", column.type.value)
        if None not in bounds and not bounds[0] <= bounds[1]:  # type: ignore[operator]
            raise DeclarationError(where, "low must not be above high", bounds)
        if bounds == (None, None) and not expectation.values and not expectation.not_null:
            raise DeclarationError(where, "expects nothing", expectation.column)
