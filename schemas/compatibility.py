"""Whether a changed event schema can live with what was written, or is read, under the old one.

A topic is read from its beginning again and again, so that old events never go away: a change must
be backward compatible, or what comes needs a stream of a new name on a topic of its own.

    backward    the new readers take every event that the old schema allowed
    forward     the old readers take every event that the new schema allows
    full        both

What a removed field was is kept with the released schema: its events are there for ever, and one
that comes again under its name must be able to live with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from schemas.event import MILLISECONDS

Schema = Mapping[str, Any]

_REMOVED = "removed"
"""In a released schema: what each field was that versions before had, by name."""


class Level(Enum):
    """How much is asked of a change."""

    BACKWARD = "backward"
    FORWARD = "forward"
    FULL = "full"


def incompatibilities(old: Schema, new: Schema, level: Level) -> list[str]:
    """Why `new` cannot follow `old`, each with the path of the field; none if it can.

    `new` is a schema as `schemas.event.json_schema` makes it; `old` is one too, or what `released`
    made of it, and then what it had in versions before counts. Readers pass over fields they do
    not know, so that a field may come and go as long as nobody requires it; its column in the
    archive stays. That column has one type: a whole number is no float64, nor a time.
    """
    found: list[str] = []
    again = list(_again(old, new))
    if level in (Level.BACKWARD, Level.FULL):
        texts = [*_refusals(written=old, read=new)]
        texts += [text for name, was, now in again for text in _mismatch(name, was, now)]
        found += [f"backward: {text}" for text in dict.fromkeys(texts)]
    if level in (Level.FORWARD, Level.FULL):
        texts = [*_refusals(written=new, read=old)]
        texts += [text for name, was, now in again for text in _mismatch(name, now, was)]
        found += [f"forward: {text}" for text in dict.fromkeys(texts)]
    return found


def _again(old: Schema, new: Schema) -> Iterator[tuple[str, Schema, Schema]]:
    """The fields of a name that was removed once, what they were then and what they are now."""
    for name, formers in old.get(_REMOVED, {}).items():
        if name in new["properties"]:
            for was in formers:
                yield name, was, new["properties"][name]


def released(new: Schema, old: Schema | None) -> dict[str, Any]:
    """What is written down of a schema that is released after `old`, itself written down so.

    The schema, and what fields were that it or a version before has removed.
    """
    if old is None:
        return dict(new)
    removed = {name: list(formers) for name, formers in old.get(_REMOVED, {}).items()}
    for name, was in old["properties"].items():
        if name not in new["properties"] and was not in removed.setdefault(name, []):
            removed[name].append(was)
    return {**new, _REMOVED: removed} if removed else dict(new)


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
            yield from _mismatch(name, there, wanted)


def _mismatch(name: str, there: Schema, wanted: Schema) -> Iterator[str]:
    """What readers of a field refuse in events that have it."""
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
