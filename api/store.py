"""The online store, read in one round trip."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from opentelemetry.trace import SpanKind, Tracer

from api.breaker import Breaker
from api.errors import StoreUnavailable
from api.resp import PING, Preamble, Redis, RedisLost, RedisRefused, command_bytes
from observability.metrics import ApiMetrics

CONNECT_SECONDS = 1.0
REPLY_SECONDS = 0.5
FAILURES = 5
OPEN_SECONDS = 1.0

_MULTI = command_bytes("MULTI")
_EXEC = command_bytes("EXEC")
_NO_HASH = "WRONGTYPE"
"""How Redis begins to refuse what is no hash; all else that it refuses is about itself."""


def connect(url: str, reply_seconds: float = REPLY_SECONDS) -> Redis:
    """The server at `url`: redis[s]://[user:password@]host[:port][/database]."""
    return Redis(url, CONNECT_SECONDS, reply_seconds)


def _queued(count: int) -> Preamble:
    """What Redis says of so many commands before it carries them out."""
    return Preamble(b"+OK\r\n" + b"+QUEUED\r\n" * count, 1 + count)


class OnlineStore:
    """Reads hashes from Redis, timed and traced, and leaves it alone while it does not answer."""

    def __init__(self, redis: Redis, tracer: Tracer, metrics: ApiMetrics) -> None:
        self._redis = redis
        self._tracer = tracer
        self._metrics = metrics
        self._breaker = Breaker(FAILURES, OPEN_SECONDS, time.monotonic)
        self._refused: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether it was told to read nothing."""
        return self._refused is not None

    def refuse(self, why: str | None) -> None:
        """Read nothing, and say why, until it is None again."""
        self._refused = why

    def _check_refused(self) -> None:
        if self._refused is not None:
            raise StoreUnavailable("redis", self._refused, OPEN_SECONDS)

    async def read(self, data: Sequence[bytes], count: int, traced: bool = False) -> list[Any]:
        """The replies to the `count` commands in `data`, as of one moment.

        StoreUnavailable if Redis is down.

        A reply is an exception where Redis refused just that command.
        """
        if not count:
            return []
        if traced:
            attributes: dict[str, str | int] = {
                "db.system.name": "redis",
                "db.operation.batch.size": count,
            }
            with self._tracer.start_as_current_span(
                "redis HMGET", kind=SpanKind.CLIENT, attributes=attributes
            ):
                return await self._read(data, count)
        return await self._read(data, count)

    async def _read(self, data: Sequence[bytes], count: int) -> list[Any]:
        self._check_refused()
        if wait := self._breaker.wait():
            raise StoreUnavailable("redis", "it did not answer the last requests", wait)
        started = time.perf_counter()
        try:
            if count == 1:
                found = [await self._redis.ask(b"".join(data), 1)]
            else:
                # A transaction, so that a promotion lies before the whole answer or after it.
                found = await self._redis.ask(
                    b"".join((_MULTI, *data, _EXEC)), count + 2, _queued(count)
                )
        except (RedisLost, RedisRefused) as error:
            if count > 1 or not str(error).startswith(_NO_HASH):
                self._breaker.failed()
                self._metrics.redis_errors.inc()
                raise StoreUnavailable("redis", str(error)) from error
            found = [error]  # as it would stand in a transaction's reply
        except BaseException:  # its caller has gone: that says nothing of Redis
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        self._metrics.redis_seconds.observe(time.perf_counter() - started)
        return found

    async def fields(self, key: bytes, *names: bytes) -> list[bytes | None]:
        """Fields of one hash; StoreUnavailable if they cannot be had."""
        try:
            found: list[bytes | None] = await self._redis.ask(
                command_bytes("HMGET", key, *names), 1
            )
        except (RedisLost, RedisRefused) as error:
            raise StoreUnavailable("redis", str(error)) from error
        return found

    async def ping(self) -> None:
        """Return if Redis answers; StoreUnavailable otherwise. It asks whatever came before."""
        self._check_refused()
        try:
            await self._redis.ask(PING, 1)
        except (RedisLost, RedisRefused) as error:
            raise StoreUnavailable("redis", str(error)) from error
        self._breaker.succeeded()

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.close()
