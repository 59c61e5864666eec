"""The text of an entity's values, made anew only where Redis has given other bytes.

Most entities are looked up far more often than their features change. Bytes that are those of the
last time need neither be decoded nor be written as JSON again. Nothing can be stale by it: what
was made of the bytes is all that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any
from weakref import WeakSet

_FIELD_BYTES = 48
_ENTITY_BYTES = 256
"""What Python needs for each field of a reply and for each entity, beside the values."""

LONGEST_KEY = 256
"""Nothing is kept by a longer key, of characters or bytes: one may fill a request."""

Reply = list[bytes | None]
"""The fields of one entity's hash."""

Make = Callable[[Sequence[Reply]], tuple[Sequence[bytes], Collection[int]]]
"""From replies to their texts, and the places of those that are not to be kept."""


class Room:
    """How many bytes all that share it may keep; when it is full all of them are emptied."""

    __slots__ = ("_shared_by", "_size", "left")

    def __init__(self, size: int) -> None:
        self._size = size
        self._shared_by: WeakSet[Texts] = WeakSet()
        self.left = size

    def share(self, texts: Texts) -> None:
        """Have one more share it."""
        self._shared_by.add(texts)

    def take(self, size: int) -> None:
        """Room for so much more, which is emptied with the rest if there is none."""
        self.left -= size
        if self.left < 0:
            self.left = self._size
            for texts in self._shared_by:
                texts.clear()


class Texts:
    """The texts of some columns, by entity."""

    __slots__ = ("__weakref__", "_known", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._known: dict[Any, tuple[Reply, bytes]] = {}
        room.share(self)

    def clear(self) -> None:
        """Keep none."""
        self._known.clear()

    def of(self, entities: Iterable[Any], replies: Sequence[Reply], make: Make) -> list[bytes]:
        """The text of each reply, which `make` is asked for where it is not known."""
        found = list(map(self._known.get, entities))
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
        names, known = list(entities), self._known
        more = 0
        for place, (at, text) in enumerate(zip(changed, made, strict=True)):
            texts[at] = text
            name = names[at]
            if place in unkept:
                continue
            held = known.get(name)
            if held is not None or _is_short(name):
                more += _size(replies[at], text) - (0 if held is None else _size(*held))
                known[name] = (replies[at], text)
        self._room.take(more)


def _size(reply: Reply, text: bytes) -> int:
    """About how many bytes a text and its reply take, which has the same values."""
    return 2 * len(text) + _FIELD_BYTES * len(reply) + _ENTITY_BYTES


def _is_short(entity: Any) -> bool:
    """Whether each key of an entity is an integer or no longer than LONGEST_KEY."""
    kind = type(entity)
    if kind is str:
        return len(entity) <= LONGEST_KEY
    return kind is int or all(map(_is_short, entity))
