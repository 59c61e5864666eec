"""One expression, twice: as Python for a request and as SQL for a training set.

The rules are those of `schemas.expressions`; the tests hold both against each other.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from connectors.ddl import literal
from schemas import Type
from schemas.expressions import (
    Arithmetic,
    Chosen,
    Compared,
    Expression,
    Fixed,
    Given,
    Since,
    Stored,
    result_type,
)

Scalar = str | int | float | bool | None
Row = Mapping[str, Scalar]
Evaluate = Callable[[Row, Row, int], Any]
"""Of stored values by `view:feature`, inputs by name, and now in milliseconds since 1970."""

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def evaluator(
    expression: Expression, known: Mapping[str, Type], given: Mapping[str, Type]
) -> Evaluate:
    """A function of a row; DeclarationError if the expression does not hold together."""
    result_type("expression", expression, known, given)
    return _python(expression, known, given)


def sql(
    expression: Expression,
    known: Mapping[str, Type],
    given: Mapping[str, Type],
    stored_as: Callable[[str], str],
    given_as: Callable[[str], str],
    now: str,
) -> str:
    """The expression in DuckDB's SQL.

    `stored_as` and `given_as` make a quoted column of a feature's or an input's name; `now` is an
    SQL expression of milliseconds since 1970, as BIGINT.
    """
    result_type("expression", expression, known, given)

    def text(part: Expression) -> str:
        match part:
            case Fixed(value):
                if isinstance(value, bool):
                    return "TRUE" if value else "FALSE"
                if isinstance(value, str):
                    return literal(value)
                return f"CAST({float(value)!r} AS DOUBLE)"
            case Stored(name):
                return _column(stored_as(name), known[name])
            case Given(name):
                return _column(given_as(name), given[name])
            case Arithmetic("/", left, right):
                return _finite(f"({text(left)} / nullif({text(right)}, 0))")
            case Arithmetic(sign, left, right):
                return _finite(f"({text(left)} {sign} {text(right)})")
            case Compared(sign, left, right):
                return f"({text(left)} {sign} {text(right)})"
            case Chosen(condition, then, otherwise):
                return f"(CASE WHEN {text(condition)} THEN {text(then)} ELSE {text(otherwise)} END)"
            case Since(moment):
                return f"(CAST({now} - {text(moment)} AS DOUBLE) / 1000)"
        raise TypeError(type(part).__name__)

    return text(expression)


def _column(name: str, type_: Type) -> str:
    if type_ in (Type.INT64, Type.FLOAT64):
        return _finite(f"CAST({name} AS DOUBLE)")
    return f"CAST({name} AS BIGINT)" if type_ is Type.TIMESTAMP else name


def _finite(text: str) -> str:
    return f"list_extract(list_filter([{text}], lambda x: isfinite(x)), 1)"


def _python(
    expression: Expression, known: Mapping[str, Type], given: Mapping[str, Type]
) -> Evaluate:
    def inner(part: Expression) -> Evaluate:
        return _python(part, known, given)

    match expression:
        case Fixed(value):
            fixed = value if isinstance(value, str | bool) else float(value)
            return lambda stored, inputs, now: fixed
        case Stored(name):
            if known[name] in (Type.INT64, Type.FLOAT64):
                return lambda stored, inputs, now: _number(stored[name])
            return lambda stored, inputs, now: stored[name]
        case Given(name):
            if given[name] in (Type.INT64, Type.FLOAT64):
                return lambda stored, inputs, now: _number(inputs[name])
            return lambda stored, inputs, now: inputs[name]
        case Arithmetic(sign, left, right):
            return _arithmetic(sign, inner(left), inner(right))
        case Compared(sign, left, right):
            return _compared(_COMPARE[sign], inner(left), inner(right))
        case Chosen(condition, then, otherwise):
            holds, yes, no = inner(condition), inner(then), inner(otherwise)
            return lambda stored, inputs, now: (
                yes(stored, inputs, now) if holds(stored, inputs, now) else no(stored, inputs, now)
            )
        case Since(moment):
            return _since(inner(moment))
    raise TypeError(type(expression).__name__)


def _number(value: Scalar) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if isfinite(number) else None


def _arithmetic(sign: str, left: Evaluate, right: Evaluate) -> Evaluate:
    act: dict[str, Callable[[float, float], float]] = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": operator.truediv,
    }
    apply = act[sign]

    def evaluate(stored: Row, inputs: Row, now: int) -> float | None:
        a, b = left(stored, inputs, now), right(stored, inputs, now)
        if a is None or b is None or (sign == "/" and b == 0):
            return None
        return _number(apply(a, b))

    return evaluate


def _compared(compare: Callable[[Any, Any], bool], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(stored: Row, inputs: Row, now: int) -> bool | None:
        a, b = left(stored, inputs, now), right(stored, inputs, now)
        return None if a is None or b is None else compare(a, b)

    return evaluate


def _since(moment: Evaluate) -> Evaluate:
    def evaluate(stored: Row, inputs: Row, now: int) -> float | None:
        then = moment(stored, inputs, now)
        return None if then is None else float(now - then) / 1000

    return evaluate
