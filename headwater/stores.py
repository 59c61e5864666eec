"""The platform's catalog and registry, opened by its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwater.settings import Settings
from iceberg.catalog import open_catalog

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from feature_repo.registration import RegistrySettings


def catalog(settings: Settings) -> Catalog:
    """The Iceberg catalog of the platform."""
    return open_catalog(settings.catalog_url(), settings.warehouse)


def registry(settings: Settings) -> RegistrySettings:
    """Where Feast finds the registry and the stores of the platform."""
    from feature_repo.registration import RegistrySettings

    uri = settings.postgres_url("headwater", "postgresql+psycopg")
    redis = settings.redis_url.removeprefix("redis://")
    return RegistrySettings(uri, settings.catalog_url(), settings.warehouse, redis)
