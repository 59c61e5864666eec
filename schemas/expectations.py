"""What the values of a source or a view should be: declared beside them, checked as they come.

A broken expectation is counted by its name. One that rejects makes a record of a source a dead
letter, and a view's value null. A null breaks `present` alone: `Column(required=True)` is what
rejects it. What can be said of many rows only, `unique`, `fresh` and `rate`, warns: no one of
them is the wrong one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from schemas.errors import DeclarationError
from schemas.types import (
    Column,
    Duration,
    Type,
    check_column,
    check_name,
    check_number,
    check_text,
    check_unique,
)


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

    def __post_init__(self) -> None:
        path = f"expectation.{self.name}"
        _check_bounds(path, self.low, self.high)
        for value in self.values:
            check_text(path, value)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it is about."""
        return (self.column,)

    def holds(self, value: object) -> bool:
        """Whether a value of the column keeps it."""
        if value is None:
            return not self.not_null
        if isinstance(value, str):
            return not self.values or value in self.values
        if not isinstance(value, int | float):
            return True
        above = self.low is None or value >= self.low
        return above and (self.high is None or value <= self.high)


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
    """Of the events, or a view's rows, of one window of event time.

    Made by `unique`, `fresh` and `rate`.
    """

    name: str
    columns: tuple[str, ...] = ()
    max_age: Duration | None = None
    low: int | None = None
    high: int | None = None

    def __post_init__(self) -> None:
        _check_bounds(f"expectation.{self.name}", self.low, self.high)


def unique(*columns: str) -> WindowExpectation:
    """No two rows of a window have the same values; broken by each that repeats one.

    One with a null among them repeats nothing.
    """
    return WindowExpectation(f"{'_'.join(columns)}_unique", columns)


def fresh(max_age: Duration) -> WindowExpectation:
    """An event is read, a value computed, at most so long after its event time.

    Broken by each that is older.
    """
    return WindowExpectation("fresh", max_age=max_age)


def rate(low: int | None, high: int | None = None) -> WindowExpectation:
    """A window has at least `low` and at most `high` events or rows; None is open.

    A window in which there was nothing at all, not even a heartbeat, is not looked at.
    """
    return WindowExpectation("rate", low=low, high=high)


def of_view(name: str) -> str:
    """What a view is called among sources: no stream's name has a dot."""
    return f"view.{name}"


def check_expectations(
    path: str,
    expectations: Iterable[Expectation | WindowExpectation],
    columns: Iterable[Column],
) -> None:
    """Raise DeclarationError, with the path, for the first that does not suit its columns."""
    known = tuple(columns)
    found = tuple(expectations)
    check_unique(path, (expectation.name for expectation in found))
    for expectation in found:
        where = f"{path}.{expectation.name}"
        check_name(where, expectation.name)
        bounds = (expectation.low, expectation.high)
        if isinstance(expectation, WindowExpectation):
            for name in expectation.columns:
                check_column(where, known, name)
            says = bool(expectation.columns) or expectation.max_age is not None
            told = expectation.name
        else:
            column = check_column(where, known, expectation.column)
            _check_type(where, expectation, column.type)
            says = bool(expectation.values) or expectation.not_null
            told = expectation.column
        if None not in bounds and not bounds[0] <= bounds[1]:  # type: ignore[operator]
            raise DeclarationError(where, "low must not be above high", bounds)
        if bounds == (None, None) and not says:
            raise DeclarationError(where, "expects nothing", told)


def _check_bounds(path: str, *bounds: float | None) -> None:
    for bound in bounds:
        if isinstance(bound, float) and not isfinite(bound):
            raise DeclarationError(path, "needs a finite number: None is open", bound)
        if bound is not None:
            check_number(path, bound)


def _check_type(where: str, expectation: Expectation, type_: Type) -> None:
    if expectation.values and type_ is not Type.STRING:
        raise DeclarationError(where, "among needs a string column", type_.value)
    bounds = (expectation.low, expectation.high)
    if bounds != (None, None) and not (type_.is_numeric or type_ is Type.TIMESTAMP):
        raise DeclarationError(where, "within needs a numeric column", type_.value)
