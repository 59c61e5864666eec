"""Runs the API: `python -m api.server`, told what to serve by the settings below."""

from __future__ import annotations

import gc
import json
import os
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import uvicorn

from api.app import Limits, LogTo, create_app, entrance
from api.auth import Gatekeeper, Guarded, Open, Tokens, read_principals
from api.grpc_door import GrpcAddress
from api.neighbours import kafka, postgres
from api.store import connect
from api.together import Protocol
from connectors.access import KafkaAccess
from observability.logs import set_up
from observability.tracing import API, OTLP_ENDPOINT, tracer_provider
from schemas import SettingsError
from schemas.loading import load_repository

_FETCH_SECONDS = 5
_GRACE_SECONDS = 10


@dataclass(frozen=True)
class ServerSettings:
    """The API's settings, read once from the environment."""

    repository: str
    """HEADWATER_REPOSITORY: the feature repository, as `module:attribute`."""

    redis_url: str
    """HEADWATER_REDIS_URL: the online store, such as `redis://127.0.0.1:6379`."""

    port: int
    """HEADWATER_API_PORT: the port to listen on."""

    host: str = "127.0.0.1"
    """HEADWATER_API_HOST: the address to listen on."""

    kafka: str = ""
    """HEADWATER_KAFKA: host:port of the log, to tell its state and to note answers."""

    postgres: str = ""
    """HEADWATER_POSTGRES: host:port of the source tables, only to tell their state."""

    auth: bool = True
    """HEADWATER_AUTH: `on`, or `off` for everybody who reaches a loopback address."""

    principals: str = ""
    """HEADWATER_PRINCIPALS: the file of who may ask and for what."""

    oidc_issuer: str = ""
    """HEADWATER_OIDC_ISSUER: whose tokens are taken besides API keys, as an https URL."""

    oidc_audience: str = ""
    """HEADWATER_OIDC_AUDIENCE: for whom such a token must be meant."""

    tls_certificate: str = ""
    """HEADWATER_TLS_CERTIFICATE: the file of the certificate's chain; plain HTTP without one."""

    tls_key: str = ""
    """HEADWATER_TLS_KEY: the file of its private key."""

    traced: float = 1.0
    """HEADWATER_TRACED: the share of requests to trace, of those whose caller did not decide."""

    at_once: int = 64
    """HEADWATER_LOOKUPS_AT_ONCE: more lookups than that are refused with 503."""

    grpc_port: int = 0
    """HEADWATER_GRPC_PORT: the port of the gRPC door; there is none without."""

    feature_log: float = 0.0
    """HEADWATER_FEATURE_LOG: the share of the answers that are noted in Kafka, 0 to 1."""

    redis_behind: float = 0.0
    """HEADWATER_REDIS_BEHIND_SECONDS: how long ago a replica of Redis may have heard of its
    primary and still be read; by default only a primary is."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> ServerSettings:
        """The settings in `environ`; SettingsError names the one that is missing or wrong."""
        settings = cls(
            _required(environ, "HEADWATER_REPOSITORY"),
            _required(environ, "HEADWATER_REDIS_URL"),
            _port(environ, "HEADWATER_API_PORT"),
            environ.get("HEADWATER_API_HOST") or cls.host,
            environ.get("HEADWATER_KAFKA", ""),
            environ.get("HEADWATER_POSTGRES", ""),
            _switch(environ, "HEADWATER_AUTH"),
            environ.get("HEADWATER_PRINCIPALS", ""),
            environ.get("HEADWATER_OIDC_ISSUER", ""),
            environ.get("HEADWATER_OIDC_AUDIENCE", ""),
            environ.get("HEADWATER_TLS_CERTIFICATE", ""),
            environ.get("HEADWATER_TLS_KEY", ""),
            _number(environ, "HEADWATER_TRACED", cls.traced, 0.0, 1.0),
            int(_number(environ, "HEADWATER_LOOKUPS_AT_ONCE", cls.at_once, 1, 100_000)),
            _port(environ, "HEADWATER_GRPC_PORT") if environ.get("HEADWATER_GRPC_PORT") else 0,
            _number(environ, "HEADWATER_FEATURE_LOG", cls.feature_log, 0.0, 1.0),
            _number(environ, "HEADWATER_REDIS_BEHIND_SECONDS", cls.redis_behind, 0.0, 86_400.0),
        )
        settings._check()
        return settings

    def _check(self) -> None:
        if self.auth and not self.principals:
            raise SettingsError(
                "HEADWATER_PRINCIPALS is not set, and nobody could ask; "
                "HEADWATER_AUTH=off lets everybody ask, on a loopback address only"
            )
        if not self.auth and not _is_loopback(self.host):
            raise SettingsError(
                f"HEADWATER_AUTH=off needs a loopback address, HEADWATER_API_HOST is {self.host!r}"
            )
        if bool(self.oidc_issuer) != bool(self.oidc_audience):
            raise SettingsError(
                "HEADWATER_OIDC_ISSUER and HEADWATER_OIDC_AUDIENCE go together: a token for "
                "somebody else must not open this door"
            )
        if self.feature_log and not self.kafka:
            raise SettingsError("HEADWATER_FEATURE_LOG needs HEADWATER_KAFKA, where the log goes")
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise SettingsError("HEADWATER_TLS_CERTIFICATE and HEADWATER_TLS_KEY go together")

    def gatekeeper(self, views: Iterable[str]) -> Gatekeeper:
        """Who tells who asks; SettingsError if the principals do not hold."""
        if not self.auth:
            return Open()
        tokens = (
            Tokens(self.oidc_issuer, self.oidc_audience, fetch_json) if self.oidc_issuer else None
        )
        return Guarded(read_principals(Path(self.principals), views), tokens)

    def grpc_address(self) -> GrpcAddress:
        """Where the gRPC door listens; SettingsError if the certificate cannot be read."""
        credentials = None
        if self.tls_certificate:
            try:
                pair = (Path(self.tls_key).read_bytes(), Path(self.tls_certificate).read_bytes())
            except OSError as error:
                raise SettingsError(f"{error.filename}: {error.strerror}") from None
            credentials = grpc.ssl_server_credentials((pair,))
        host = f"[{self.host}]" if ":" in self.host else self.host
        return GrpcAddress(f"{host}:{self.grpc_port}", credentials)


def main() -> None:
    """Serve until stopped; then what is being answered is answered still."""
    try:
        settings = ServerSettings.read(os.environ)
        repository = load_repository(settings.repository)
        gatekeeper = settings.gatekeeper(
            [view.name for view in repository.views] + [view.name for view in repository.on_demand]
        )
        redis = connect(settings.redis_url)
        log = (
            LogTo(KafkaAccess.read(os.environ, settings.kafka), settings.feature_log)
            if settings.feature_log
            else None
        )
    except SettingsError as error:
        raise SystemExit(str(error)) from error
    set_up(API)
    exported = os.environ.get(OTLP_ENDPOINT)
    app = create_app(
        repository,
        redis,
        traces=tracer_provider(API, os.environ) if exported else None,
        neighbours=tuple(
            make(address)
            for make, address in ((kafka, settings.kafka), (postgres, settings.postgres))
            if address
        ),
        limits=Limits(settings.at_once, settings.traced, settings.redis_behind),
        gatekeeper=gatekeeper,
        grpc=settings.grpc_address() if settings.grpc_port else None,
        log=log,
    )
    # What is there now stays: a full collection would look through all of it in mid-request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    uvicorn.run(
        entrance(app),
        http=Protocol,
        ws="none",
        proxy_headers=False,  # nothing is told by them
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        server_header=False,
    )


def fetch_json(url: str) -> Mapping[str, Any]:
    """A JSON document by its URL; OSError or ValueError if it cannot be had."""
    with urllib.request.urlopen(url, timeout=_FETCH_SECONDS) as reply:
        found: Mapping[str, Any] = json.load(reply)
    return found


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _required(environ: Mapping[str, str], name: str) -> str:
    if value := environ.get(name):
        return value
    raise SettingsError(f"{name} is not set")


def _port(environ: Mapping[str, str], name: str) -> int:
    port = _required(environ, name)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise SettingsError(f"{name}: expected 1 to 65535, got {port!r}")
    return int(port)


def _switch(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name) or "on"
    if value not in ("on", "off"):
        raise SettingsError(f"{name}: expected on or off, got {value!r}")
    return value == "on"


def _number(
    environ: Mapping[str, str], name: str, default: float, least: float, most: float
) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise SettingsError(f"{name}: expected {least:g} to {most:g}, got {text!r}")
    return number


if __name__ == "__main__":
    main()
