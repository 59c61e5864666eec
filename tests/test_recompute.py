"""The plain-Python definition of the aggregations, checked by hand."""

from __future__ import annotations

import pytest

from headwater.recompute import recompute, same
from schemas import (
    Column,
    Entity,
    EventStream,
    Feature,
    FeatureView,
    Type,
    Window,
    count,
    days,
    largest,
    last,
    mean,
    minutes,
    smallest,
    stddev,
    total,
)

CLICKS = EventStream(
    "clicks",
    "clicks",
    (
        Column("user", Type.STRING),
        Column("price", Type.FLOAT64, required=False),
        Column("page", Type.STRING),
    ),
    partition_by="user",
)
MINUTE = 60_000
TEN = Window(minutes(10), minutes(1))
OPS = (count(), count("price"), total("price"), mean("price"), smallest("price"))
OPS += (largest("price"), stddev("price"), last("page"))
VIEW = FeatureView(
    "v",
    CLICKS,
    (Entity("user", "user"),),
    tuple(Feature(f"f{i}", op, TEN) for i, op in enumerate(OPS)),
    ttl=days(1),
)


def event(time, price=None, page="p"):
    return {"event_time": time, "user": "u", "price": price, "page": page}


def values(events, at):
    return list(recompute(VIEW, events, at).values())


def test_every_aggregation_over_three_events():
    events = [event(3 * MINUTE, 4.0, "c"), event(MINUTE, 2.0, "a"), event(2 * MINUTE, None, "b")]
    assert values(events, 3 * MINUTE) == [3, 2, 6.0, 3.0, 2.0, 4.0, 1.0, "c"]


def test_an_empty_window_counts_zero_and_has_no_other_value():
    assert values([], 0) == [0, 0, *[None] * 6]


def test_the_head_is_exact():
    events = [event(MINUTE, 1.0), event(MINUTE + 1, 9.0)]
    assert values(events, MINUTE)[2] == 1.0
    assert values(events, MINUTE + 1)[2] == 10.0


@pytest.mark.parametrize(("at", "found"), [(11 * MINUTE - 1, 1), (11 * MINUTE, 0)])
def test_the_tail_moves_by_one_tile(at, found):
    for time in (1, MINUTE - 5, MINUTE):  # one tile: (0, MINUTE]
        assert values([event(time)], at)[0] == found


def test_ties_have_one_order_whatever_the_order_of_arrival():
    tied = [event(MINUTE, 1.0, "a"), event(MINUTE, 2.0, "b"), event(MINUTE, 2.0, "c")]
    assert values(tied, MINUTE) == values(tied[::-1], MINUTE)
    assert values(tied, MINUTE)[-1] == "c"


def test_floats_may_differ_in_their_last_digits_only():
    assert same(0.1 + 0.2, 0.3)
    assert not same(0.3, 0.3001)
    assert not same(None, 0.0)
    assert same("a", "a")
