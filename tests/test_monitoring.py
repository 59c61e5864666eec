"""Prometheus reads what the parts tell, and an alert reaches whoever is to be told."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests

from feature_repo.flights.repository import repository
from flink_jobs.sql import jobs as flink_jobs
from headwater.commands import local
from headwater.local.monitoring import NAMES
from headwater.local.platform import Platform
from headwater.settings import Settings
from observability import queries as q
from observability.dashboards import dashboards
from tests.conftest import ROOT, eventually, platform_of
from tests.ports import free_ports

PROGRAM = ROOT / "build/tools/debian/usr/bin/prometheus"
needs_tools = pytest.mark.skipif(not PROGRAM.exists(), reason="`make tools` brings Prometheus")


@pytest.fixture(scope="module")
def running():
    """Of its own: its metrics are of nothing but this."""
    with platform_of("monitoring") as platform:
        yield platform


@pytest.fixture
def webhook():
    """A server on the loopback, and what was posted to it."""
    received: list[dict] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            received.append(json.loads(self.rfile.read(length)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()


@needs_tools
def test_an_alert_that_fires_is_posted_with_its_runbook(tmp_path, webhook):
    """No API runs here, so `ApiDown` must fire, go by Alertmanager, and arrive."""
    address, received = webhook
    environ = free_ports() | {"HEADWATER_STATE": str(tmp_path), "HEADWATER_ALERT_WEBHOOK": address}
    settings = Settings.read(environ)
    platform = Platform(settings)
    try:
        platform.up(NAMES, print)
        # How long it must hold is tested by promtool; here nobody waits that long. But for some
        # seconds after it has read them, Prometheus does not know of Alertmanager yet, and what
        # fires meanwhile is sent again after a minute only.
        rules = tmp_path / "prometheus" / "rules.yml"
        rules.write_text(rules.read_text("utf-8").replace("for: 1m\n", "for: 10s\n"), "utf-8")
        process = platform.process(platform.parts["prometheus"]).find()
        assert process is not None
        os.kill(process.pid, signal.SIGHUP)

        def fired() -> list[dict]:
            alerts = [alert for message in list(received) for alert in message["alerts"]]
            return [alert for alert in alerts if alert["labels"]["alertname"] == "ApiDown"]

        alert = eventually(fired, 150)[0]
    finally:
        platform.down(NAMES, print)
    assert alert["status"] == "firing"
    assert alert["labels"]["severity"] == "page"
    assert alert["annotations"]["runbook_url"] == "docs/runbooks/api-down.md"
    assert (ROOT / alert["annotations"]["runbook_url"]).exists()
    assert platform.status(NAMES)[0].state == "down"


def test_watchers_start_only_when_asked_for():
    settings = Settings.read(free_ports() | {"HEADWATER_STATE": str(Path("/nowhere"))})
    names = [part.name for part in Platform(settings).select([])]
    assert not set(NAMES) & set(names)
    assert "observability" in [option.name for option in local.up.params]


def test_missing_programs_are_named(tmp_path):
    (tmp_path / "envs").symlink_to(ROOT / "build" / "envs")
    environ = free_ports() | {"HEADWATER_STATE": str(tmp_path), "HEADWATER_BUILD": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-m", "headwater", "up", "prometheus"],
        env=os.environ | environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "run `make tools`" in run.stderr


@pytest.fixture(scope="module")
def computing(running):
    """That platform with its jobs at work on a day of events."""
    environ = os.environ | running.environ

    def headwater(*arguments: str) -> str:
        run = subprocess.run(
            [sys.executable, "-m", "headwater", *arguments],
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    headwater("load")
    headwater("apply")
    headwater("jobs", "submit")
    headwater("produce", "--from", "2013-01-01", "--to", "2013-01-03")
    yield running, headwater
    headwater("jobs", "stop")


def test_the_parts_tell_every_metric_that_is_asked_for(computing):
    running, _ = computing
    ports = running.settings.ports

    def scraped(port: int) -> str:
        """What Prometheus would have read: nothing of a part that does not answer in its time."""
        try:
            return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        except requests.RequestException:
            return ""

    missing = set(q.FLINK_METRICS)

    def told() -> bool:
        for port in (ports.flink_metrics, ports.taskmanager_metrics):
            lines = scraped(port).splitlines()
            missing.difference_update(line.split("{")[0] for line in lines if line[:1] != "#")
        return not missing

    eventually(told)
    assert missing == set()
    text = eventually(lambda: scraped(ports.taskmanager_metrics))
    # The labels by which dashboards and rules find a view's series.
    for wanted in (
        f'{q.REDIS_WRITES}{{.*operator_name="redis_carrier_delays:_Writer"',
        f'{q.LATE_ROWS}{{.*task_name="[^"]*redis_carrier_delays:_Writer',
        f'{q.RECORDS_IN}{{.*operator_name="ProcessTableFunction[^"]*".*redis_carrier_delays:_Wr',
        rf'{q.DEAD_LETTERS}{{(?=.*operator_name="Source:_departures_\d+_").*reason="malformed"',
        rf'{q.BROKEN}{{(?=.*operator_name="Source:_weather_\d+_").*expectation="temp_within"',
        rf'{q.LATE_VERSIONS}{{.*job_name="flights_departures"',
        f'{q.COMMIT_AGE}{{.*table="headwater_features_carrier_delays"',
        f'{q.PENDING}{{.*job_name="flights_departures"',
    ):
        assert re.search(wanted, text), wanted


@needs_tools
def test_the_real_prometheus_takes_every_panels_expressions(computing):
    """Beside a running platform: it answers each, be it with nothing."""
    running, headwater = computing
    names = [job.name for job in flink_jobs(repository)]
    asked = {
        target["expr"]
        for dashboard in dashboards(repository, names).values()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }

    everywhere = ("$namespace", ".*")

    def answer(expression: str) -> dict:
        return requests.get(
            f"http://127.0.0.1:{running.settings.ports.prometheus}/api/v1/query",
            params={"query": expression.replace("$__rate_interval", "1m").replace(*everywhere)},
            timeout=10,
        ).json()

    headwater("up", "prometheus", "exporter")
    try:
        for expression in asked:
            assert answer(expression)["status"] == "success", expression
        (view,) = (view for view in repository.views if view.name == "origin_delays")
        drawn = eventually(lambda: answer(q.by_feature(q.NULLS, view))["data"]["result"])
        assert {one["metric"]["feature"] for one in drawn} == {c.name for c in view.schema}
    finally:
        headwater("down", "prometheus", "exporter")
