"""How much of Redis lookups may take at once."""

from __future__ import annotations

import pytest

from api.errors import Overloaded
from api.work import SMALL, Work


def test_large_lookups_wait_for_each_other_and_small_ones_for_none():
    work = Work(at_once=10 * SMALL)
    work.begin(8 * SMALL)
    work.begin(2 * SMALL)
    with pytest.raises(Overloaded, match="values are being read"):
        work.begin(SMALL + 1)
    for _ in range(64):
        work.begin(SMALL)
    work.end(2 * SMALL)
    with pytest.raises(Overloaded):
        work.begin(2 * SMALL)
    for _ in range(64):
        work.end(SMALL)
    work.begin(2 * SMALL)


def test_a_lookup_that_is_larger_than_all_may_be_is_taken_alone():
    work = Work(at_once=10 * SMALL)
    work.begin(50 * SMALL)
    with pytest.raises(Overloaded):
        work.begin(2 * SMALL)
    work.end(50 * SMALL)
    assert work.asked == 0
    work.begin(50 * SMALL)
