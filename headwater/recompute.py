"""What a view's values should be, in plain Python: slow, obvious, and independent of the jobs.

The demo and the tests hold the platform against it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence

from schemas import EVENT_TIME, Feature, FeatureView, Op, Window

Scalar = str | int | float | bool | None
Event = Mapping[str, Scalar]


def recompute(view: FeatureView, events: Iterable[Event], at: int) -> dict[str, Scalar]:
    """The values of a stream view for one entity at `at` (milliseconds since 1970 UTC).

    `events` are that entity's events, in any order; those after `at` play no part.
    """
    columns = list(dict.fromkeys(f.aggregation.column for f in view.features))
    read = [column for column in columns if column is not None]
    known = sorted((e for e in events if _time(e) <= at), key=lambda e: _order(e, read))
    return {feature.name: _value(feature, known, at) for feature in view.features}


def window_start(window: Window, at: int) -> int:
    """The instant after which an event counts: floor(at - size, tile), in milliseconds."""
    tile = window.resolution.seconds * 1000
    return (at - window.size.seconds * 1000) // tile * tile


def _value(feature: Feature, known: Sequence[Event], at: int) -> Scalar:
    if feature.window is not None:
        start = window_start(feature.window, at)
        known = [event for event in known if _time(event) > start]
    column, op = feature.aggregation.column, feature.aggregation.op
    if column is None:
        return len(known)
    values = [value for event in known if (value := event.get(column)) is not None]
    if op is Op.COUNT:
        return len(values)
    if not values:
        return None
    if op is Op.LAST:
        return values[-1]
    numbers = [float(v) if isinstance(v, float) else int(v) for v in values]
    mean = math.fsum(numbers) / len(numbers)
    match op:
        case Op.SUM:
            return math.fsum(numbers) if isinstance(numbers[0], float) else sum(numbers)
        case Op.MEAN:
            return mean
        case Op.MIN:
            return min(numbers)
        case Op.MAX:
            return max(numbers)
        case Op.STDDEV:
            return math.sqrt(math.fsum((n - mean) ** 2 for n in numbers) / len(numbers))
    raise AssertionError(op)


def same(left: Scalar, right: Scalar) -> bool:
    """Equal, but for the last digits of a float, which depend on the order of additions."""
    if isinstance(left, float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-6)
    return left == right


def _order(event: Event, columns: Sequence[str]) -> tuple[object, ...]:
    """By event time; at the same time by content: nulls, then numbers as bits, then strings."""
    values = [event.get(column) for column in columns]
    nulls = sum(1 << i for i, value in enumerate(values) if value is None)
    numbers = [_word(value) for value in values]
    strings = [value if isinstance(value, str) else "" for value in values]
    return (_time(event), nulls, numbers, strings)


def _word(value: Scalar) -> int:
    if value is None or isinstance(value, str):
        return 0
    if isinstance(value, float):
        return int(struct.unpack("<q", struct.pack("<d", value))[0])
    return int(value)


def _time(event: Event) -> int:
    value = event[EVENT_TIME]
    assert isinstance(value, int)
    return value
