"""The whole platform on recorded data, then the proof that its four answers are one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from connectors.producer import Event, between
from connectors.tables import load_tables
from flink_jobs.rest import FlinkCluster
from headwater.agreement import Agreement, Places, agree
from headwater.apply import apply_all, apply_connector
from headwater.jobs import Jobs
from headwater.local.marker import mark, marked
from headwater.local.platform import Platform
from headwater.settings import Settings
from headwater.stores import catalog, online
from schemas import (
    EVENT_TIME,
    EventStream,
    FeatureView,
    HeadwaterError,
    JoinedStream,
    Repository,
    parts,
)
from schemas.history import History, Record

SAMPLE = 12
_STEPS = 7
_SECONDS = 68
_PATIENCE = 180

Report = Callable[[str], None]
Send = Callable[[dict[EventStream, list[Event]]], dict[str, int]]


class DemoFailed(HeadwaterError):
    """A part of the demo did not do what it must; the text says which and what to look at."""

    exit_code = 1


@dataclass(frozen=True)
class Outcome:
    """What the demo has shown."""

    sent: dict[str, int]
    processed: dict[str, dict[str, int]]
    """Rows that reached each view's operator, by stream and view."""

    agreement: Agreement
    reply: dict[str, Any]
    """The answer to the lookup it prints."""


class Demo:
    """One run over the events with `start` <= event time < `end`."""

    def __init__(
        self, settings: Settings, repository: Repository, history: History, report: Report
    ) -> None:
        self.settings = settings
        self.repository = repository
        self.history = history
        self.report = report
        self.platform = Platform(settings)
        self._step = 0
        self._left = _SECONDS

    def run(self, start: int, end: int, send: Send) -> Outcome:
        """Everything, from an empty state folder; DemoFailed if anything is not as it must be."""
        settings, repository = self.settings, self.repository
        with self._say("an empty platform", 1):
            self._empty()
        with self._say("the servers, each a native process", 12):
            self.platform.up([], self._detail)
        with self._say("topics, tables, connector, jobs", 18):
            url = settings.source_url(repository.name)
            loaded = load_tables(url, repository.tables, self.history)
            for table, count in loaded.items():
                self._detail(f"{table}: {count} rows in PostgreSQL")
            apply_all(settings, repository, self._detail)
            jobs = Jobs(settings, repository)
            jobs.submit([], self._detail)
            apply_connector(settings, repository, self._detail)
            self._captured(jobs, loaded)
        with self._say("the recorded events, as fast as Kafka takes them", 8):
            recorded = {
                stream: between(self.history.streams[stream.name](), start, end)
                for stream in repository.streams
            }
            # Joined streams first: one that was silent is not waited for (docs/joins.md).
            others = {part for v in repository.views for part in parts(v.source)[1:]}
            first = {stream: events for stream, events in recorded.items() if stream in others}
            rest = {stream: events for stream, events in recorded.items() if stream not in others}
            sent = (send(first) if first else {}) | send(rest)
        with self._say("every event through every view", 22):
            processed = self._processed(jobs, recorded, sent | loaded)
        with self._say("four answers to each question", 6):
            agreement = self._agree(jobs, recorded)
        with self._say("one lookup", 1):
            reply = self._look_up(recorded)
        return Outcome(sent, processed, agreement, reply)

    def _empty(self) -> None:
        state = self.settings.state
        if marked(state) is None and self.platform.holds_data():
            raise DemoFailed(
                f"{state} holds a platform that no demo made, or data of another repository than "
                "the demo's. Keep it and set HEADWATER_STATE to another folder (and the ports, if "
                "it runs), or remove it yourself."
            )
        self.platform.down([], self._detail)
        self.platform.erase()
        mark(state, self.settings.repository)

    def _captured(self, jobs: Jobs, loaded: dict[str, int]) -> None:
        """Wait until the tables' rows are in, so that each event finds those it is joined with."""
        views = [view for view in self.repository.views if view.source.name in loaded]
        self._await_rows(jobs, {view.name: loaded[view.source.name] for view in views})

    def _processed(
        self, jobs: Jobs, recorded: dict[EventStream, list[Event]], read: dict[str, int]
    ) -> dict[str, dict[str, int]]:
        """Wait until each view's operator has had every event, and then for a checkpoint.

        Of a joined stream it has those that need not wait for another source any more.
        """
        wanted = {view.name: _wanted(view, recorded, read) for view in self.repository.views}
        joined = {view.name for view in self.repository.views if view.source.name not in read}
        found = self._await_rows(jobs, wanted)
        self._checkpoints(jobs)
        for source, views in found.items():
            for view, rows in views.items():
                if rows != wanted[view] and view not in joined:
                    raise DemoFailed(f"{view}: {rows:,} rows for {wanted[view]:,} of {source}")
                self._detail(f"{view}: {rows:,} rows of {source} processed")
        return found

    def _await_rows(self, jobs: Jobs, wanted: dict[str, int]) -> dict[str, dict[str, int]]:
        """What the views' operators have had when each of `wanted` has had so many rows."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            found = self._rows(jobs)
            missing = {
                view: f"{rows:,} of {wanted[view]:,}"
                for views in found.values()
                for view, rows in views.items()
                if rows < wanted.get(view, 0)
            }
            if not missing:
                return found
            if time.monotonic() > deadline:
                raise DemoFailed(f"after {_PATIENCE} s not all events were processed: {missing}")
            time.sleep(0.5)

    def _checkpoints(self, jobs: Jobs) -> None:
        ids = [job.id for job in jobs.running().values()]
        if behind := set(ids) - jobs.cluster.checkpoint(ids, 1, _PATIENCE).keys():
            raise DemoFailed(f"the job {min(behind)} made no checkpoint in {_PATIENCE} s")

    def _rows(self, jobs: Jobs) -> dict[str, dict[str, int]]:
        """Rows each view's operator has read, late ones not counted, by source and view."""
        found: dict[str, dict[str, int]] = {}
        running = jobs.running()
        for name, job in jobs.known.items():
            if name not in running:
                raise DemoFailed(f"the job {name} does not run; see `headwater jobs list`")
            rows = view_rows(jobs.cluster, running[name].id, [view.name for view in job.views])
            for view in job.views:
                found.setdefault(view.source.name, {})[view.name] = rows.get(view.name, 0)
        return found

    def _agree(self, jobs: Jobs, recorded: dict[EventStream, list[Event]]) -> Agreement:
        settings, repository = self.settings, self.repository
        known: dict[str, Sequence[Any]] = {s.name: events for s, events in recorded.items()}
        for table in repository.tables:
            generate = self.history.generated.get(table.name, _nothing)
            known[table.name] = [row | generate(row) for row in self.history.tables[table.name]()]
        with online(settings) as store:
            places = Places(repository.name, store, catalog(settings), settings.api_url)
            result = agree(repository.views, known, places, SAMPLE)
            if result.differences:
                # A view may have moved on between two answers: once more, when all have settled.
                self._checkpoints(jobs)
                result = agree(repository.views, known, places, SAMPLE)
        if result.differences:
            shown = "\n  ".join(result.differences[:20])
            raise DemoFailed(f"{len(result.differences)} differences:\n  {shown}")
        self._detail(
            f"{result.values:,} values of {result.entities} entities: Redis = newest Iceberg row"
            " = API = plain-Python recomputation"
        )
        return result

    def _look_up(self, recorded: dict[EventStream, list[Event]]) -> dict[str, Any]:
        service = self.repository.services[0]
        keys = {key for view in service.views for key in view.keys}
        request = {"service": service.name, "entities": [_entity(keys, recorded)]}
        url = f"{self.settings.api_url}/v1/features?include=metadata"
        reply = requests.post(url, json=request, timeout=5)
        reply.raise_for_status()
        self.report(f"  curl '{url}' --json '{json.dumps(request)}'")
        document: dict[str, Any] = reply.json()
        return document

    def _detail(self, text: str) -> None:
        self.report(f"  {text}")

    @contextmanager
    def _say(self, what: str, seconds: int) -> Iterator[None]:
        """Name a step, how long it usually takes and how long the rest takes after it."""
        self._step += 1
        self._left -= seconds
        self.report(
            f"[{self._step}/{_STEPS}] {what} (about {seconds} s, then about {self._left} s more)"
        )
        began = time.monotonic()
        yield
        self.report(f"  ({time.monotonic() - began:.1f} s)")


