"""Texts that are kept are those that would be made of the bytes there are now."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.plan import Plan
from api.texts import Reply, Room, Texts, _size
from connectors.redis_codec import entity_key
from connectors.registered import served
from tests.test_api import SHOP, VISITS

VALUES = st.one_of(st.none(), st.binary(max_size=2))
LOOKUPS = st.lists(
    st.dictionaries(st.integers(0, 5), st.lists(VALUES, min_size=2, max_size=2), max_size=4),
    max_size=20,
)


ONE = _size([b"1"], repr([b"1"]).encode())
"""Of the room, what an entity takes."""


class Maker:
    """Makes texts, and notes of what."""

    def __init__(self) -> None:
        self.made: list[Reply] = []

    def __call__(self, replies: Sequence[Reply]) -> tuple[list[bytes], set[int]]:
        self.made += replies
        unkept = {place for place, reply in enumerate(replies) if b"\xff" in reply}
        return [repr(reply).encode() for reply in replies], unkept


def kept(*texts: Texts) -> int:
    """How much is kept in all."""
    return sum(_size(*held) for one in texts for held in one._known.values())


@given(LOOKUPS, st.integers(1, 8))
def test_a_text_is_always_that_of_the_bytes_there_are(lookups, size):
    texts = Texts(Room(size * ONE))
    for lookup in lookups:
        found = texts.of(lookup, list(lookup.values()), Maker())
        assert found == [repr(reply).encode() for reply in lookup.values()]


def test_only_what_has_changed_is_made_anew():
    texts, maker = Texts(Room(10 * ONE)), Maker()
    texts.of("ab", [[b"1"], [None]], maker)
    assert maker.made == [[b"1"], [None]]
    texts.of("abc", [[b"1"], [b"2"], [b"3"]], maker)
    assert maker.made[2:] == [[b"2"], [b"3"]]
    texts.of("bca", [[b"2"], [b"3"], [b"1"]], maker)
    assert len(maker.made) == 4


def test_what_is_not_to_be_kept_is_made_each_time():
    texts, maker = Texts(Room(10 * ONE)), Maker()
    for _ in range(2):
        texts.of("ab", [[b"\xff"], [b"1"]], maker)
    assert maker.made == [[b"\xff"], [b"1"], [b"\xff"]]


def test_room_is_shared_and_all_are_emptied_when_it_is_full():
    room = Room(3 * ONE)
    one, other, maker = Texts(room), Texts(room), Maker()
    one.of("ab", [[b"1"], [b"2"]], maker)
    other.of("cd", [[b"3"], [b"4"]], maker)
    assert (kept(one, other), room.left) == (0, 3 * ONE)
    one.of("ab", [[b"1"], [b"2"]], maker)
    assert len(maker.made) == 6


@given(st.lists(st.tuples(st.integers(0, 3), LOOKUPS), max_size=10), st.integers(1, 8))
def test_all_that_share_a_room_never_keep_more_than_it_holds(lookups, size):
    room = Room(size * ONE)
    sharing = [Texts(room) for _ in range(4)]
    for which, several in lookups:
        for lookup in several:
            sharing[which].of(lookup, list(lookup.values()), Maker())
            assert kept(*sharing) <= size * ONE
            assert room.left == size * ONE - kept(*sharing)


def test_lists_that_are_asked_for_no_more_leave_room():
    room = Room(1000 * ONE)
    sharing = [Texts(room) for _ in range(64)]
    for texts in sharing:
        texts.of(range(1000), [[b"1"]] * 1000, Maker())
    assert kept(*sharing) <= 1000 * ONE


@pytest.mark.parametrize("long", ["k" * (1 << 20), (7, "k" * (1 << 20)), ("k" * (1 << 20), "x")])
def test_nothing_is_kept_by_a_long_key(long):
    texts, maker = Texts(Room(10 * ONE)), Maker()
    for _ in range(2):
        assert texts.of([long, (7, "k" * 256)], [[b"1"], [b"2"]], maker) == [b"[b'1']", b"[b'2']"]
    assert maker.made == [[b"1"], [b"2"], [b"1"]]
    assert len(texts._known) == 1


def test_room_is_for_bytes_however_few_entities_they_are_of():
    texts, long = Texts(Room(10 * ONE)), [b"x" * 10 * ONE]
    texts.of("a", [[b"1"]], Maker())
    texts.of("b", [long], Maker())
    assert kept(texts) == 0


def test_a_key_is_encoded_the_same_whether_it_is_kept_or_not():
    (group,) = Plan(served(SHOP)).features(["visits:count_1h"]).groups
    kept = group.encode.__self__
    for page, sizes in (("k" * (1 << 20), [0, 0]), ("k" * 200, [1, 1])):
        key = entity_key("shop", VISITS.entities, {"user": 7, "page": page})
        entity = group.key_of({"user": 7, "page": page})
        found = []
        for _ in range(2):
            assert group.encode(entity) == b"%d\r\n%b" % (len(key), key)
            found.append(len(kept))
        assert found == sizes
