"""The feature API as a part of the local platform."""

from __future__ import annotations

import os
import sys

import requests

from headwater.local.part import Part
from headwater.settings import Settings


def api(settings: Settings) -> Part:
    """The API; it comes up without Redis and says so."""

    def check() -> None:
        requests.get(f"{settings.api_url}/health/live", timeout=2).raise_for_status()

    passed = (
        *("PATH", "HOME", "PYTHONPATH", "HEADWATER_TRACED"),
        *("HEADWATER_PRINCIPALS", "HEADWATER_OIDC_ISSUER", "HEADWATER_OIDC_AUDIENCE"),
    )
    return Part(
        name="api",
        address=f"{settings.api_url}/docs",
        ports=(settings.ports.api, settings.ports.grpc),
        command=(sys.executable, "-m", "api.server"),
        env={name: os.environ[name] for name in passed if name in os.environ}
        | {
            "HEADWATER_REPOSITORY": settings.repository,
            "HEADWATER_REDIS_URL": settings.redis_url,
            "HEADWATER_KAFKA": settings.kafka,
            "HEADWATER_FEATURE_LOG": settings.feature_log,
            "OTEL_EXPORTER_OTLP_ENDPOINT": settings.otlp_endpoint,
            "HEADWATER_POSTGRES": f"127.0.0.1:{settings.ports.postgres}",
            "HEADWATER_API_PORT": str(settings.ports.api),
            "HEADWATER_GRPC_PORT": str(settings.ports.grpc),
            # The laptop's default; outside it the API's own is on.
            "HEADWATER_AUTH": os.environ.get("HEADWATER_AUTH", "off"),
        },
        check=check,
        # The rooms are imported from where the command runs.
        cwd=settings.build.parent,
    )
