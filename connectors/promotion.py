"""The switch between two versions of the values in Redis, as writers and readers must see it.

Values of a replay lie beside the live ones, under keys that end in `<project>~<replay>` instead
of `<project>`. While they are put in their place, entity by entity, a hash says for which views:

    headwater:<project>:switch    field: view    value: what the keys to look at end in

1. The writer announces it: the value is the project itself, live keys still count.
2. After NOTICE_SECONDS, in which every reader has looked at the hash, it sets the other ending.
   All values change at this instant.
3. It moves the values. Whichever of the two a reader looks at, it finds the same.
4. It takes the fields away.

A reader looks at the hash at least twice in NOTICE_SECONDS. While it is empty, it reads live keys
and nothing else. While it is not, or its last look is too old, it reads the hash in the same
transaction as the values, and of a view with another ending both hashes of an entity; the other
one's fields count if `other_wins`. A reader that knows nothing of all this sees values change
as they are moved, some dozen entities at an instant.
"""

from __future__ import annotations

import re

NOTICE_SECONDS = 1.0
"""From the announcement of a switch to the switch."""

_VERSION = re.compile(rb"\d+:(-?\d+)\Z")
_TIME = re.compile(rb"-?\d+\Z")


def switch_key(project: str) -> str:
    """The hash of the views that are being switched."""
    return f"headwater:{project}:switch"


def until_field(view: str) -> bytes:
    """The field of the other hash that says up to which event time of live it wins.

    Milliseconds since 1970 UTC. Without it, the event time of its own `epoch_field` counts.
    """
    return f"_until:{view}".encode()


def other_wins(live: bytes | None, other: bytes | None, until: bytes | None) -> bool:
    """Whether the other hash's values of a view count, of an entity.

    `live` and `other` are the two hashes' `epoch_field`s, `until` the other's `until_field`. They
    count unless there are none, or live has become newer.
    """
    if other is None:
        return False
    limit = int(until) if until is not None and _TIME.match(until) else _time(other)
    now = None if live is None else _time(live)
    return now is None or (limit is not None and now <= limit)


def _time(version: bytes) -> int | None:
    """The event time of `<epoch>:<event time>`; None for what is no version, which loses."""
    found = _VERSION.match(version)
    return None if found is None else int(found[1])
