"""Leaves a Redis that is no primary any more, as after a failover behind one address.

An open connection outlives a failover: it leads to what is a replica now, which goes on answering
with values that may not get newer. So the server is asked what it is twice a second, and a replica
is left for whoever the address leads to by then. If that is one too, lookups are refused, unless
replicas may be read: then for as long as it has heard of its primary within the bound.
"""

from __future__ import annotations

import logging

from api.resp import PING, Redis, RedisLost, RedisRefused, command_bytes
from api.store import OnlineStore
from api.watch import Watch
from observability.metrics import ApiMetrics

_LOOK_SECONDS = 0.5
_HELLO = command_bytes("HELLO")
_INFO = command_bytes("INFO", "replication")

log = logging.getLogger(__name__)


class Failover(Watch):
    """Watches what the online store's Redis is."""

    def __init__(
        self, redis: Redis, store: OnlineStore, behind_seconds: float, metrics: ApiMetrics
    ) -> None:
        super().__init__(_LOOK_SECONDS)
        self._redis = redis
        self._store = store
        self._most = behind_seconds
        self._behind = metrics.redis_behind
        self._answers = metrics.redis_answers

    async def look(self) -> None:
        """Leave a replica that may not be read; have the store refuse what is left of them."""
        answers = False
        try:
            await self._follow()
            # One that reads its file anew, or knows another password, says what it is and no more.
            await self._redis.ask(PING, 1)
            answers = not self._store.is_refused
        except (RedisLost, RedisRefused):
            pass  # Lookups meet it by themselves, and say so.
        finally:
            self._answers.set(answers)

    async def _follow(self) -> None:
        was_refused = self._store.is_refused
        if (behind := await self._seconds_behind()) > self._most:
            if not was_refused:
                log.warning("redis is a replica now: connecting anew")
            self._redis.leave()
            behind = await self._seconds_behind()
        self._behind.set(behind)
        refused = _told(behind) if behind > self._most else None
        self._store.refuse(refused)
        if self._store.is_refused != was_refused:
            log.warning("lookups are %s", f"refused: {refused}" if refused else "answered again")

    async def _seconds_behind(self) -> float:
        """Since it last heard of its primary; 0 if it is one, or does not say."""
        try:
            told = iter(await self._redis.ask(_HELLO, 1))
        except RedisRefused:  # a proxy before it, or a user who may not ask
            return 0.0
        if dict(zip(told, told, strict=False)).get(b"role") != b"replica":
            return 0.0
        try:
            lines = (await self._redis.ask(_INFO, 1)).decode().splitlines()
        except RedisRefused:
            return float("inf")
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        linked = found.get("master_link_status") == "up"
        name = "master_last_io_seconds_ago" if linked else "master_link_down_since_seconds"
        seconds = float(found.get(name, -1))
        # A second that has just begun counts: what is behind by less is behind.
        return seconds + 1 if seconds >= 0 else float("inf")


def _told(behind: float) -> str:
    if behind == float("inf"):
        return "its address leads to a replica that has never heard of its primary"
    return f"its address leads to a replica, {behind:.0f} s after it heard of its primary"
