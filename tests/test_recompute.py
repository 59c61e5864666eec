"""The plain-Python definition of the aggregations, checked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from headwater.recompute import matches, recompute, same
from schemas import (
    Column,
    Entity,
    EventStream,
    Feature,
    FeatureView,
    Type,
    Window,
    col,
    count,
    days,
    distinct,
    first,
    largest,
    last,
    last_n,
    mean,
    minutes,
    percentile,
    share,
    smallest,
    stddev,
    total,
    variance,
    within,
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
    assert not same(0.0, 9e-7)


def test_what_is_not_added_up_is_equal():
    for op in (smallest, largest, first, last):
        assert matches(Feature("f", op("price")), 2.5, 2.5)
        assert not matches(Feature("f", op("price")), 0.0, 9e-7)


def test_what_is_added_up_is_as_right_as_its_numbers_allow():
    small = [event(n, n * 1e-8) for n in range(100)]
    large = [event(0, 0.1), event(1, 1e9), event(2, -1e9)]
    for op in (total, mean, stddev, variance):
        feature = Feature("f", op("price"))
        assert matches(feature, 0.1 + 0.2, 0.3, small)
        assert not matches(feature, 0.0, 9e-7, small)
        assert not matches(feature, 9e-7, 0.0, small)
    # One after the other they come to 0.10000002384185791 and, the other way round, to 0.1.
    assert matches(Feature("f", total("price")), sum(e["price"] for e in large), 0.1, large)
    assert not matches(Feature("f", total("price")), 0.1001, 0.1, large)
    assert not matches(Feature("f", variance("price")), -1e-30, 0.0, large)


def test_the_later_aggregations_over_four_events():
    four = [event(n * MINUTE, p, q) for n, p, q in ((1, 4.0, "a"), (2, None, "b"), (3, 2.0, "a"))]
    four.append(event(4 * MINUTE, 9.0, "c"))
    cheap = col("price") < 5
    ops = (variance("price"), first("page"), share(cheap), distinct("page"), last_n("page", 2))
    ops += (percentile("price", 0.5), count(where=cheap), last("page", where=col("page") != "c"))
    view = FeatureView(
        "v",
        CLICKS,
        VIEW.entities,
        tuple(Feature(f"f{i}", op, TEN) for i, op in enumerate(ops)),
        ttl=days(1),
    )
    found = list(recompute(view, four, 4 * MINUTE).values())
    assert found == [26 / 3, "a", 0.5, 3, '["a", "c"]', 4.0, 2, "a"]
    assert list(recompute(view, [], 0).values()) == [*[None] * 3, 0, None, None, 0, None]


def test_a_value_that_is_rejected_is_null():
    rejecting = replace(VIEW, expectations=(within("f0", 0, 2, reject=True),), checked=minutes(1))
    events = [event(n * MINUTE, 1.0) for n in range(3)]
    assert recompute(rejecting, events, MINUTE) == recompute(VIEW, events, MINUTE)
    assert recompute(rejecting, events, 2 * MINUTE)["f0"] is None


def test_estimates_match_within_their_bounds_only():
    many, median = Feature("n", distinct("page")), Feature("m", percentile("price", 0.5))
    assert matches(many, 10_500, 10_000) and not matches(many, 11_000, 10_000)
    assert matches(many, 50, 50) and not matches(many, 51, 50)
    assert matches(median, -994.0, -1000.0) and not matches(median, -990.0, -1000.0)
    assert not matches(median, None, 1.0)


def test_what_is_beyond_a_float_is_infinite_and_answered_with_nothing():
    """As the platform's own sums are. What is not added up is as it is, and so is a deviation."""
    ops = (total, mean, smallest, largest, variance, stddev)
    view = replace(
        VIEW, features=tuple(Feature(f"f{i}", op("price"), TEN) for i, op in enumerate(ops))
    )
    infinite = math.inf

    def expected(*prices):
        found = recompute(view, [event(n, price) for n, price in enumerate(prices)], MINUTE)
        return list(found.values())

    large = 1.7e308
    assert expected(large, large) == [infinite, infinite, large, large, 0.0, 0.0]
    assert expected(-large, -large) == [-infinite, -infinite, -large, -large, 0.0, 0.0]
    apart = [0.0, 0.0, -1e200, 1e200, infinite, infinite]
    assert expected(-1e200, 1e200) == apart
    for feature, exact in zip(view.features, apart, strict=True):
        assert matches(feature, None, exact) == (exact == infinite)
        assert matches(feature, exact, exact, [event(1, large), event(2, large)])
        assert matches(feature, 1.5, exact) is False
