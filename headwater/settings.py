"""Every setting of the command, typed, prefixed and read once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from connectors.access import KafkaAccess, outage_seconds
from schemas import SettingsError

_PORT = "HEADWATER_{}_PORT"
_SECONDS = re.compile(r"[1-9][0-9]{0,5}"), "whole seconds such as 30", int
_SHARE = re.compile(r"0(\.[0-9]+)?|1(\.0+)?"), "0 to 1"
_OPTIONS = re.compile(r"(-\S+( -\S+)*)?"), "options such as -XX:+UseParallelGC", str
_ADDRESS = re.compile(r"\S+:[0-9]{1,5}")
_URL = re.compile(r"https?://.*", re.DOTALL), "http:// or https://", str
_CHECKED: tuple[tuple[str, str, re.Pattern[str], str, Callable[[str], object]], ...] = (
    (
        "taskmanager_memory",
        "HEADWATER_TASKMANAGER_MEMORY",
        re.compile(r"[1-9][0-9]*[mg]"),
        "a size such as 3000m",
        str,
    ),
    ("taskmanager_java_options", "HEADWATER_TASKMANAGER_JAVA_OPTIONS", *_OPTIONS),
    ("kafka_java_options", "HEADWATER_KAFKA_JAVA_OPTIONS", *_OPTIONS),
    ("idle_seconds", "HEADWATER_IDLE_SECONDS", *_SECONDS),
    ("checkpoint_seconds", "HEADWATER_CHECKPOINT_SECONDS", *_SECONDS),
    ("redis_replicas", "HEADWATER_REDIS_REPLICAS", re.compile(r"[0-9]{1,2}"), "0 to 99", int),
    ("feature_log", "HEADWATER_FEATURE_LOG", *_SHARE, str),
    ("schema_registry", "HEADWATER_SCHEMA_REGISTRY", *_URL),
    ("otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", *_URL),
    ("traced_events", "HEADWATER_TRACED_EVENTS", *_SHARE, float),
)
"""Field, variable, what it must look like, what that is called, and what is made of it."""


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

    flink_metrics: int = 16126
    """The job manager's metrics, for Prometheus."""

    taskmanager_metrics: int = 16127
    """The task manager's metrics, for Prometheus."""

    api: int = 18080
    """The feature API."""

    grpc: int = 18082
    """The feature API over gRPC."""

    exporter: int = 16128
    """What `headwater exporter` measures, for Prometheus."""

    prometheus: int = 19090
    """Prometheus, which `headwater up --observability` starts."""

    alertmanager: int = 19095
    """Alertmanager, likewise."""


@dataclass(frozen=True)
class Elsewhere:
    """Where parts are that run on other machines, as in a cluster; empty for this machine."""

    kafka: str = ""
    """HEADWATER_KAFKA: host:port of the log; HEADWATER_KAFKA_SECURITY, _USER, _PASSWORD_FILE and
    _CA_FILE say how it wants to be reached."""

    redis_url: str = ""
    """HEADWATER_REDIS_URL: the online store, such as redis://redis:6379."""

    connect_url: str = ""
    """HEADWATER_CONNECT_URL: Kafka Connect's REST API."""

    postgres: str = ""
    """HEADWATER_POSTGRES: host:port of the Iceberg catalog and Feast's registry."""

    postgres_password_file: str = ""
    """HEADWATER_POSTGRES_PASSWORD_FILE: the file that holds their password."""

    source: str = ""
    """HEADWATER_SOURCE: host:port of the captured tables, where that is another server."""

    source_database: str = ""
    """HEADWATER_SOURCE_DATABASE: the database they are in; else named like the repository."""

    source_user: str = "headwater"
    """HEADWATER_SOURCE_USER: who makes it ready to be captured; owns the tables."""

    source_password_file: str = ""
    """HEADWATER_SOURCE_PASSWORD_FILE: the file that holds that password."""

    catalog_uri: str = ""
    """HEADWATER_CATALOG_URI: an Iceberg REST catalog, in the place of the one in PostgreSQL."""

    catalog_token_file: str = ""
    """HEADWATER_CATALOG_TOKEN_FILE: the file that holds that catalog's token for the jobs."""

    warehouse: str = ""
    """HEADWATER_WAREHOUSE: where the Iceberg tables lie, such as s3://bucket/warehouse."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Elsewhere:
        """The addresses in `environ`; SettingsError for a server's that has no port."""
        names = {f.name: f"HEADWATER_{f.name.upper()}" for f in fields(cls)}
        given = {name: environ[v] for name, v in names.items() if environ.get(v)}
        for name in ("postgres", "source"):
            if name in given and not _ADDRESS.fullmatch(given[name]):
                raise SettingsError(f"{names[name]}: expected host:port, got {given[name]!r}")
        return cls(**given)


