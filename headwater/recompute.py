"""What a view's values should be, in plain Python: slow, obvious, and independent of the jobs.

The demo and the tests hold the platform against it.
"""

from __future__ import annotations

import json
import math
import operator
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from schemas import (
    EVENT_TIME,
    Aggregation,
    Comparison,
    Condition,
    Feature,
    FeatureView,
    Op,
    Operator,
    Type,
    Window,
)

Scalar = str | int | float | bool | None
Event = Mapping[str, Scalar]

_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.LT: operator.lt,
    Operator.LE: operator.le,
    Operator.GT: operator.gt,
    Operator.GE: operator.ge,
}

_ADDED = (Op.SUM, Op.MEAN, Op.STDDEV, Op.VARIANCE, Op.SHARE)
_RELATIVE = 1e-9
_LAST_DIGITS = 1e-14
"""Of all that is added; a float has one in 4.5e15."""


def recompute(view: FeatureView, events: Iterable[Event], at: int) -> dict[str, Scalar]:
    """The values of a stream view for one entity at `at` (milliseconds since 1970 UTC).

    `events` are that entity's events, in any order; those after `at` play no part. All values are
    exact, also those that the platform estimates: `matches` compares the two. One that breaks an
    expectation which rejects is null.
    """
    floats = {c.name for c in view.source.columns if c.type is Type.FLOAT64}
    known = sorted(
        ({k: _typed(v, k in floats) for k, v in e.items()} for e in events if event_time(e) <= at),
        key=lambda event: _order(event, _read(view)),
    )
    return view.let_out({f.name: _value(f, known, at) for f in view.features})