def _wanted(
    view: FeatureView, recorded: Mapping[EventStream, Sequence[Event]], read: Mapping[str, int]
) -> int:
    """The rows a view's operator must have had: all, or of a joined stream all but the last.

    An event waits for the watermarks of the other streams, which may come hours apart.
    """
    if not isinstance(view.source, JoinedStream):
        return read[view.source.name]
    joined = view.source
    streams = [source for source in joined.sources if isinstance(source, EventStream)]
    newest = min((int(recorded[s][-1][EVENT_TIME] or 0) for s in streams if recorded[s]), default=0)
    slack = max((j.within.seconds for j in joined.joins if j.within), default=600) * 1000
    return sum(int(e[EVENT_TIME] or 0) <= newest - slack for e in recorded[joined.stream])


def _nothing(_: Record) -> Record:
    return {}


def view_rows(cluster: FlinkCluster, job_id: str, views: Sequence[str]) -> dict[str, int]:
    """Records each view's operator has read since the job started."""
    rows: dict[str, int] = {}
    for vertex in cluster.get(f"/jobs/{job_id}")["vertices"]:
        for view in views:
            # A view's operator is chained to its writer, which carries its name.
            if re.search(rf"\bredis {view}\b", vertex["name"]):
                rows[view] = vertex["metrics"]["read-records"]
    return rows


def _entity(keys: set[str], recorded: dict[EventStream, list[Event]]) -> dict[str, Any]:
    """The newest event that names every key: a flight that is about to leave."""
    for events in recorded.values():
        if events and keys <= set(events[-1]):
            return {key: events[-1][key] for key in sorted(keys)}
    raise DemoFailed(f"no event has all of {', '.join(sorted(keys))}")
