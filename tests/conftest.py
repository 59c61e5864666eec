"""The platform the tests run on: containers where a Docker engine answers, processes elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import Any

import prometheus_client  # noqa: F401  before Feast, which has it count in files from then on
import psycopg
import pytest
import redis
from hypothesis import HealthCheck, settings
from redis.backoff import NoBackoff
from redis.retry import Retry
from xdist.scheduler import LoadScopeScheduling

from connectors.producer import between, produce
from connectors.redis_codec import decode_value, entity_key, feature_field, timestamp_field
from headwater import stores
from headwater.local.platform import Platform
from headwater.settings import Settings
from schemas import EVENT_TIME, FeatureView
from tests.containers import containers_for, docker_answers
from tests.otlp import Receiver
from tests.ports import free_ports
from tests.shop import CUSTOMERS

ROOT = Path(__file__).parent.parent

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


SHARING = {
    "the platform": {
        *("test_arrivals.py", "test_chaos.py", "test_deadletters.py", "test_outage.py"),
        *("test_platform.py", "test_replay.py", "test_replay_kills.py", "test_replay_story.py"),
        *("test_skew.py", "test_stop.py", "test_submitter.py", "test_topic.py"),
    },
    "the shop's platform": {
        *("test_audit.py", "test_capture.py", "test_recovery.py", "test_silence.py"),
        *("test_trace.py", "test_upgrade.py"),
    },
}
"""The modules of the tests that share a platform, and so a process."""

_ORDER = {"test_deadletters.py": -2, "test_runbooks.py": -1, "test_chaos.py": 1}
"""Of modules that are not to stand where the alphabet has them.

