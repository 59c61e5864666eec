"""Which version of a value counts while a replay is being promoted (`connectors.promotion`).

Nearly always none is, and a lookup reads live keys and nothing else; a look at Redis a few times
a second tells otherwise. While one is, or while that look is overdue, a lookup reads the switch in
the same transaction as the values, and of each view that it names both versions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from api.errors import StoreUnavailable
from api.plan import Group
from api.resp import Redis, RedisLost, RedisRefused, command_bytes
from api.store import OnlineStore
from api.watch import Watch
from connectors.promotion import NOTICE_SECONDS, other_wins, switch_key, until_field
from connectors.redis_codec import epoch_field

_LOOK_SECONDS = NOTICE_SECONDS / 5
_OVERDUE_SECONDS = NOTICE_SECONDS / 2
_TRIES = 5


class Switch(Watch):
    """Knows whether values are being switched, and reads them so that no answer shows a mix."""

    def __init__(self, redis: Redis, store: OnlineStore, project: str) -> None:
        super().__init__(_LOOK_SECONDS)
        self._redis = redis
        self._store = store
        self._project = project
        self._ask = command_bytes("HGETALL", switch_key(project))
        self._known: dict[str, str] = {}
        self._looked = -float("inf")

    @property
    def quiet_until(self) -> float | None:
        """Until when what Redis answers of live keys alone is of one version, by the monotonic
        clock; None if it may be of two: something is being switched, or the last look is too old
        to tell."""
        if self._known or time.monotonic() - self._looked >= _OVERDUE_SECONDS:
            return None
        return self._looked + NOTICE_SECONDS

    @property
    def views(self) -> frozenset[str]:
        """Those whose values are being switched, as far as is known."""
        return frozenset(self._known)

    async def read(
        self, groups: Sequence[Group], keys: Sequence[Sequence[bytes]], traced: bool
    ) -> list[Any]:
        """For each key of each group the reply to its HMGET, all of one version a view."""
        plain = [group.command(key) for group, its in zip(groups, keys, strict=True) for key in its]
        for _ in range(_TRIES):
            known = self._known
            both = [
                (place, view.view, suffix)
                for place, group in enumerate(groups)
                for view in group.views
                if (suffix := known.get(view.view, self._project).removeprefix(self._project))
            ]
            asked = [self._ask, *plain]
            for place, view, suffix in both:
                for key in keys[place]:
                    other = key + suffix.encode()
                    asked.append(command_bytes("HMGET", key, epoch_field(view)))
                    asked.append(
                        command_bytes("HMGET", other, epoch_field(view), until_field(view))
                    )
                    asked.append(groups[place].command(other))
            found = await self._store.read(asked, len(asked), traced)
            told = _pairs(found[0])
            if told == known:
                return _merged(groups, keys, found[1:], [(place, view) for place, view, _ in both])
            self._known = told
        raise StoreUnavailable("redis", "its values are being switched", 1.0)

    async def look(self) -> None:
        """Know what is being switched; if Redis does not tell, what was known grows old."""
        # Past the store and its counts: this is nobody's lookup.
        with suppress(RedisLost, RedisRefused, StoreUnavailable):
            began = time.monotonic()
            self._known = _pairs(await self._redis.ask(self._ask, 1))
            self._looked = began


def _merged(
    groups: Sequence[Group],
    keys: Sequence[Sequence[bytes]],
    found: list[Any],
    both: Sequence[tuple[int, str]],
) -> list[Any]:
    starts, at = [], 0
    for its in keys:
        starts.append(at)
        at += len(its)
    replies = found[:at]
    rest = iter(found[at:])
    for place, name in both:
        group = groups[place]
        (view,) = (one for one in group.views if one.view == name)
        taken = [
            view.time_at,
            *(slot.value_at for slot in group.slots if slot.column.view == name),
        ]
        for number in range(starts[place], starts[place] + len(keys[place])):
            told: list[Any] = [replies[number], next(rest), next(rest), next(rest)]
            if any(type(one) is not list for one in told):
                continue  # a key that holds something else than a hash
            reply, (live,), (other, until), values = told
            if other_wins(live, other, until):
                reply = list(reply)
                for field in taken:
                    reply[field] = values[field]
                replies[number] = reply
    return replies


def _pairs(reply: Any) -> dict[str, str]:
    """The reply to an HGETALL."""
    if isinstance(reply, dict):
        return {name.decode(): value.decode() for name, value in reply.items()}
    if not isinstance(reply, list):
        raise StoreUnavailable("redis", str(reply))
    pairs = iter(reply)
    return {name.decode(): value.decode() for name, value in zip(pairs, pairs, strict=True)}
