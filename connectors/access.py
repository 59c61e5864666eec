"""How Kafka is reached: the address, and where it asks for it, who we are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas import SettingsError

SECURITY = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISM = "SCRAM-SHA-512"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass(frozen=True)
class KafkaAccess:
    """One way to one cluster, for kafka-python and for Flink's connector alike."""

    bootstrap: str
    """host:port, several by commas."""

    security: str = "PLAINTEXT"
    """One of SECURITY; a SASL one signs in by SCRAM-SHA-512."""

    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    """PEM file of the authority that signed the brokers' certificates; the system's if empty."""

    @classmethod
    def read(cls, environ: Mapping[str, str], bootstrap: str) -> KafkaAccess:
        """HEADWATER_KAFKA_SECURITY, _USER, _PASSWORD_FILE and _CA_FILE; all may be absent."""
        security = environ.get("HEADWATER_KAFKA_SECURITY") or "PLAINTEXT"
        if security not in SECURITY:
            choices = ", ".join(SECURITY)
            raise SettingsError(
                f"HEADWATER_KAFKA_SECURITY: unknown {security!r}; choices: {choices}"
            )
        user = password = ""
        if security.startswith("SASL"):
            user = _required(environ, "HEADWATER_KAFKA_USER")
            password = secret(environ, "HEADWATER_KAFKA_PASSWORD_FILE")
        return cls(bootstrap, security, user, password, environ.get("HEADWATER_KAFKA_CA_FILE", ""))

    def client(self) -> dict[str, str]:
        """What a client of kafka-python is made with."""
        options = {"bootstrap_servers": self.bootstrap, "security_protocol": self.security}
        if self.user:
            options |= {
                "sasl_mechanism": _MECHANISM,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        if self.ca_file:
            options["ssl_cafile"] = self.ca_file
        return options

    def librdkafka(self) -> dict[str, str | int | float | bool]:
        """What a client of confluent-kafka is made with."""
        options: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.security,
        }
        if self.user:
            options |= {
                "sasl.mechanism": _MECHANISM,
                "sasl.username": self.user,
                "sasl.password": self.password,
            }
        if self.ca_file:
            options["ssl.ca.location"] = self.ca_file
        return options

    def properties(self) -> dict[str, str]:
        """What a Java client needs besides the address; nothing for PLAINTEXT."""
        if self.security == "PLAINTEXT":
            return {}
        found = {"security.protocol": self.security}
        if self.user:
            found["sasl.mechanism"] = _MECHANISM
            found["sasl.jaas.config"] = (
                f"{_SCRAM} required username={_quoted(self.user)}"
                f" password={_quoted(self.password)};"
            )
        if self.ca_file:
            found |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": self.ca_file}
        return found


def outage_seconds(environ: Mapping[str, str]) -> int:
    """HEADWATER_OUTAGE_SECONDS: how long a job may be away and lose nothing.

    Kafka keeps the job's transactions for so long. By default a quarter of an hour, the most that
    a broker takes unless it is told otherwise.
    """
    text = environ.get("HEADWATER_OUTAGE_SECONDS") or "900"
    # Kafka counts milliseconds in 31 bits.
    if not re.fullmatch(r"[1-9][0-9]{0,6}", text) or int(text) * 1000 > 2**31 - 1:
        raise SettingsError(
            f"HEADWATER_OUTAGE_SECONDS: expected 1 to {(2**31 - 1) // 1000}, got {text!r}"
        )
    return int(text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _required(environ: Mapping[str, str], name: str) -> str:
    if value := environ.get(name):
        return value
    raise SettingsError(f"{name} is not set")


def secret(environ: Mapping[str, str], variable: str, default: str | None = None) -> str:
    """The text of the file that a variable names, or `default` where it is not set.

    A file of properties with the one line `password=...`, as Kafka Connect reads it, will do.
    """
    if not environ.get(variable) and default is not None:
        return default
    path = Path(_required(environ, variable))
    try:
        return path.read_text("utf-8").strip().removeprefix("password=")
    except OSError as error:
        raise SettingsError(f"{variable}: cannot read {path}: {error.strerror}") from error