@dataclass(frozen=True)
class Source:
    """The server of the captured tables, and who we are there."""

    address: str
    """host:port."""

    database: str
    user: str
    password_file: Path


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

    taskmanager_java_options: str = ""
    """HEADWATER_TASKMANAGER_JAVA_OPTIONS: more options of the task manager's JVM."""

    kafka_java_options: str = ""
    """HEADWATER_KAFKA_JAVA_OPTIONS: options of the JVMs of Kafka and Connect, G1 for none."""

    idle_seconds: int = 30
    """HEADWATER_IDLE_SECONDS: how long a silent partition holds the others' event time up. Events
    of the past that come to it later than that, after the others went on, may be late."""

    checkpoint_seconds: int = 5
    """HEADWATER_CHECKPOINT_SECONDS: from a job's checkpoint to its next, and so until its rows are
    in Iceberg. The archive's job takes twice as long, since few large files are better read."""

    outage_seconds: int = 900
    """HEADWATER_OUTAGE_SECONDS: how long a job may be away and lose none of its late rows, which
    Kafka keeps in transactions for so long; at most what its brokers take."""

    redis_replicas: int = 0
    """HEADWATER_REDIS_REPLICAS: how many replicas must have a row before jobs count it as written.
    """

    feature_log: str = "0"
    """HEADWATER_FEATURE_LOG: the share of the API's answers that are noted, 0 to 1, for `headwater
    skew`."""

    otlp_endpoint: str = ""
    """OTEL_EXPORTER_OTLP_ENDPOINT: where the traces of producer, jobs and API go, as an
    OTLP/HTTP collector's base address; nowhere by default."""

    traced_events: float = 0.001
    """HEADWATER_TRACED_EVENTS: the share of the produced events that are traced, 0 to 1, of
    streams that are."""

    schema_registry: str = ""
    """HEADWATER_SCHEMA_REGISTRY: a schema registry of the Confluent protocol; none by default."""
    alert_webhook: str = ""
    """HEADWATER_ALERT_WEBHOOK: where Alertmanager posts alerts; nowhere if it is not set."""

    external: frozenset[str] = frozenset()
    """HEADWATER_EXTERNAL: names of parts, by commas, that somebody else runs on their ports."""

    ports: Ports = field(default_factory=Ports)

    elsewhere: Elsewhere = field(default_factory=Elsewhere)

    kafka_security: KafkaAccess = field(default_factory=lambda: KafkaAccess(""))
    """Who we are for Kafka; `kafka_access` has its address as well."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """The settings in `environ`; SettingsError names the variable that is wrong."""
        given: dict[str, Any] = {}
        for name in ("repository", "history", "alert_webhook"):
            if value := environ.get(f"HEADWATER_{name.upper()}"):
                given[name] = value
        for name in ("state", "build"):
            given[name] = Path(
                environ.get(f"HEADWATER_{name.upper()}") or str(getattr(cls, name))
            ).absolute()
        for name, variable, text, expected, made in _CHECKED:
            if value := environ.get(variable):
                if not text.fullmatch(value):
                    raise SettingsError(f"{variable}: expected {expected}, got {value!r}")
                given[name] = made(value)
        names = environ.get("HEADWATER_EXTERNAL", "").split(",")
        external = frozenset(name.strip() for name in names if name.strip())
        return cls(
            **given,
            outage_seconds=outage_seconds(environ),
            external=external,
            ports=_ports(environ),
            elsewhere=Elsewhere.read(environ),
            kafka_security=KafkaAccess.read(environ, ""),
        )

    @property
    def kafka(self) -> str:
        """Kafka's bootstrap address."""
        return self.elsewhere.kafka or f"127.0.0.1:{self.ports.kafka}"

    @property
    def kafka_access(self) -> KafkaAccess:
        """How Kafka is reached."""
        return replace(self.kafka_security, bootstrap=self.kafka)

    @property
    def redis_url(self) -> str:
        """The online store's address."""
        return self.elsewhere.redis_url or f"redis://127.0.0.1:{self.ports.redis}"

    @property
    def connect_url(self) -> str:
        """Kafka Connect's REST API."""
        return self.elsewhere.connect_url or f"http://127.0.0.1:{self.ports.connect}"

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
        return self.elsewhere.warehouse or f"file://{self.state}/warehouse"

    @property
    def postgres(self) -> str:
        """PostgreSQL's address, host:port."""
        return self.elsewhere.postgres or f"127.0.0.1:{self.ports.postgres}"

    @property
    def password_file(self) -> Path:
        """PostgreSQL's password as a properties file, readable by its owner only."""
        elsewhere = self.elsewhere.postgres_password_file
        return Path(elsewhere or self.state / "secrets" / "postgres.properties")

    def postgres_password(self) -> str:
        """PostgreSQL's password; SettingsError if the platform never ran, or its file is lost."""
        try:
            return _password(self.password_file)
        except FileNotFoundError:
            raise SettingsError(
                f"{self.password_file} is not there: run `headwater up` first; where PostgreSQL has"
                " run already, put it back or set HEADWATER_POSTGRES_PASSWORD_FILE right"
            ) from None

    def postgres_url(self, database: str, scheme: str = "postgresql") -> str:
        """A connection URL, password included: never print it."""
        password = self.postgres_password()
        return f"{scheme}://headwater:{quote(password, safe='')}@{self.postgres}/{database}"

    def source(self, database: str) -> Source:
        """Where the captured tables are.

        In `database` of PostgreSQL itself, unless HEADWATER_SOURCE says where.
        """
        there = self.elsewhere
        if not there.source:
            return Source(self.postgres, database, "headwater", self.password_file)
        file = Path(there.source_password_file)
        return Source(there.source, there.source_database or database, there.source_user, file)

    def source_url(self, database: str) -> str:
        """The same as a connection URL, password included: never print it.

        SettingsError if the password is not there.
        """
        if not self.elsewhere.source:
            return self.postgres_url(database)
        source = self.source(database)
        password = quote(_given(source.password_file, "HEADWATER_SOURCE_PASSWORD_FILE"), safe="")
        user = quote(source.user, safe="")
        return f"postgresql://{user}:{password}@{source.address}/{source.database}"

    def catalog_token(self) -> str:
        """The REST catalog's token for the jobs, if it asks; SettingsError if it is not there."""
        file = self.elsewhere.catalog_token_file
        return _given(Path(file), "HEADWATER_CATALOG_TOKEN_FILE") if file else ""

    def catalog_url(self) -> str:
        """The Iceberg catalog as PyIceberg opens it, password included: never print it."""
        return self.elsewhere.catalog_uri or self.postgres_url("headwater", "postgresql+psycopg")


def _given(file: Path, variable: str) -> str:
    try:
        return _password(file)
    except OSError as error:
        raise SettingsError(f"{variable}: {error}") from None


def _password(file: Path) -> str:
    """A file that holds it alone, or as a property, which is how Connect wants it."""
    return file.read_text("utf-8").strip().removeprefix("password=")


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
