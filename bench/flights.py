"""The flights of 2013 at ten times their number, on Kafka, and a platform to run jobs on."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.stopping import stop_when_told
from connectors.producer import Event, produce
from connectors.topics import Topic, create_topics
from flink_jobs.rest import FlinkCluster, FlinkError
from headwater.jobs import Jobs
from headwater.local.platform import Platform
from headwater.settings import Ports, Settings
from schemas import EventStream
from schemas.loading import load_history, load_repository

FOREVER = {"retention.ms": "-1"}
"""Of a topic that forgets nothing: its events are of 2013."""

_DAY = 86_400_000
_SEED = 2013


@dataclass(frozen=True)
class Bench:
    """A platform that lives for one benchmark."""

    settings: Settings
    platform: Platform
    jobs: Jobs

    @property
    def cluster(self) -> FlinkCluster:
        return self.jobs.cluster

    def start(self, name: str, sql: str) -> str:
        """Submit a script; Flink's id of the job."""
        return self.jobs.submit_scripts({name: sql}, lambda _: None)[name]

    def finish(self, name: str, sql: str, limit: float) -> dict[str, Any] | None:
        """Run a bounded job to its end; Flink's description of it, None if it takes too long."""
        job, deadline = self.start(name, sql), time.monotonic() + limit
        while time.monotonic() < deadline:
            time.sleep(0.5)
            try:
                described = self.cluster.get(f"/jobs/{job}")
            except FlinkError:  # it is busy
                continue
            if described["state"] == "FINISHED":
                return dict(described)
            if described["state"] in ("FAILED", "CANCELED"):
                raise FlinkError(f"{name}: {self.cluster.exception(job)}")
            if described["state"] == "RESTARTING":
                problem = self.cluster.exception(job)
                self.cluster.cancel(job)
                raise FlinkError(f"{name}: {problem}")
        self.cluster.cancel(job)
        return None


def seconds(job: dict[str, Any]) -> float:
    """From the first task's deployment to the last one's end."""
    tasks = job["vertices"]
    return (max(t["end-time"] for t in tasks) - min(t["start-time"] for t in tasks)) / 1000


@contextmanager
def bench(*parts: str, memory: str = "3000m") -> Iterator[Bench]:
    """Those parts, started on free ports in a folder of their own, and stopped again."""
    state = Path("build/bench-state").absolute()
    with ExitStack() as stack:
        environ = {"HEADWATER_STATE": str(state), "HEADWATER_TASKMANAGER_MEMORY": memory}
        for port in fields(Ports):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            environ[f"HEADWATER_{port.name.upper()}_PORT"] = str(probe.getsockname()[1])
    settings = Settings.read(environ | {"HEADWATER_BUILD": os.environ.get("HEADWATER_BUILD", "")})
    platform = Platform(settings)
    platform.erase()
    stop_when_told()
    try:
        platform.up(parts, print)
        yield Bench(settings, platform, Jobs(settings, load_repository(settings.repository)))
    finally:
        platform.down((), lambda _: None)
        shutil.rmtree(state / "kafka", ignore_errors=True)


def departures(settings: Settings, copies: int) -> Iterator[Event]:
    """Every departure `copies` times, all but the first up to 12 hours earlier or later.

    In order of event time. An aircraft, an airline, an airport is `copies` times as busy as it
    was; nothing else changes.
    """
    recorded = load_history(settings.history).streams["departures"]()
    times = np.fromiter((int(e["event_time"] or 0) for e in recorded), np.int64, len(recorded))
    shifts = np.random.default_rng(_SEED).integers(-_DAY // 2, _DAY // 2, (copies, len(recorded)))
    shifts[0] = 0
    shifted = (times + shifts).ravel()
    for position in np.argsort(shifted, kind="stable"):
        yield {**recorded[position % len(recorded)], "event_time": int(shifted[position])}


def one_week(events: Iterator[Event], keys: int) -> Iterator[Event]:
    """The year's events in one week, by `keys` aircraft, all of which are in the air at once."""
    random = np.random.default_rng(_SEED)
    first: int | None = None
    for event in events:
        now = int(event["event_time"] or 0)
        first = now if first is None else first
        tailnum = f"K{random.integers(keys):07d}"
        yield {**event, "tailnum": tailnum, "event_time": first + (now - first) * 7 // 367}


def fill(
    settings: Settings, stream: EventStream, topic: str, events: Callable[[], Iterator[Event]]
) -> EventStream:
    """`events` on a new topic of three partitions; the stream that reads it."""
    create_topics(settings.kafka_access, {topic: Topic(3, FOREVER)})
    there = replace(stream, topic=topic)
    sent = produce(settings.kafka_access, {there: events()})  # type: ignore[dict-item]
    count = sent.counts[stream.name]
    print(f"{count:,} events on {topic} after {sent.seconds:.0f} s", flush=True)
    return there
