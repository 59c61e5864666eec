"""The text of an entity's values, made anew only where Redis has given other bytes.

Most entities are looked up far more often than their features change. Bytes that are those of the
last time need neither be decoded nor be written as JSON again. Nothing can be stale by it: what
was made of the bytes is all that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

Reply = list[bytes | None]
"""The fields of one entity's hash."""

Make = Callable[[Sequence[Reply]], tuple[Sequence[bytes], Collection[int]]]
"""From replies to their texts, and the places of those that are not to be kept."""


class Room:
    """How many texts may be kept by all that share it; what is full is emptied."""

    __slots__ = ("_size", "left", "times")

    def __init__(self, size: int) -> None:
        self._size = size
        self.left = size
        self.times = 0
        """How often it was emptied."""

    def take(self, count: int) -> None:
        """Room for so many more."""
        self.left -= count
        if self.left < 0:
            self.left = self._size
            self.times += 1


class Texts:
    """The texts of some columns, by entity."""

    __slots__ = ("_known", "_room", "_times")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._times = room.times
        self._known: dict[Any, tuple[Reply, bytes]] = {}

    def of(self, entities: Iterable[Any], replies: Sequence[Reply], make: Make) -> list[bytes]:
        """The text of each reply, which `make` is asked for where it is not known."""
        if self._times != self._room.times:
            self._times = self._room.times
            self._known.clear()
        known = self._known
        found = list(map(known.get, entities))
        texts = [
            held[1] if held is not None and held[0] == reply else None
            for held, reply in zip(found, replies, strict=True)
        ]
        if None in texts:
            self._renew(entities, replies, texts, make)
        return texts  # type: ignore[return-value]

    def _renew(
        self,
        entities: Iterable[Any],
        replies: Sequence[Reply],
        texts: list[bytes | None],
        make: Make,
    ) -> None:
        changed = [at for at, text in enumerate(texts) if text is None]
        made, unkept = make([replies[at] for at in changed])
        names = list(entities)
        before = len(self._known)
        for place, (at, text) in enumerate(zip(changed, made, strict=True)):
            texts[at] = text
            if place not in unkept:
                self._known[names[at]] = (replies[at], text)
        self._room.take(len(self._known) - before)
