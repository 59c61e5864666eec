"""Runs the API: `python -m api.server`, told what to serve by the settings below."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass

import uvicorn

from api.app import create_app
from api.neighbours import kafka, postgres
from api.store import connect
from observability.tracing import tracer_provider
from schemas import SettingsError
from schemas.loading import load_repository


@dataclass(frozen=True)
class ServerSettings:
    """The API's settings, read once from the environment."""

    repository: str
    """HEADWATER_REPOSITORY: the feature repository, as `module:attribute`."""

    redis_url: str
    """HEADWATER_REDIS_URL: the online store, such as `redis://127.0.0.1:6379`."""

    port: int
    """HEADWATER_API_PORT: the port to listen on, on the loopback address only."""

    kafka: str = ""
    """HEADWATER_KAFKA: host:port of the log, only to tell its state."""

    postgres: str = ""
    """HEADWATER_POSTGRES: host:port of the source tables, only to tell their state."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> ServerSettings:
        """The settings in `environ`; SettingsError names the one that is missing or wrong."""
        port = _required(environ, "HEADWATER_API_PORT")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise SettingsError(f"HEADWATER_API_PORT: expected 1 to 65535, got {port!r}")
        return cls(
            _required(environ, "HEADWATER_REPOSITORY"),
            _required(environ, "HEADWATER_REDIS_URL"),
            int(port),
            environ.get("HEADWATER_KAFKA", ""),
            environ.get("HEADWATER_POSTGRES", ""),
        )


def main() -> None:
    """Serve until stopped."""
    try:
        settings = ServerSettings.read(os.environ)
        repository = load_repository(settings.repository)
    except SettingsError as error:
        raise SystemExit(str(error)) from error
    app = create_app(
        repository,
        connect(settings.redis_url),
        traces=tracer_provider("headwater-api", os.environ),
        neighbours=tuple(
            make(address)
            for make, address in ((kafka, settings.kafka), (postgres, settings.postgres))
            if address
        ),
    )
    # What is there now stays: a full collection would look through all of it in mid-request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    uvicorn.run(app, host="127.0.0.1", port=settings.port, access_log=False)


def _required(environ: Mapping[str, str], name: str) -> str:
    if value := environ.get(name):
        return value
    raise SettingsError(f"{name} is not set")


if __name__ == "__main__":
    main()