def instants(view: FeatureView, events: Iterable[Event]) -> list[int]:
    """When the values of one entity may change: at its events, and as their tiles expire."""
    found = set()
    windows = {f.window for f in view.features if f.window is not None}
    for event in events:
        found.add(event_time(event))
        for window in windows:
            tile = window.resolution.seconds * 1000
            found.add(-(-event_time(event) // tile) * tile + window.size.seconds * 1000)
    return sorted(found)


def holds(condition: Condition | None, event: Event) -> bool:
    """Whether a row counts; as in SQL, no comparison with a null is true."""
    return condition is None or all(_compares(c, event) for c in condition.comparisons)


def _compares(comparison: Comparison, event: Event) -> bool:
    value = event.get(comparison.column)
    if comparison.operator.is_unary:
        return (value is None) == (comparison.operator is Operator.IS_NULL)
    if value is None:
        return False
    return _COMPARE[comparison.operator](value, comparison.literal)


def window_start(window: Window, at: int) -> int:
    """The instant after which an event counts: floor(at - size, tile), in milliseconds."""
    tile = window.resolution.seconds * 1000
    return (at - window.size.seconds * 1000) // tile * tile


def _value(feature: Feature, known: Sequence[Event], at: int) -> Scalar:
    if feature.window is not None:
        start = window_start(feature.window, at)
        known = [event for event in known if event_time(event) > start]
    how = feature.aggregation
    column, op = how.column, how.op
    known = [event for event in known if holds(how.where, event)]
    if how.condition is not None:
        found = sum(holds(how.condition, event) for event in known)
        return found / len(known) if known else None
    if column is None:
        return len(known)
    values = [value for event in known if (value := event.get(column)) is not None]
    if op is Op.COUNT:
        return len(values)
    if op is Op.DISTINCT:
        return len(set(values))
    if not values:
        return None
    match op:
        case Op.LAST:
            return values[-1]
        case Op.FIRST:
            return values[0]
        case Op.LAST_N:
            return json.dumps(values[-int(how.parameter or 0) :], ensure_ascii=False)
    return _of_numbers(how, [float(v) if isinstance(v, float) else int(v) for v in values])


def _of_numbers(how: Aggregation, numbers: Sequence[float]) -> Scalar:
    """Of at least one number; all are whole, or all floats."""
    match how.op:
        case Op.SUM:
            return _sum(numbers) if isinstance(numbers[0], float) else sum(numbers)
        case Op.MEAN:
            return _sum(numbers) / len(numbers)
        case Op.MIN:
            return min(numbers)
        case Op.MAX:
            return max(numbers)
        case Op.VARIANCE:
            return _variance(numbers)
        case Op.STDDEV:
            return math.sqrt(_variance(numbers))
        case Op.PERCENTILE:
            # In whole millionths: q as a float times n would round ranks up.
            millionths = round((how.parameter or 0) * 1_000_000)
            rank = max(1, -(-len(numbers) * millionths // 1_000_000))
            return float(sorted(numbers)[rank - 1])
    raise AssertionError(how.op)


def _sum(numbers: Sequence[float]) -> float:
    """Infinite beyond what a float holds, as it is where they are added one after the other."""
    try:
        return math.fsum(numbers)
    except OverflowError:
        return float(sum(numbers))


def _variance(numbers: Sequence[float]) -> float:
    mean = _sum(numbers) / len(numbers)
    if math.isinf(mean):
        # The platform's has no sum behind it, and goes from number to number.
        mean = math.fsum(n / len(numbers) for n in numbers)
    return _sum([(n - mean) * (n - mean) for n in numbers]) / len(numbers)


def same(left: Scalar, right: Scalar) -> bool:
    """Equal, but for the last digits of a float."""
    if isinstance(left, float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=_RELATIVE)
    return left == right


def matches(feature: Feature, value: Scalar, exact: Scalar, events: Iterable[Event] = ()) -> bool:
    """Whether the platform's `value` is the `exact` one, within the bound of an estimate.

    A distinct count is exact up to 1024, but for one in a hundred that may be off by one, and
    beyond within five standard errors of 1.6 %; a percentile is up to 1/128 closer to zero. What is
    added up of floats depends in its last digits on the order: on those of the numbers in `events`,
    which the value was made of, where they cancel each other out. Null is right, too, where the
    exact value is beyond what a float holds: JSON, and so an answer, has no infinite numbers.
    """
    how = feature.aggregation
    op = how.op
    if value is None and isinstance(exact, float) and not math.isfinite(exact):
        return True
    if value is None or exact is None:
        return value is exact
    if op is Op.DISTINCT:
        assert isinstance(value, int | float) and isinstance(exact, int | float)
        slack = 0.08 * exact if exact > 1024 else 1 if exact > 100 else 0
        return abs(value - exact) <= slack
    if op is Op.PERCENTILE:
        assert isinstance(value, int | float) and isinstance(exact, int | float)
        # Numbers below the smallest normal one have fewer bits to keep.
        slack = abs(exact) / 128 + sys.float_info.min
        return value * exact >= 0 and 0 <= abs(exact) - abs(value) <= slack
    if op is Op.LAST_N:
        return bool(json.loads(str(value)) == json.loads(str(exact)))
    if op not in _ADDED or not isinstance(exact, float):
        return same(value, exact)
    assert isinstance(value, int | float)
    if op is Op.VARIANCE:
        if value < 0:
            return False
        value, exact = math.sqrt(value), math.sqrt(exact)
    numbers = (event.get(how.column or "") for event in events)
    # Of each, since they may come to more than a float holds.
    digits = math.fsum(_LAST_DIGITS * abs(n) for n in numbers if isinstance(n, int | float))
    return math.isclose(value, exact, rel_tol=_RELATIVE, abs_tol=digits)


def _read(view: FeatureView) -> list[str | Condition]:
    """What the kernel reads of a row, in its order, which decides between rows of one time."""
    read: dict[str | Condition, None] = {}
    for feature in view.features:
        how = feature.aggregation
        read |= dict.fromkeys(x for x in (how.condition, how.column, how.where) if x is not None)
    return list(read)


def _typed(value: Scalar, is_float: bool) -> Scalar:
    """JSON may hold the whole numbers of a float column without a point."""
    return float(value) if is_float and isinstance(value, int) else value


def _order(event: Event, read: Sequence[str | Condition]) -> tuple[object, ...]:
    """By event time; at the same time by content: nulls, then numbers as bits, then strings."""
    values = [holds(x, event) if isinstance(x, Condition) else event.get(x) for x in read]
    nulls = sum(1 << i for i, value in enumerate(values) if value is None)
    numbers = [_word(value) for value in values]
    strings = [value if isinstance(value, str) else "" for value in values]
    return (event_time(event), nulls, numbers, strings)


def _word(value: Scalar) -> int:
    if value is None or isinstance(value, str):
        return 0
    if isinstance(value, float):
        return int(struct.unpack("<q", struct.pack("<d", value))[0])
    return int(value)


def event_time(event: Event) -> int:
    """Milliseconds since 1970 UTC."""
    value = event[EVENT_TIME]
    assert isinstance(value, int)
    return value