Dead letters come first: every letter there is must be theirs. The runbooks take longest of those
that share nothing, and the other process is not to begin with them at the end. The kill campaign
comes last: it takes the cluster's other jobs with it.
"""


class Lanes(LoadScopeScheduling):
    """The modules that share a platform on one process, the others one by one on the next."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0].rpartition("/")[2]
        return next((name for name, of_it in SHARING.items() if module in of_it), module)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """Where there are several processes, whose tests are which."""
    return Lanes(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of the modules, and that none that shares a platform was left out."""
    items.sort(key=lambda item: _ORDER.get(item.path.name, 0))
    shared = {item.path.name for item in items if "receiver" in item.fixturenames}
    if left_out := shared.difference(*SHARING.values()):
        raise pytest.UsageError(f"conftest.py: SHARING has no {', '.join(sorted(left_out))}")


catalog = cache(stores.catalog)
"""One a platform: each has connections to PostgreSQL, as long as Python does not collect it."""


def eventually(check, seconds=180):
    """The first true result of `check`, or its last one after `seconds`: an end, and no measure."""
    deadline = time.monotonic() + seconds
    while not (result := check()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return result


def redis_at(port):
    """A client that does not wait for seconds by itself where nobody answers yet."""
    return redis.Redis(port=port, retry=Retry(NoBackoff(), 0))


def produce_awake(access, recorded):
    """Send events to jobs that may have seen none for a while, so that none counts as late.

    A partition that was idle counts again from its first event on. Were the rest sent with it, the
    events of one partition could all be read before the first of the other, and pass it by.
    """
    first = min(events[0][EVENT_TIME] for events in recorded.values() if events)
    soon = {s: between(e, None, first + 240_000) for s, e in recorded.items()}
    produce(access, soon)
    time.sleep(2)
    produce(
        access,
        {
            s: [e for e in events if e[EVENT_TIME] >= first + 240_000]
            for s, events in recorded.items()
        },
    )


class Running:
    """A platform of its own, and the environment in which `headwater` commands act on it."""

    def __init__(self, state: Path, **environ: str) -> None:
        self.environ = free_ports() | {"HEADWATER_STATE": str(state)} | environ
        # The past comes in bursts here, and no partition of it is silent for good.
        self.environ["HEADWATER_IDLE_SECONDS"] = "600"
        self.environ["HEADWATER_FEATURE_LOG"] = "1"
        # Most tests wait for rows in Iceberg, and those wait for checkpoints.
        self.environ["HEADWATER_CHECKPOINT_SECONDS"] = "2"
        # A test ends before it has won back what the second compiler takes.
        for part in ("TASKMANAGER", "KAFKA"):
            self.environ[f"HEADWATER_{part}_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"
        self.containers = {}
        if docker_answers():
            self.environ.setdefault("HEADWATER_EXTERNAL", "kafka,postgres,redis")
        self.settings = Settings.read(self.environ)
        if self.settings.external:
            self.containers = containers_for(self.settings)
        self.platform = Platform(self.settings)

    def up(self, *names: str) -> None:
        """Start parts, whichever way they run."""
        for name, container in self.containers.items():
            if not names or name in names:
                container.start()
                part = self.platform.parts[name]
                eventually(lambda part=part: _answers(part))
        self.platform.up(names, print)

    def down(self, *names: str) -> None:
        """Stop parts, whichever way they run."""
        self.platform.down(names, print)
        for name, container in self.containers.items():
            if not names or name in names:
                container.stop()

    def state_of(self, name: str) -> str:
        """What `headwater status` says of a part."""
        return next(part.state for part in self.platform.status([name]))


def _answers(part) -> bool:
    try:
        part.check()
    except Exception:
        return False
    return True


@contextmanager
def platform_of(name, **environ):
    """A platform for whoever is called that; what was started is stopped at the end."""
    state = ROOT / "build" / f"test-{name}-{os.getpid()}"
    shutil.rmtree(state, ignore_errors=True)
    platform = Running(state, **environ)
    try:
        platform.up()
        yield platform
    finally:
        platform.down()
        logs = ROOT / "build" / f"test-{name}-logs"
        shutil.rmtree(logs, ignore_errors=True)
        if (state / "logs").exists():
            shutil.copytree(state / "logs", logs)
        platform.platform.erase()


@pytest.fixture(scope="session")
def receiver(tmp_path_factory):
    """Where the traces of the platform's jobs and APIs go."""
    receiver = Receiver(tmp_path_factory.mktemp("otlp") / "traces.jsonl")
    yield receiver
    receiver.close()


@pytest.fixture(scope="session")
def running(receiver):
    """One platform for all tests of a process that need one."""
    name = f"platform-{os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}"
    with platform_of(name, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as platform:
        yield platform


def command(environ, *arguments) -> subprocess.CompletedProcess[str]:
    """What a user runs as `headwater`."""
    return subprocess.run(
        [sys.executable, "-m", "headwater", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="session")
def flying(running):
    """Called, it is the shared platform with the flights' tables and connector, and all its jobs.

    A test before may have lost one of those.
    """
    environ = os.environ | running.environ

    def must(*arguments: str) -> None:
        done = command(environ, *arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)

    for arguments in (("load",), ("apply",)):
        must(*arguments)

    def submitted() -> Running:
        must("jobs", "submit")
        return running

    return submitted


class Shop:
    """The second repository on the same platform: the platform knows nothing of either."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.settings = running.settings
        self.environ = (
            os.environ | running.environ | {"HEADWATER_REPOSITORY": "tests.shop:repository"}
        )
        self.written = 0
        """How many customers were inserted while the connector was applied."""

    def headwater(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """The command, on the shop instead of the flights; `environ` comes on top."""
        return command(self.environ | environ, *arguments)

    def must(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """The same, and it ends well."""
        done = self.headwater(*arguments, **environ)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done

    def values(self, view: FeatureView, key: str) -> dict[str, object] | None:
        """What Redis holds of a customer, by feature; None for one that never was."""
        fields = [feature_field(view.name, column.name) for column in view.schema]
        entity = entity_key("shop", view.entities, {"customer": key})
        with redis.Redis(port=self.settings.ports.redis) as online:
            time, *found = online.hmget(entity, timestamp_field(view.name), *fields)
        if time is None:
            return None
        decoded = (None if value is None else decode_value(value) for value in found)
        return dict(zip((column.name for column in view.schema), decoded, strict=True))

    def sql(self, statement: str, *values: object) -> None:
        """Run one statement in the shop's database, and commit it."""
        url = self.settings.postgres_url("shop")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement, values or None)


@pytest.fixture(scope="session")
def shop(running):
    """The shop's database, topics, tables, connector and jobs, with one customer."""
    shop = Shop(running)
    shop.must("up", "postgres")
    shop.sql(CUSTOMERS)
    shop.sql(
        "INSERT INTO customers (customer, points)"
        " SELECT 'old ' || n, n FROM generate_series(1, 500) n"
    )
    stop = Event()

    def write() -> None:
        """Rows from before, during and after the connector's first snapshot."""
        while not stop.is_set():
            shop.written += 1
            shop.sql(
                "INSERT INTO customers (customer, points) VALUES (%s, %s)",
                f"new {shop.written}",
                shop.written,
            )
            time.sleep(0.02)

    writer = Thread(target=write)
    writer.start()
    try:
        done = shop.headwater("apply")
    finally:
        stop.set()
        writer.join()
    assert done.returncode == 0, done.stderr
    done = shop.headwater("jobs", "submit")
    assert done.returncode == 0, done.stderr
    return shop
