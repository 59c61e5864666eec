"""The platform's catalog, registry and online store, opened by its settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headwater.settings import Settings
from iceberg.catalog import open_catalog
from schemas import HeadwaterError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from feature_repo.registration import RegistrySettings


def catalog(settings: Settings) -> Catalog:
    """The Iceberg catalog of the platform."""
    return open_catalog(settings.catalog_url(), settings.warehouse)


class RedisUnavailable(HeadwaterError):
    """Redis does not answer or refuses; the text has its address and what it said."""

    exit_code = 1


@contextmanager
def online(settings: Settings) -> Iterator[Any]:
    """The online store, a Redis until it is done with; RedisUnavailable for what fails of it."""
    import redis  # it takes a while, and most commands need none

    try:
        with redis.Redis.from_url(settings.redis_url) as client:
            yield client
    except redis.RedisError as error:
        there = urlsplit(settings.redis_url)
        raise RedisUnavailable(f"Redis at {there.hostname}:{there.port}: {error}") from error


def registry(settings: Settings) -> RegistrySettings:
    """Where Feast finds the registry and the stores of the platform."""
    from feature_repo.registration import RegistrySettings

    uri = settings.postgres_url("headwater", "postgresql+psycopg")
    redis = settings.redis_url.removeprefix("redis://")
    return RegistrySettings(uri, settings.catalog_url(), settings.warehouse, redis)
