"""Writes what compose.yaml mounts, by the functions that configure the parts on one machine.

    python -m tools.compose build/compose

Passwords are made once, at random, and kept below `secrets`.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import yaml

from api.auth import ALL_VIEWS, PrincipalDocument, PrincipalsDocument, key_hash, new_key
from headwater.deployment import source_tables
from headwater.jobs import CONFIGURATION
from headwater.local.flink import cluster_configuration
from headwater.local.kafka import broker_properties, worker_properties
from headwater.monitoring import (
    Receivers,
    Targets,
    alertmanager_file,
    grafana_files,
    prometheus_files,
)
from headwater.settings import Ports, Settings
from schemas import Repository
from schemas.loading import load_repository

PORTS = replace(
    Ports(),
    kafka=9092,
    kafka_controller=9093,
    connect=8083,
    flink=8081,
    flink_rpc=6123,
    flink_blob=6124,
    flink_data=6125,
    flink_metrics=9249,
    api=8080,
)
_TARGETS = Targets(
    "api:8080", ("jobmanager:9249", "taskmanager:9249"), "exporter:9108", "alertmanager:9093"
)


def files(repository: Repository) -> dict[str, str]:
    """Every file that is no secret, by its path below the folder."""
    settings = Settings(repository="", state=Path("/warehouse"), ports=PORTS)
    traces = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": "0.0.0.0:4318"}}}},
        "exporters": {"otlp": {"endpoint": "jaeger:4317", "tls": {"insecure": True}}},
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlp"]}}},
    }
    # The source tables, empty; `headwater load` fills them from a recorded history.
    tables = source_tables(repository)
    name = repository.name
    return {
        "flink/config.yaml": _lines(flink(settings), ": "),
        "kafka/server.properties": _lines(
            broker_properties("kafka", PORTS.kafka, PORTS.kafka_controller, "/var/lib/kafka/data")
        ),
        "connect/worker.properties": _lines(
            worker_properties(
                f"kafka:{PORTS.kafka}",
                "http://0.0.0.0:8083",
                "connect",
                "/opt/kafka/plugins",
                "/run/secrets",
            )
        ),
        "postgres/repository.sql": f'CREATE DATABASE "{name}";\n\\connect "{name}"\n{tables}',
        "otel-collector/config.yaml": yaml.safe_dump(traces, sort_keys=False),
        "alertmanager/alertmanager.yml": alertmanager_file(Receivers()),
        **{f"prometheus/{k}": v for k, v in prometheus_files(repository, _TARGETS).items()},
        **{
            f"grafana/{k}": v
            for k, v in grafana_files(repository, "http://prometheus:9090").items()
        },
    }


def flink(settings: Settings) -> dict[str, str | int]:
    """Flink's configuration: the one of a single machine, but for who is where."""
    found = cluster_configuration(settings) | CONFIGURATION
    everywhere = {key: "0.0.0.0" for key in found if key.endswith("bind-host")}
    # A container has an address of its own, which it tells by itself.
    del found["taskmanager.host"]
    return {
        **found,
        **everywhere,
        "jobmanager.rpc.address": "jobmanager",
        "rest.address": "jobmanager",
        "rest.bind-address": "0.0.0.0",
        "metrics.reporter.prom.port": PORTS.flink_metrics,
        "table.exec.source.idle-timeout": f"{settings.idle_seconds} s",
    }


def _lines(properties: dict[str, str] | dict[str, str | int], between: str = "=") -> str:
    return "".join(f"{key}{between}{value}\n" for key, value in properties.items())


def write(folder: Path, repository: Repository) -> None:
    """Write every file, and the secrets that are not there yet."""
    for name, text in files(repository).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    kept = folder / "secrets"
    kept.mkdir(exist_ok=True, mode=0o700)
    for name in ("postgres", "grafana"):
        if not (kept / name).exists():
            (kept / name).write_text(secrets.token_urlsafe(24), "utf-8")
    if not (kept / "api-key").exists():
        (kept / "api-key").write_text(new_key(), "utf-8")
    hashed = key_hash((kept / "api-key").read_text("utf-8"))
    principals = PrincipalsDocument([PrincipalDocument("compose", [ALL_VIEWS], hashed)])
    (folder / "principals").mkdir(exist_ok=True)
    (folder / "principals" / "principals.json").write_bytes(msgspec.json.encode(principals))
    password = (kept / "postgres").read_text("utf-8")
    (kept / "postgres.properties").write_text(f"password={password}\n", "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), load_repository(Settings.read({}).repository))
