"""Every setting of the command, typed, prefixed and read once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from schemas import SettingsError

_PORT = "HEADWATER_{}_PORT"


@dataclass(frozen=True)
class Ports:
    """HEADWATER_<NAME>_PORT; everything listens on the loopback address only."""

    postgres: int = 15432
    """The source tables, the Iceberg catalog and the Feast registry."""

    redis: int = 16379
    """The online store."""

    kafka: int = 19092
    """The log."""

    kafka_controller: int = 19093
    """The quorum of the log, one node on a laptop."""

    connect: int = 18083
    """Kafka Connect's REST API."""

    flink: int = 18081
    """Flink's REST API and dashboard."""

    flink_rpc: int = 16123
    """Where Flink's task managers find the job manager."""

    flink_blob: int = 16124
    """Where Flink's task managers fetch a job's files."""

    flink_data: int = 16125
    """Where Flink's task managers exchange records."""

    api: int = 18080
    """The feature API."""

    grpc: int = 18082
    """The feature API over gRPC."""


@dataclass(frozen=True)
class Settings:
    """The command's settings."""

    repository: str = "feature_repo.flights.repository:repository"
    """HEADWATER_REPOSITORY: the feature repository, as module:attribute."""

    history: str = "feature_repo.flights.history:history"
    """HEADWATER_HISTORY: the recorded events and rows of that repository, as module:attribute."""

    state: Path = Path(".headwater")
    """HEADWATER_STATE: the one folder that holds everything the local platform writes."""

    build: Path = Path("build")
    """HEADWATER_BUILD: the folder `make setup` installed into."""

    taskmanager_memory: str = "3000m"
    """HEADWATER_TASKMANAGER_MEMORY: what Flink's task manager may use in all, such as 3000m."""

    idle_seconds: int = 30
    """HEADWATER_IDLE_SECONDS: how long a silent partition holds the others' event time up. Events
    of the past that come to it later than that, after the others went on, may be late."""

    external: frozenset[str] = frozenset()
    """HEADWATER_EXTERNAL: names of parts, by commas, that somebody else runs on their ports."""

    ports: Ports = field(default_factory=Ports)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """The settings in `environ`; SettingsError names the variable that is wrong."""
        given: dict[str, Any] = {}
        for name in ("repository", "history"):
            if value := environ.get(f"HEADWATER_{name.upper()}"):
                given[name] = value
        for name in ("state", "build"):
            given[name] = Path(
                environ.get(f"HEADWATER_{name.upper()}") or str(getattr(cls, name))
            ).absolute()
        if memory := environ.get("HEADWATER_TASKMANAGER_MEMORY"):
            if not re.fullmatch(r"[1-9][0-9]*[mg]", memory):
                raise SettingsError(
                    f"HEADWATER_TASKMANAGER_MEMORY: expected a size such as 3000m, got {memory!r}"
                )
            given["taskmanager_memory"] = memory
        if idle := environ.get("HEADWATER_IDLE_SECONDS"):
            if not re.fullmatch(r"[1-9][0-9]{0,5}", idle):
                raise SettingsError(
                    f"HEADWATER_IDLE_SECONDS: expected whole seconds such as 30, got {idle!r}"
                )
            given["idle_seconds"] = int(idle)
        names = environ.get("HEADWATER_EXTERNAL", "").split(",")
        external = frozenset(name.strip() for name in names if name.strip())
        return cls(**given, external=external, ports=_ports(environ))

    @property
    def kafka(self) -> str:
        """Kafka's bootstrap address."""
        return f"127.0.0.1:{self.ports.kafka}"

    @property
    def redis_url(self) -> str:
        """The online store's address."""
        return f"redis://127.0.0.1:{self.ports.redis}"

    @property
    def connect_url(self) -> str:
        """Kafka Connect's REST API."""
        return f"http://127.0.0.1:{self.ports.connect}"

    @property
    def flink_url(self) -> str:
        """Flink's REST API and dashboard."""
        return f"http://127.0.0.1:{self.ports.flink}"

    @property
    def api_url(self) -> str:
        """The feature API."""
        return f"http://127.0.0.1:{self.ports.api}"

    @property
    def warehouse(self) -> str:
        """Where the Iceberg tables lie."""
        return f"file://{self.state}/warehouse"

    @property
    def password_file(self) -> Path:
        """PostgreSQL's password as a properties file, readable by its owner only."""
        return self.state / "secrets" / "postgres.properties"

    def postgres_password(self) -> str:
        """PostgreSQL's password; SettingsError if the platform never ran."""
        try:
            return self.password_file.read_text("utf-8").strip().removeprefix("password=")
        except FileNotFoundError:
            raise SettingsError(
                f"{self.password_file} is not there: run `headwater up` first"
            ) from None

    def postgres_url(self, database: str, scheme: str = "postgresql") -> str:
        """A connection URL, password included: never print it."""
        password = self.postgres_password()
        return f"{scheme}://headwater:{password}@127.0.0.1:{self.ports.postgres}/{database}"


def _ports(environ: Mapping[str, str]) -> Ports:
    given: dict[str, int] = {}
    for known in fields(Ports):
        variable = _PORT.format(known.name.upper())
        text = environ.get(variable)
        if not text:
            continue
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
            raise SettingsError(f"{variable}: expected 1 to 65535, got {text!r}")
        given[known.name] = int(text)
    ports = Ports(**given)
    taken: dict[int, str] = {}
    for known in fields(Ports):
        variable, port = _PORT.format(known.name.upper()), getattr(ports, known.name)
        if port in taken:
            raise SettingsError(f"{variable} and {taken[port]} are both {port}")
        taken[port] = variable
    return ports
