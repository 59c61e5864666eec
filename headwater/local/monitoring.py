"""Prometheus and Alertmanager, which `make tools` brings, and who else only watches."""

from __future__ import annotations

import os
from pathlib import Path

import requests

from headwater.local.exporter import NAME as EXPORTER
from headwater.local.part import Part, PartFailed
from headwater.monitoring import Receivers, Targets, alertmanager_file, prometheus_files
from headwater.settings import Settings
from schemas.loading import load_repository

_PROMETHEUS = Path("tools/debian/usr/bin/prometheus")
NAMES = ("alertmanager", EXPORTER, "prometheus")


def prometheus(settings: Settings) -> Part:
    """Reads every part's metrics and evaluates the rules that the declarations make."""
    folder, port = settings.state / "prometheus", settings.ports.prometheus
    targets = Targets(
        api=f"127.0.0.1:{settings.ports.api}",
        flink=(
            f"127.0.0.1:{settings.ports.flink_metrics}",
            f"127.0.0.1:{settings.ports.taskmanager_metrics}",
        ),
        exporter=f"127.0.0.1:{settings.ports.exporter}",
        alertmanager=f"127.0.0.1:{settings.ports.alertmanager}",
    )
    return Part(
        name="prometheus",
        address=f"http://127.0.0.1:{port}",
        ports=(port,),
        command=(
            str(settings.build / _PROMETHEUS),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ),
        env=_environment(),
        prepare=lambda: _write(
            _installed(settings, folder),
            prometheus_files(load_repository(settings.repository), targets),
        ),
        check=lambda: requests.get(
            f"http://127.0.0.1:{port}/-/ready", timeout=2
        ).raise_for_status(),
        cwd=settings.state,
    )


def alertmanager(settings: Settings) -> Part:
    """Groups what fires and tells whoever the settings name."""
    folder, port = settings.state / "alertmanager", settings.ports.alertmanager
    return Part(
        name="alertmanager",
        address=f"http://127.0.0.1:{port}",
        ports=(port,),
        command=(
            str(settings.build / "tools" / "alertmanager"),
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            # Alone: it needs no port for its like.
            "--cluster.listen-address=",
        ),
        env=_environment(),
        prepare=lambda: _write(
            _installed(settings, folder),
            {"alertmanager.yml": alertmanager_file(Receivers(webhook=settings.alert_webhook))},
        ),
        check=lambda: requests.get(
            f"http://127.0.0.1:{port}/-/ready", timeout=2
        ).raise_for_status(),
        cwd=settings.state,
    )


def _installed(settings: Settings, folder: Path) -> Path:
    program = settings.build / _PROMETHEUS
    if not program.exists():
        raise PartFailed(f"{folder.name}: {program} is not there: run `make tools`")
    return folder


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
