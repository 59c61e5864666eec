"""Where a job runs: the addresses and the secrets that its script leaves open.

The script of a job is the same everywhere (it is what the plan shows); what differs between a
laptop and a cluster is said here, and never written down: secrets come from files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from connectors.access import KafkaAccess, outage_seconds, secret
from connectors.ddl import literal
from schemas import SettingsError

_S3_IO = "org.apache.iceberg.aws.s3.S3FileIO"
_KAFKA = re.compile(r"'connector' = '(?:upsert-)?kafka(?:-replay)?(?:-versions)?'")
_REDIS = "'connector' = 'feast-redis'"
_CATALOG = re.compile(r"CREATE CATALOG headwater WITH \(\n.*?\n\);\n", re.DOTALL)
_JDBC = "'catalog-impl' = 'org.apache.iceberg.jdbc.JdbcCatalog'"


@dataclass(frozen=True)
class Place:
    """The place of one deployment, read once from the environment."""

    repository: str
    """HEADWATER_REPOSITORY: the feature repository, as module:attribute."""

    kafka: KafkaAccess
    """HEADWATER_KAFKA (host:port) and HEADWATER_KAFKA_*."""

    redis_url: str
    """HEADWATER_REDIS_URL: the online store."""

    warehouse: str
    """HEADWATER_WAREHOUSE: where the Iceberg tables lie, such as s3://bucket/warehouse."""

    postgres: str
    """HEADWATER_POSTGRES: host:port of the JDBC catalog."""

    password: str = field(repr=False)
    """HEADWATER_POSTGRES_PASSWORD_FILE: a file with the catalog's password."""

    redis_replicas: int = 0
    """HEADWATER_REDIS_REPLICAS: how many of its replicas must have a row before it counts as
    written, so that a failover loses none."""

    outage_seconds: int = 900
    """HEADWATER_OUTAGE_SECONDS: how long a job may be away and lose none of its late rows."""

    catalog_uri: str = ""
    """HEADWATER_CATALOG_URI: a REST catalog's address; the JDBC catalog if it is empty."""

    s3_endpoint: str = ""
    """HEADWATER_S3_ENDPOINT: where S3 is, if it is not AWS's; asked by path."""

    catalog_token: str = field(default="", repr=False)
    """HEADWATER_CATALOG_TOKEN_FILE: a file with the REST catalog's bearer token, if it asks."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Place:
        """The place in `environ`; SettingsError names the variable that is missing or wrong."""

        def required(name: str) -> str:
            if value := environ.get(name):
                return value
            raise SettingsError(f"{name} is not set")

        rest = environ.get("HEADWATER_CATALOG_URI", "")
        return cls(
            repository=required("HEADWATER_REPOSITORY"),
            kafka=KafkaAccess.read(environ, required("HEADWATER_KAFKA")),
            # With the newline of a password that was put into it no URL is one to Java.
            redis_url="".join(required("HEADWATER_REDIS_URL").split()),
            warehouse=required("HEADWATER_WAREHOUSE"),
            postgres="" if rest else required("HEADWATER_POSTGRES"),
            password="" if rest else secret(environ, "HEADWATER_POSTGRES_PASSWORD_FILE"),
            redis_replicas=_replicas(environ),
            outage_seconds=outage_seconds(environ),
            catalog_uri=rest,
            s3_endpoint=environ.get("HEADWATER_S3_ENDPOINT", ""),
            catalog_token=secret(environ, "HEADWATER_CATALOG_TOKEN_FILE", ""),
        )

    def values(self, job: str) -> dict[str, str]:
        """What the placeholders of a job's script stand for."""
        return {
            "kafka": self.kafka.bootstrap,
            "group": job,
            "redis": self.redis_url,
            "epoch": "0",
            "outage_ms": str(self.outage_seconds * 1000),
            "catalog_uri": f"jdbc:postgresql://{self.postgres}/headwater",
            "catalog_user": "headwater",
            "catalog_password": self.password,
            "warehouse": self.warehouse,
        }

    def script(self, sql: str) -> str:
        """A job's script with what this place adds to its connectors and its catalog."""
        if more := self.kafka.properties():
            options = "".join(
                f",\n  {literal(f'properties.{key}')} = {literal(value)}"
                for key, value in more.items()
            )
            sql = _KAFKA.sub(lambda match: match[0] + options, sql)
        if self.redis_replicas:
            waits = f"{_REDIS},\n  'replicas' = {literal(str(self.redis_replicas))}"
            sql = sql.replace(_REDIS, waits)
        if self.catalog_uri:
            return _CATALOG.sub(lambda _: self._rest_catalog(), sql)
        files = "".join(f",\n  {literal(k)} = {literal(v)}" for k, v in self._files().items())
        return sql.replace(_JDBC, f"{_JDBC}{files}")

    def _files(self) -> dict[str, str]:
        """How the catalog reads and writes files, where that is not the file system."""
        if not self.warehouse.startswith("s3://"):
            return {}
        if not self.s3_endpoint:
            return {"io-impl": _S3_IO}
        return {
            "io-impl": _S3_IO,
            "s3.endpoint": self.s3_endpoint,
            "s3.path-style-access": "true",
        }

    def _rest_catalog(self) -> str:
        options = {
            "type": "iceberg",
            "catalog-type": "rest",
            "uri": self.catalog_uri,
            "warehouse": self.warehouse,
            **self._files(),
        }
        if self.catalog_token:
            options["token"] = self.catalog_token
        lines = ",\n  ".join(f"{literal(key)} = {literal(value)}" for key, value in options.items())
        return f"CREATE CATALOG headwater WITH (\n  {lines}\n);\n"


def _replicas(environ: Mapping[str, str]) -> int:
    text = environ.get("HEADWATER_REDIS_REPLICAS") or "0"
    if not re.fullmatch("[0-9]{1,2}", text):
        raise SettingsError(f"HEADWATER_REDIS_REPLICAS: expected 0 to 99, got {text!r}")
    return int(text)


def digest(sql: str) -> str:
    """What a deployment says of the script it expects: SHA-256, hexadecimal."""
    return sha256(sql.encode()).hexdigest()
