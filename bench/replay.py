"""How fast a replay is: beside its bare source, beside Feast's own way, and what serving notices.

    python -m bench.replay [--copies 10]

A year of flights, each departure and arrival `copies` times, goes into Kafka and the archive. All
views over it are replayed from Kafka into Iceberg and Redis, and again from the archive. Every
ratio is of runs on the same platform, one after the other; a first, short replay compiles and
is thrown away. `vs_live_feast` is the rate of the replay from Kafka over the rate at which Feast
reads the same rows from the same tables and materializes them into the same Redis, both counted
in events of the log that the rows were made of.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.engine import parse, script
from bench.flights import Bench, bench
from bench.report import publish
from bench.serving import Bench as Load
from bench.serving import Target, http, on
from connectors.producer import Event, produce
from feature_repo.registration import apply, feature_store
from flink_jobs.rest import FlinkError
from headwater.apply import apply_tables, apply_topics
from headwater.replays.plan import Wanted
from headwater.replays.run import Replays
from headwater.settings import Settings
from headwater.stores import catalog, registry
from iceberg.archive import StreamArchive
from iceberg.offline import rows
from iceberg.tables import AVAILABLE_AT
from schemas import EVENT_TIME, EventStream, Repository
from schemas.loading import load_history, load_repository

_GOALS = {
    "vs_parse": "≥ 0.5",
    "vs_live_feast": "≥ 5",
    "archive_vs_kafka": "≥ 0.8",
    "live_p99_ratio": "≤ 1.5",
}
_DAY = 86_400_000
_SEED = 2013
_ASKED_A_SECOND = 200


class Runs:
    """Measured replays of all views over the streams, on one platform."""

    def __init__(self, platform: Bench, repository: Repository) -> None:
        self.bench = platform
        self.settings = platform.settings
        self.repository = repository
        self.replays = Replays(platform.settings, repository)
        self.details: list[dict[str, Any]] = []
        self.views = [v for v in repository.views if isinstance(v.source, EventStream)]
        self.names = tuple(view.name for view in self.views)

    def replay(self, kind: str, span: tuple[int, int], source: str) -> tuple[str, float]:
        """A replay of all views from its start to its end: its id and events a second."""
        begun = self.replays.start(Wanted(self.names, *span, {}, source), lambda _: None)
        state = [now.state for now in self.replays.follow(begun)][-1]
        if state != "done":
            raise FlinkError(f"{kind}: {state}: {self.replays.failure(begun)}")
        done = self.replays.journal.find(begun.id)
        self._note(kind, done.planned, done.seconds)
        return begun.id, done.planned / done.seconds

    def parse(self) -> float:
        """Events a second of the bare sources, each job beside the others, as they are replayed."""
        began = time.monotonic()
        streams = self.repository.streams
        ids = []
        for stream in streams:
            views = [v for v in self.views if v.source == stream]
            name, bound = f"bench-parse-{stream.name}", {"scan.bounded.mode": "latest-offset"}
            ids.append(self.bench.start(name, script(name, stream, bound, parse(views, stream))))
        jobs = [self._ended(id_) for id_ in ids]
        # Submitted one after the other, so the longest of them, and not from the first to the last.
        took = max(job["duration"] for job in jobs) / 1000
        events = sum(self.archived(stream) for stream in streams)
        self._note("parse", events, took)
        assert took < time.monotonic() - began
        return events / took

    def feast(self, span: tuple[int, int]) -> float:
        """Seconds in which Feast reads all rows of the span and materializes the newest."""
        store = feature_store(self.repository.name, registry(self.settings))
        first, last = (datetime.fromtimestamp(t / 1000, UTC) for t in span)
        began, read = time.monotonic(), 0
        for view in self.views:
            table = catalog(self.settings).load_table(f"features.{view.name}")
            features = [column.name for column in view.schema]
            # What the store's pull_all_from_table_or_query does.
            found = rows(table, view.keys, features, EVENT_TIME, AVAILABLE_AT, first, last)
            read += found.num_rows
        reading = time.monotonic() - began
        store.materialize(first, last, feature_views=list(self.names))
        took = time.monotonic() - began
        print(f"{'feast':<22} {read:>10,} rows   {reading:>8.1f} s read, {took:.1f} s in all")
        self.details.append({"kind": "feast", "rows": read, "seconds": took, "reading": reading})
        return took

    def serving(self, span: tuple[int, int], limit: float) -> tuple[float, float]:
        """The API's p99 before a governed replay and during it, seconds; open-loop load.

        The clients are on the core that is kept for lookups then: they stand for other machines.
        """
        view = next(v for v in self.views if v.name == "carrier_delays")
        features = [f"{view.name}:{column.name}" for column in view.schema]
        asked = [
            json.dumps({"features": features, "entities": [{"carrier": name}]}).encode()
            for name in ("UA", "DL", "AA", "B6", "EV")
        ]
        port = self.settings.ports.api
        api = Target("api", "http", port, {1: http(port, "/v1/features", asked)}, {}, None)
        with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as aside:
            load = Load(Path(folder))

            def ask(seconds: float) -> dict[str, Any]:
                with on({min(os.sched_getaffinity(0))}):
                    return load.run(api, 1, seconds, _ASKED_A_SECOND)

            ask(5)  # the first requests compile
            before = ask(20)
            during = aside.submit(ask, limit)
            begun = self.replays.start(
                Wanted(self.names, *span, {}),
                lambda _: None,
                rate=20_000,
                max_p99_ms=before["p99_ms"] * 1.3,
            )
            began, rows, slowed = time.monotonic(), 0, 0
            for now in self.replays.follow(begun):
                rows, slowed = now.rows, now.slowed
                if during.done():
                    break
            took = time.monotonic() - began
            found = during.result()
        self.replays.drop(self.replays.journal.find(begun.id))
        p99 = before["p99_ms"], found["p99_ms"]
        print(
            f"{'serving':<22} p99 {p99[0]:.1f} ms before, {p99[1]:.1f} ms during;"
            f" {rows / took:,.0f} rows/s, slowed {slowed} times"
        )
        self.details.append(
            {
                "kind": "serving",
                "before": before,
                "during": found,
                "rows_per_second": rows / took,
                "slowed": slowed,
            }
        )
        return p99[0] / 1e3, p99[1] / 1e3

    def archived(self, stream: EventStream) -> int:
        """Its records in the archive."""
        archive = StreamArchive.open(catalog(self.settings), stream)
        return 0 if archive is None else sum(kept.rows for kept in archive.kept().values())

    def _ended(self, id_: str) -> dict[str, Any]:
        while True:
            time.sleep(0.5)
            try:
                job = self.bench.cluster.get(f"/jobs/{id_}")
            except FlinkError:  # it is busy
                continue
            if job["state"] == "FINISHED":
                return dict(job)
            if job["state"] not in ("CREATED", "INITIALIZING", "RUNNING"):
                raise FlinkError(f"{job['name']}: {self.bench.cluster.exception(id_)}")

    def _note(self, kind: str, events: int, took: float) -> None:
        print(
            f"{kind:<22} {events:>10,} events {took:>8.1f} s {events / took:>12,.0f}/s", flush=True
        )
        self.details.append({"kind": kind, "events": events, "seconds": took})


def spread(settings: Settings, name: str, copies: int) -> Iterator[Event]:
    """Every event of a stream `copies` times, all but the first up to 12 hours earlier or later."""
    recorded = load_history(settings.history).streams[name]()
    times = np.fromiter((int(e[EVENT_TIME] or 0) for e in recorded), np.int64, len(recorded))
    shifts = np.random.default_rng(_SEED).integers(-_DAY // 2, _DAY // 2, (copies, len(recorded)))
    shifts[0] = 0
    shifted = (times + shifts).ravel()
    for position in np.argsort(shifted, kind="stable"):
        yield {**recorded[position % len(recorded)], EVENT_TIME: int(shifted[position])}


def fill(runs: Runs, copies: int) -> int:
    """Topics, tables and Feast's registry; the year's events in Kafka and in the archive."""
    settings, repository = runs.settings, runs.repository
    apply_topics(settings, repository, print)
    apply_tables(settings, repository, print)
    apply(repository, registry(settings))
    runs.bench.jobs.submit([f"{repository.name}-archive"], lambda _: None)
    streams = {
        s: spread(settings, s.name, 1 if s.name == "weather" else copies)
        for s in repository.streams
    }
    sent = produce(settings.kafka_access, streams)  # type: ignore[arg-type]
    count = sum(sent.counts.values())
    print(f"{count:,} events in Kafka after {sent.seconds:.0f} s", flush=True)
    while sum(runs.archived(stream) for stream in repository.streams) < count:
        time.sleep(1)
    runs.bench.jobs.stop([f"{repository.name}-archive"], lambda _: None)
    print("and in the archive", flush=True)
    return count


def main() -> None:
    """Run everything and publish it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--copies", type=int, default=10, help="of each departure and arrival")
    options.add_argument("--serving-seconds", type=float, default=60)
    given = options.parse_args()
    first = int(datetime(2013, 1, 1, tzinfo=UTC).timestamp() * 1000)
    year, week = (first - _DAY, first + 367 * _DAY), (first, first + 7 * _DAY)
    parts = ("postgres", "redis", "kafka", "flink", "taskmanager", "submitter", "api")
    with bench(*parts, memory="6g") as platform:
        repository = load_repository(platform.settings.repository)
        runs = Runs(platform, repository)
        events = fill(runs, given.copies)
        warm, _ = runs.replay("warm-up", week, "auto")
        runs.replays.drop(runs.replays.journal.find(warm))
        bare = [runs.parse() for _ in range(2)][1]
        id_, kafka = runs.replay("from Kafka", year, "kafka")
        promoted = time.monotonic()
        runs.replays.promote(runs.replays.journal.find(id_), lambda _: None)
        promoted = time.monotonic() - promoted
        again, archive = runs.replay("from the archive", year, "archive")
        runs.replays.drop(runs.replays.journal.find(again))
        feast = runs.feast(year)
        before, during = runs.serving(year, given.serving_seconds)
    publish(
        "replay",
        {
            "events_per_second": kafka,
            "vs_parse": kafka / bare,
            "vs_live_feast": kafka / (events / feast),
            "archive_vs_kafka": archive / kafka,
            "live_p99_ratio": during / before,
            "parse_events_per_second": bare,
            "archive_events_per_second": archive,
            "feast_seconds": feast,
            "promote_seconds": promoted,
            "p99_before_ms": before * 1000,
            "p99_during_ms": during * 1000,
        },
        _GOALS,
        {"events": events, "copies": given.copies, "runs": runs.details},
    )


if __name__ == "__main__":
    main()
