"""Whether a changed event schema can live with what was written, or is read, under the old one.

A topic is read from its beginning again and again, so that old events never go away: a change must
be backward compatible, or what comes needs a stream of a new name on a topic of its own.

    backward    the new readers take every event that the old schema allowed
    forward     the old readers take every event that the new schema allows
    full        both
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from schemas.event import MILLISECONDS

Schema = Mapping[str, Any]


class Level(Enum):
    """How much is asked of a change."""

    BACKWARD = "backward"
    FORWARD = "forward"
    FULL = "full"


def incompatibilities(old: Schema, new: Schema, level: Level) -> list[str]:
    """Why `new` cannot follow `old`, each with the path of the field; none if it can.

    Both are schemas as `schemas.event.json_schema` makes them. Readers pass over fields they do
    not know, so that a field may come and go as long as nobody requires it; its column in the
    archive stays. That column has one type: a whole number is no float64, nor a time.
    """
    found = []
    if level in (Level.BACKWARD, Level.FULL):
        found += [f"backward: {text}" for text in _refusals(written=old, read=new)]
    if level in (Level.FORWARD, Level.FULL):
        found += [f"forward: {text}" for text in _refusals(written=new, read=old)]
    return found


def _refusals(written: Schema, read: Schema) -> Iterator[str]:
    """What readers with the schema `read` refuse in events of the schema `written`."""
    always = set(written.get("required", ()))
    for name, wanted in read["properties"].items():
        there = written["properties"].get(name)
        needed = name in read.get("required", ())
        if needed and (there is None or name not in always):
            what = "optional" if there else "not there"
            yield f"$.{name}: required by readers, {what} in the events"
        elif there is not None:
            refused = _types(there) - _types(wanted)
            if refused:
                yield (
                    f"$.{name}: {' or '.join(sorted(refused))} in the events,"
                    f" {' or '.join(sorted(_types(wanted)))} for readers"
                )


def _types(field: Schema) -> set[str]:
    kind = field["type"]
    kinds = {kind} if isinstance(kind, str) else set(kind)
    if field.get("description", "").endswith(MILLISECONDS):
        kinds = {"timestamp" if one == "integer" else one for one in kinds}
    return kinds
