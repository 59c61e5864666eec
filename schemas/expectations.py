"""What the values of a source should be: declared beside its columns, checked as they are read.

A broken expectation is counted by its name; one that rejects makes the record a dead letter. A
null breaks `present` alone: `Column(required=True)` is what rejects it. What can be said of many
events only, `unique`, `fresh` and `rate`, warns: no one record of them is the wrong one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.errors import DeclarationError
from schemas.types import Column, Duration, Type, check_column, check_name


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


@dataclass(frozen=True)
class WindowExpectation:
    """Of the events of one window of event time; made by `unique`, `fresh` and `rate`."""

    name: str
    columns: tuple[str, ...] = ()
    max_age: Duration | None = None
    low: int | None = None
    high: int | None = None


def unique(*columns: str) -> WindowExpectation:
    """No two events of a window have the same values; broken by each that repeats one.

    An event with a null among them repeats nothing.
    """
    return WindowExpectation(f"{'_'.join(columns)}_unique", columns)


def fresh(max_age: Duration) -> WindowExpectation:
    """An event is read at most so long after its event time; broken by each that is older."""
    return WindowExpectation("fresh", max_age=max_age)


def rate(low: int | None, high: int | None = None) -> WindowExpectation:
    """A window has at least `low` and at most `high` events; None is open.

    A window in which there was nothing at all, not even a heartbeat, is not looked at.
    """
    return WindowExpectation("rate", low=low, high=high)


def check_windows(
    path: str, expectations: Iterable[WindowExpectation], columns: Iterable[Column]
) -> None:
    """Raise DeclarationError, with the path, for the first that does not suit the columns."""
    known = tuple(columns)
    for expectation in expectations:
        where = f"{path}.{expectation.name}"
        check_name(where, expectation.name)
        for column in expectation.columns:
            check_column(where, known, column)
        low, high = expectation.low, expectation.high
        if low is not None and high is not None and low > high:
            raise DeclarationError(where, "low must not be above high", (low, high))
        if (low, high, expectation.max_age, expectation.columns) == (None, None, None, ()):
            raise DeclarationError(where, "expects nothing", expectation.name)


def check_expectations(
    path: str, expectations: Iterable[Expectation], columns: Iterable[Column]
) -> None:
    """Raise DeclarationError, with the path, for the first that does not suit its column."""
    known = tuple(columns)
    for expectation in expectations:
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
