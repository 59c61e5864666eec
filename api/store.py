"""The online store, read in one round trip."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence

from opentelemetry.trace import SpanKind, Tracer
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.errors import StoreUnavailable
from observability.metrics import ApiMetrics

CONNECT_SECONDS = 0.5
REPLY_SECONDS = 0.5
CONNECTIONS = 64


def connect(url: str) -> Redis:
    """A client that gives up in bounded time: two tries of at most a second each."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=REPLY_SECONDS,
        # The second try is for a pooled connection that a restart of Redis has cut.
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)


class OnlineStore:
    """Reads hashes from Redis, timed and traced."""

    def __init__(self, redis: Redis, tracer: Tracer, metrics: ApiMetrics) -> None:
        self._redis = redis
        self._tracer = tracer
        self._metrics = metrics

    async def read(
        self, wanted: Sequence[tuple[bytes, tuple[bytes, ...]]]
    ) -> list[list[bytes | None]]:
        """For each (key, fields) the values of the fields; StoreUnavailable if Redis is down."""
        if not wanted:
            return []
        attributes: dict[str, str | int] = {
            "db.system.name": "redis",
            "db.operation.batch.size": len(wanted),
        }
        started = time.perf_counter()
        with self._tracer.start_as_current_span(
            "redis HMGET", kind=SpanKind.CLIENT, attributes=attributes
        ):
            try:
                # A transaction, so that a promotion lies before the whole answer or after it.
                pipeline = self._redis.pipeline(transaction=True)
                for key, fields in wanted:
                    pipeline.execute_command("HMGET", key, *fields)
                found: list[list[bytes | None]] = await pipeline.execute()
            except (RedisError, OSError) as error:
                self._metrics.redis_errors.inc()
                raise StoreUnavailable("redis", _reason(error)) from error
        self._metrics.redis_seconds.observe(time.perf_counter() - started)
        return found

    async def ping(self) -> None:
        """Return if Redis answers; StoreUnavailable otherwise."""
        try:
            reply: Awaitable[bool] = self._redis.execute_command("PING")  # type: ignore[no-untyped-call]
            await reply
        except (RedisError, OSError) as error:
            raise StoreUnavailable("redis", _reason(error)) from error

    async def close(self) -> None:
        """Give back all connections."""
        await self._redis.aclose()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
