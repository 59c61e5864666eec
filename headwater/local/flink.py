"""A Flink session cluster from the distribution inside PyFlink's wheel."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import requests

from headwater.local.part import Part, PartFailed
from headwater.settings import Settings

SLOTS = 12
METRICS = {
    "metrics.reporter.prom.factory.class": (
        "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
    ),
}
COMPUTES_LITTLE = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""For a JVM to which the optimizing compiler would never give back the time it takes."""

_METRICS_PORT = "metrics.reporter.prom.port"
_OPENED = (
    *("java.lang", "java.lang.reflect", "java.net", "java.io", "java.nio", "sun.nio.ch"),
    *("java.text", "java.time", "java.util", "java.util.concurrent"),
    *("java.util.concurrent.atomic", "java.util.concurrent.locks"),
)


def java_options() -> str:
    """What Java 17 must be told for Flink and Iceberg."""
    return " ".join(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENED)


def flink_home(settings: Settings) -> Path:
    """The distribution; PartFailed if PyFlink is not installed."""
    for found in (settings.build / "envs" / "flink" / "lib").glob("python3*/site-packages/pyflink"):
        return found
    raise PartFailed(f"flink: no PyFlink under {settings.build / 'envs'}: run `make setup`")


def environment(settings: Settings) -> dict[str, str]:
    """What Flink's scripts and PyFlink need to find the distribution and our configuration."""
    folder = settings.state / "flink"
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME") if name in os.environ}
    if settings.otlp_endpoint:
        kept["OTEL_EXPORTER_OTLP_ENDPOINT"] = settings.otlp_endpoint
    return kept | {
        "FLINK_HOME": str(flink_home(settings)),
        "FLINK_CONF_DIR": str(folder / "conf"),
        "FLINK_LIB_DIR": str(folder / "lib"),
        "FLINK_LOG_DIR": str(settings.state / "logs"),
        "FLINK_PID_DIR": str(folder),
    }


def jobmanager(settings: Settings) -> Part:
    """The job manager: jobs, checkpoints, the REST API and the dashboard."""
    ports = settings.ports
    return Part(
        name="flink",
        address=settings.flink_url,
        ports=(ports.flink, ports.flink_rpc, ports.flink_blob, ports.flink_metrics),
        gives_way=True,
        command=(
            str(flink_home(settings) / "bin" / "jobmanager.sh"),
            "start-foreground",
            *("-D", f"{_METRICS_PORT}={ports.flink_metrics}"),
        ),
        env=environment(settings),
        prepare=lambda: _configure(settings),
        check=lambda: _overview(settings, 0),
        cwd=settings.state,
    )


def taskmanager(settings: Settings) -> Part:
    """The task manager: where the jobs run."""
    return Part(
        name="taskmanager",
        address=f"{settings.flink_url}/#/task-manager",
        ports=(settings.ports.flink_data, settings.ports.taskmanager_metrics),
        needs=("flink",),
        gives_way=True,
        command=(
            str(flink_home(settings) / "bin" / "taskmanager.sh"),
            "start-foreground",
            *("-D", f"{_METRICS_PORT}={settings.ports.taskmanager_metrics}"),
        ),
        env=environment(settings),
        check=lambda: _registered(settings),
        cwd=settings.state,
    )


def _registered(settings: Settings) -> None:
    # The job manager goes on telling of a task manager that has died, until it misses it.
    with socket.create_connection(("127.0.0.1", settings.ports.taskmanager_metrics), 2):
        _overview(settings, 1)


def _overview(settings: Settings, taskmanagers: int) -> None:
    answer = requests.get(f"{settings.flink_url}/overview", timeout=2)
    answer.raise_for_status()
    if answer.json()["taskmanagers"] < taskmanagers:
        raise PartFailed("flink: no task manager has registered")


def _configure(settings: Settings) -> None:
    home, folder = flink_home(settings), settings.state / "flink"
    jars = sorted((settings.build / "jars" / "flink").glob("*.jar"))
    if not jars:
        raise PartFailed(f"flink: no jars under {settings.build}: run `make setup`")
    shutil.rmtree(folder / "lib", ignore_errors=True)
    (folder / "lib").mkdir(parents=True)
    for jar in (*(home / "lib").glob("*.jar"), *jars):
        (folder / "lib" / jar.name).symlink_to(jar)
    conf = folder / "conf"
    conf.mkdir(exist_ok=True)
    for name in ("log4j-console.properties", "log4j-cli.properties"):
        shutil.copy(home / "conf" / name, conf / name)
    (conf / "config.yaml").write_text(
        "".join(f"{key}: {value}\n" for key, value in cluster_configuration(settings).items()),
        "utf-8",
    )


def _more_options(settings: Settings) -> dict[str, str]:
    options = settings.taskmanager_java_options
    return {"env.java.opts.taskmanager": options} if options else {}


def cluster_configuration(settings: Settings) -> dict[str, str | int]:
    """What job manager and task manager share."""
    ports, state = settings.ports, settings.state
    return {
        "env.java.opts.all": java_options(),
        "env.java.opts.jobmanager": COMPUTES_LITTLE,
        **_more_options(settings),
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": ports.flink_rpc,
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.memory.process.size": "1100m",
        "blob.server.port": ports.flink_blob,
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.data.port": ports.flink_data,
        "taskmanager.memory.process.size": settings.taskmanager_memory,
        # The state of the flights fits the heap; RocksDB's share would lie idle.
        "taskmanager.memory.managed.size": "64m",
        "taskmanager.numberOfTaskSlots": SLOTS,
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": ports.flink,
        "rest.bind-port": ports.flink,
        "rest.flamegraph.enabled": "true",
        "web.submit.enable": "false",
        "metrics.fetcher.update-interval": 1000,
        # A task manager misses a job manager that was killed after 20 s, and not after 50; the
        # job manager one that refuses connections after two tries.
        "heartbeat.interval": 2000,
        "heartbeat.timeout": 20000,
        # On a machine that is overloaded an answer takes longer than ten seconds: jobs failed over
        # for that, and slots were taken back from jobs that had just begun.
        "pekko.ask.timeout": "60 s",
        **METRICS,
        "state.backend.type": "hashmap",
        # Hadoop's own runs `chmod` four times for each file of a table.
        "flink.hadoop.fs.file.impl": "io.headwater.kernel.files.LocalFiles",
        "execution.checkpointing.dir": f"file://{state}/checkpoints",
        "execution.checkpointing.savepoint-dir": f"file://{state}/savepoints",
    }
