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
import multiprocessing
import multiprocessing.connection
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import requests

from bench.engine import parse, script
from bench.flights import Bench, bench
from bench.report import publish
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
_ASKED_A_SECOND = 50


class Client:
    """Asks the API at a steady rate from a process of its own, and notes how long each took."""

    def __init__(self, url: str, features: list[str], entities: list[dict[str, str]]) -> None:
        self._asked = (url, features, entities)
        self.took: list[tuple[float, float]] = []
        """When it was to ask, and the seconds from then until the answer."""
        self.errors = 0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While it asks; what it found is known afterwards."""
        context = multiprocessing.get_context("spawn")
        self._told, theirs = context.Pipe()
        process = context.Process(target=_ask, args=(theirs, *self._asked))
        process.start()
        try:
            yield
        finally:
            self.look("stop")
            process.join()

    def look(self, what: str = "look") -> None:
        """Take over what it has noted so far."""
        self._told.send(what)
        self.took, self.errors = self._told.recv()

    def p99(self, start: float, end: float) -> float:
        """Seconds, of what was asked between two instants of `time.perf_counter`."""
        found = [took for began, took in self.took if start <= began < end]
        return float(statistics.quantiles(found, n=100)[98])


def _ask(
    told: multiprocessing.connection.Connection,
    url: str,
    features: list[str],
    entities: list[dict[str, str]],
) -> None:
    session = requests.Session()
    took, errors = [], 0
    due, number = time.perf_counter(), 0
    while True:
        if told.poll(max(0.0, due - time.perf_counter())):
            what = told.recv()
            told.send((took, errors))
            if what == "stop":
                return
            continue
        entity = entities[number % len(entities)]
        number += 1
        try:
            reply = session.post(
                f"{url}/v1/features", json={"features": features, "entities": [entity]}, timeout=5
            )
            errors += not reply.ok
        except requests.RequestException:
            errors += 1
        # From when it was due: whoever waits for an answer must not hide that others wait.
        took.append((due, time.perf_counter() - due))
        due += 1 / _ASKED_A_SECOND


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
        """The API's p99 before a governed replay and during it, seconds."""
        view = next(v for v in self.views if v.name == "carrier_delays")
        client = Client(
            self.settings.api_url,
            [f"{view.name}:{column.name}" for column in view.schema],
            [{"carrier": name} for name in ("UA", "DL", "AA", "B6", "EV")],
        )
        with client.asking():
            time.sleep(5)  # the first requests compile
            start = time.perf_counter()
            time.sleep(20)
            middle = time.perf_counter()
            client.look()
            before = client.p99(start, middle)
            begun = self.replays.start(
                Wanted(self.names, *span, {}),
                lambda _: None,
                rate=20_000,
                max_p99_ms=before * 1000 * 1.3,
            )
            submitted, read, seconds, slowed = time.perf_counter(), 0, 0.0, 0
            for now in self.replays.follow(begun):
                read, slowed = now.rows, now.slowed
                seconds = time.perf_counter() - submitted
                if seconds > limit:
                    break
            end = time.perf_counter()
        self.replays.drop(self.replays.journal.find(begun.id))
        during = client.p99(middle, end)
        print(
            f"{'serving':<22} p99 {before * 1000:.1f} ms before, {during * 1000:.1f} ms during;"
            f" {read / max(seconds, 1):,.0f} rows/s, slowed {slowed} times,"
            f" {client.errors} errors of {len(client.took):,}"
        )
        self.details.append(
            {
                "kind": "serving",
                "p99_before": before,
                "p99_during": during,
                "rows_per_second": read / max(seconds, 1),
                "slowed": slowed,
                "errors": client.errors,
                "asked": len(client.took),
            }
        )
        return before, during

    def archived(self, stream: EventStream) -> int:
        """Its records in the archive."""
        archive = StreamArchive.open(catalog(self.settings), stream.name)
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
    parts = ("postgres", "redis", "kafka", "flink", "taskmanager", "api")
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
