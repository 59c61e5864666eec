"""Texts that are kept are those that would be made of the bytes there are now."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from api.texts import Reply, Room, Texts

VALUES = st.one_of(st.none(), st.binary(max_size=2))
LOOKUPS = st.lists(
    st.dictionaries(st.integers(0, 5), st.lists(VALUES, min_size=2, max_size=2), max_size=4),
    max_size=20,
)


class Maker:
    """Makes texts, and notes of what."""

    def __init__(self) -> None:
        self.made: list[Reply] = []

    def __call__(self, replies: Sequence[Reply]) -> tuple[list[bytes], set[int]]:
        self.made += replies
        unkept = {place for place, reply in enumerate(replies) if b"\xff" in reply}
        return [repr(reply).encode() for reply in replies], unkept


@given(LOOKUPS, st.integers(1, 8))
def test_a_text_is_always_that_of_the_bytes_there_are(lookups, size):
    texts = Texts(Room(size))
    for lookup in lookups:
        found = texts.of(lookup, list(lookup.values()), Maker())
        assert found == [repr(reply).encode() for reply in lookup.values()]


def test_only_what_has_changed_is_made_anew():
    texts, maker = Texts(Room(10)), Maker()
    texts.of("ab", [[b"1"], [None]], maker)
    assert maker.made == [[b"1"], [None]]
    texts.of("abc", [[b"1"], [b"2"], [b"3"]], maker)
    assert maker.made[2:] == [[b"2"], [b"3"]]
    texts.of("bca", [[b"2"], [b"3"], [b"1"]], maker)
    assert len(maker.made) == 4


def test_what_is_not_to_be_kept_is_made_each_time():
    texts, maker = Texts(Room(10)), Maker()
    for _ in range(2):
        texts.of("ab", [[b"\xff"], [b"1"]], maker)
    assert maker.made == [[b"\xff"], [b"1"], [b"\xff"]]


def test_room_is_shared_and_emptied_when_it_is_full():
    room = Room(3)
    one, other, maker = Texts(room), Texts(room), Maker()
    one.of("ab", [[b"1"], [b"2"]], maker)
    other.of("cd", [[b"3"], [b"4"]], maker)
    assert room.times == 1
    one.of("ab", [[b"1"], [b"2"]], maker)
    assert len(maker.made) == 6
