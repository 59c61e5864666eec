"""Kafka (KRaft, one node) and Kafka Connect, run from their jars."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

import requests
from kafka import KafkaAdminClient

from headwater.local.part import Part, PartFailed
from headwater.settings import Settings


def kafka(settings: Settings) -> Part:
    """The broker, controller included."""
    folder = settings.state / "kafka"

    def check() -> None:
        client = KafkaAdminClient(
            bootstrap_servers=settings.kafka, request_timeout_ms=2000, bootstrap_timeout_ms=1000
        )
        try:
            client.describe_cluster()
        finally:
            client.close()

    return Part(
        name="kafka",
        address=settings.kafka,
        ports=(settings.ports.kafka, settings.ports.kafka_controller),
        gives_way=True,
        command=(*_java(settings, "512m"), "kafka.Kafka", str(folder / "server.properties")),
        env=_environment(),
        prepare=lambda: _format(settings, folder),
        check=check,
        cwd=settings.state,
    )


def connect(settings: Settings) -> Part:
    """A distributed worker with Debezium as its one plugin."""
    folder = settings.state / "connect"

    def check() -> None:
        # /connectors answers only when the worker has joined its group.
        requests.get(f"{settings.connect_url}/connectors", timeout=2).raise_for_status()

    return Part(
        name="connect",
        address=settings.connect_url,
        ports=(settings.ports.connect,),
        gives_way=True,
        needs=("kafka",),
        command=(
            *_java(settings, "512m"),
            "org.apache.kafka.connect.cli.ConnectDistributed",
            str(folder / "worker.properties"),
        ),
        env=_environment(),
        prepare=lambda: _configure(settings, folder),
        check=check,
        cwd=settings.state,
    )


def _configure(settings: Settings, folder: Path) -> None:
    secrets = settings.password_file.parent
    if not settings.elsewhere.postgres_password_file:
        # Connect must find it; PostgreSQL puts a file there, by and by.
        secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(
        folder / "worker.properties",
        worker_properties(
            settings.kafka,
            settings.connect_url,
            "127.0.0.1",
            str(settings.build / "jars" / "connect"),
            str(secrets),
        ),
    )


def _java(settings: Settings, heap: str) -> tuple[str, ...]:
    jars = settings.build / "jars" / "kafka"
    return (
        *("java", f"-Xmx{heap}", "-XX:+ExitOnOutOfMemoryError"),
        *("-Dorg.apache.logging.log4j.level=WARN", "-Djava.awt.headless=true"),
        *(settings.kafka_java_options or "-XX:+UseG1GC").split(),
        *("-cp", f"{jars}/*"),
    )


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME") if name in os.environ}


def broker_properties(host: str, port: int, controller_port: int, log: str) -> dict[str, str]:
    """The configuration of a broker that is its own controller."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{host}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "log.dirs": log,
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        # As long as anybody may declare a job to be away: a week.
        "transaction.max.timeout.ms": "604800000",
        # What lies behind one that is too old waits for it to be found.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "group.initial.rebalance.delay.ms": "0",
        # The log is what every feature is computed from, again and again: keep it.
        "log.retention.ms": "-1",
    }


def _format(settings: Settings, folder: Path) -> None:
    if shutil.which("java") is None:
        raise PartFailed("kafka: there is no `java` on the path; Headwater needs Java 17")
    log = folder / "log"
    ports = settings.ports
    _write(
        folder / "server.properties",
        broker_properties("127.0.0.1", ports.kafka, ports.kafka_controller, str(log)),
    )
    if (log / "meta.properties").exists():
        return
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    result = subprocess.run(
        [
            *_java(settings, "256m"),
            *("kafka.tools.StorageTool", "format", "--cluster-id", f"h{cluster[1:]}"),
            *("--config", str(folder / "server.properties")),
        ],
        capture_output=True,
        text=True,
        env=_environment(),
    )
    if result.returncode:
        raise PartFailed(f"kafka: cannot format {log}:\n{result.stdout}{result.stderr}")


def worker_properties(
    bootstrap: str, url: str, host: str, plugins: str, secrets: str
) -> dict[str, str]:
    """The configuration of a Connect worker at `url`, which others find at `host`.

    `plugins` and `secrets` are folders: of connectors, and of the files they may refer to.
    """
    stores = {
        f"{kind}.storage.{key}": value
        for kind in ("config", "offset", "status")
        for key, value in (("topic", f"connect.{kind}"), ("replication.factor", "1"))
    }
    return {
        "bootstrap.servers": bootstrap,
        "group.id": "headwater-connect",
        "listeners": url,
        "rest.advertised.host.name": host,
        "plugin.path": plugins,
        "plugin.discovery": "service_load",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "offset.flush.interval.ms": "5000",
        **stores,
        "offset.storage.partitions": "4",
        "status.storage.partitions": "2",
        "config.providers": "file",
        "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
        "config.providers.file.param.allowed.paths": secrets,
    }


def _write(path: Path, properties: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{k}={v}\n" for k, v in properties.items()), "utf-8")
