"""Plans, starts, follows and drops replays; the live jobs are never touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import redis
from confluent_kafka import Consumer, TopicPartition
from pyiceberg.catalog import Catalog

from connectors.ddl import captured_topic
from flink_jobs.replay import Span, replay_sql, warm_up
from flink_jobs.rest import FlinkCluster, FlinkError
from flink_jobs.sql import Job, jobs
from headwater.apply import catalog
from headwater.jobs import Jobs
from headwater.replays.journal import Journal, Replay
from headwater.replays.promote import (
    Moved,
    promote_offline,
    promote_online,
    roll_back_offline,
    roll_back_online,
)
from headwater.replays.verify import ViewReport, verify
from headwater.settings import Settings
from iceberg.catalog import NAMESPACE, empty_branch
from schemas import EventStream, FeatureView, HeadwaterError, Repository, SettingsError, Source

Report = Callable[[str], None]
Offline = Callable[[Catalog, FeatureView, Replay], int]
Online = Callable[[redis.Redis, FeatureView, Replay, str], int]
_KAFKA_SECONDS = 10


class ReplayError(HeadwaterError):
    """A replay cannot be done, or has failed; the text says why and what to do."""


@dataclass(frozen=True)
class SourcePlan:
    """What a replay reads of one topic."""

    topic: str
    views: list[str]
    warm_up_seconds: int | None
    """None: from the beginning of the log."""

    offsets: dict[int, tuple[int, int]]
    """First and last-plus-one offset, by partition."""

    rows: int
    gap: str
    """What the log no longer holds of what is needed; empty if it holds all."""


@dataclass(frozen=True)
class Progress:
    """How far a replay is."""

    share: float
    """0 to 1, by watermark."""

    rows: int
    rows_per_second: float
    seconds_left: float | None
    state: str


class Replays:
    """The replays of one repository on one platform."""

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self.settings = settings
        self.repository = repository
        self.journal = Journal(settings.state / "replays")
        self.cluster = FlinkCluster(settings.flink_url)

    def plan(self, views: Iterable[str], start: int, end: int) -> list[SourcePlan]:
        """What replaying `views` over [start, end) would read; changes nothing."""
        if start >= end:
            raise SettingsError("--from must be before --to")
        return [self._plan(job, start) for job in self._jobs(views)]

    def start(self, views: Iterable[str], start: int, end: int, report: Report) -> Replay:
        """Begin a replay over [start, end) beside the live jobs."""
        for source in self.plan(views, start, end):
            if source.gap:
                raise ReplayError(f"{source.topic}: {source.gap}")
        chosen = self._jobs(views)
        replay = Replay(
            self.journal.next_id(),
            tuple(view.name for job in chosen for view in job.views),
            start,
            end,
            {},
        )
        tables = catalog(self.settings)
        for name in replay.views:
            empty_branch(tables.load_table(f"{NAMESPACE}.{name}"), replay.branch)
        self.journal.write(replay)
        platform = Jobs(self.settings, self.repository)
        version = replay.version(self.repository.name)
        scripts = {}
        for job in chosen:
            name = f"replay-{replay.id}-{job.name}"
            scripts[name] = replay_sql(job, name, replay.branch, version, Span(start, end))
        ids = platform.submit_scripts(scripts, report)
        return self.journal.write(
            Replay(replay.id, replay.views, replay.start, replay.end, ids, "running")
        )

    def follow(self, replay: Replay) -> Iterator[Progress]:
        """How far it is, about twice a second, until its jobs have ended; then its last state."""
        began, first = time.monotonic(), None
        while True:
            now = self._progress(replay)
            first = now.share if first is None else first
            passed = time.monotonic() - began
            done = now.share - first
            left = passed / done * (1 - now.share) if done > 0.01 else None
            yield Progress(now.share, now.rows, now.rows / max(passed, 0.001), left, now.state)
            if now.state != "running":
                if replay.state == "running":
                    self.journal.set_state(replay, now.state)
                return
            time.sleep(0.5)

    def cancel(self, replay: Replay) -> None:
        """End its jobs; what it has written stays until it is dropped."""
        for job in self.cluster.jobs():
            if job.id in replay.jobs.values():
                self.cluster.cancel(job.id)
        self.journal.set_state(replay, "cancelled")

    def verify(self, replay: Replay) -> dict[str, ViewReport]:
        """Compare everything it wrote with what live wrote, by view."""
        tables = catalog(self.settings)
        known = {view.name: view for view in self.repository.views}
        return {name: verify(tables, known[name], replay) for name in replay.views}

    def promote(self, replay: Replay) -> dict[str, Moved]:
        """Put its values in the place of live ones, offline and online; what moved, by view.

        ReplayError unless it has come to its end. Doing it again finishes what was begun.
        """
        if replay.state not in ("done", "rolled back", "promoting", "promoted"):
            raise ReplayError(f"replay {replay.id} is {replay.state}: it cannot be promoted")
        return self._move(replay, "promoting", promote_offline, promote_online, "promoted")

    def roll_back(self, replay: Replay) -> dict[str, Moved]:
        """Put back what live values were before the promotion; what moved, by view."""
        if replay.state not in ("promoted", "promoting", "rolling back", "rolled back"):
            raise ReplayError(f"replay {replay.id} is {replay.state}: there is nothing to undo")
        if replay.state == "promoting":
            self.promote(replay)
        return self._move(
            replay, "rolling back", roll_back_offline, roll_back_online, "rolled back"
        )

    def _move(
        self, replay: Replay, going: str, offline: Offline, online: Online, done: str
    ) -> dict[str, Moved]:
        if replay.state == done:
            return {}
        self.journal.set_state(replay, going)
        tables = catalog(self.settings)
        views = [view for view in self.repository.views if view.name in replay.views]
        moved = {}
        with redis.Redis(port=self.settings.ports.redis) as values:
            for view in views:
                rows = offline(tables, view, replay)
                entities = online(values, view, replay, self.repository.name)
                moved[view.name] = Moved(rows, entities)
        self.journal.set_state(replay, done)
        return moved

    def drop(self, replay: Replay) -> int:
        """Remove all it wrote and forget it; the number of Redis keys removed."""
        if replay.state in ("promoting", "rolling back"):
            raise ReplayError(f"replay {replay.id} is {replay.state}: finish that first")
        self.cancel(replay)
        _drop_branches(catalog(self.settings), replay)
        removed = self._drop_keys(replay)
        self.journal.remove(replay)
        return removed

    def _drop_keys(self, replay: Replay) -> int:
        version = replay.version(self.repository.name)
        removed = 0
        with redis.Redis(port=self.settings.ports.redis) as online:
            keys = []
            for key in online.scan_iter(match=b"*" + version.encode() + b"*", count=1000):
                keys.append(key)
                if len(keys) == 1000:
                    removed += int(online.unlink(*keys))
                    keys = []
            if keys:
                removed += int(online.unlink(*keys))
        return removed

    def _jobs(self, names: Iterable[str]) -> list[Job]:
        """The live jobs, narrowed to the views of those names."""
        known = {view.name: view for view in self.repository.views}
        wanted = list(names)
        for name in wanted:
            if name not in known:
                raise SettingsError(f"no view {name!r}; choices: {', '.join(known)}")
        narrowed = []
        for job in jobs(self.repository):
            views: tuple[FeatureView, ...] = tuple(v for v in job.views if v.name in wanted)
            sources: tuple[Source, ...] = tuple(dict.fromkeys(view.source for view in views))
            if views:
                narrowed.append(Job(job.name, job.repository, sources, views))
        return narrowed

    def _plan(self, job: Job, start: int) -> SourcePlan:
        source = job.sources[0]
        stream = isinstance(source, EventStream)
        topic = (
            source.topic
            if isinstance(source, EventStream)
            else captured_topic(source, self.repository.name)
        )
        before = warm_up(job.views) if stream else None
        needed = None if before is None else start - before
        consumer = Consumer({"bootstrap.servers": self.settings.kafka, "group.id": "plan"})
        try:
            offsets, gap = _offsets(consumer, topic, needed)
        finally:
            consumer.close()
        return SourcePlan(
            topic,
            [view.name for view in job.views],
            None if before is None else before // 1000,
            offsets,
            sum(last - first for first, last in offsets.values()),
            gap,
        )

    def _progress(self, replay: Replay) -> Progress:
        """The slowest of its jobs."""
        shares, rows, states = [], 0, []
        for id_ in replay.jobs.values():
            job = self.cluster.get(f"/jobs/{id_}")
            states.append(job["state"])
            rows += sum(v["metrics"]["read-records"] for v in job["vertices"])
            shares.append(1.0 if job["state"] == "FINISHED" else self._share(job, replay))
        if any(state in ("FAILED", "CANCELED") for state in states):
            state = "failed"
        elif all(state == "FINISHED" for state in states):
            state = "done"
        else:
            state = "running"
        return Progress(min(shares, default=0.0), rows, 0.0, None, state)

    def _share(self, job: dict[str, object], replay: Replay) -> float:
        vertices = job["vertices"]
        assert isinstance(vertices, list)
        marks = [
            int(mark["value"])
            for vertex in vertices
            for mark in self.cluster.get(f"/jobs/{job['jid']}/vertices/{vertex['id']}/watermarks")
        ]
        known = {view.name: view for view in self.repository.views}
        before = warm_up(tuple(known[name] for name in replay.views)) or 0
        first = replay.start - before
        reached = min(marks, default=first)
        return max(0.0, min(1.0, (reached - first) / (replay.end - first)))

    def failure(self, replay: Replay) -> str:
        """Why its jobs failed, the first line of each; empty if none did."""
        told = []
        for name, id_ in replay.jobs.items():
            try:
                said = self.cluster.exception(id_)
            except FlinkError as error:
                said = str(error)
            if said:
                told.append(f"{name}: {said}")
        return "\n".join(told)


def _offsets(
    consumer: Consumer, topic: str, needed: int | None
) -> tuple[dict[int, tuple[int, int]], str]:
    metadata = consumer.list_topics(topic, timeout=_KAFKA_SECONDS).topics[topic]
    if metadata.error is not None:
        raise ReplayError(f"Kafka: {topic}: {metadata.error.str()}")
    offsets, gaps = {}, []
    for partition in metadata.partitions:
        low, high = consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=_KAFKA_SECONDS
        )
        first = low
        if needed is not None:
            (found,) = consumer.offsets_for_times(
                [TopicPartition(topic, partition, max(needed, 0))], timeout=_KAFKA_SECONDS
            )
            first = found.offset if found.offset >= 0 else high
        if low > 0 and first == low:
            gaps.append(f"partition {partition} begins at offset {low}")
        offsets[partition] = (first, high)
    gap = f"Kafka no longer holds what the replay needs: {', '.join(gaps)}" if gaps else ""
    return offsets, gap


def _drop_branches(tables: Catalog, replay: Replay) -> None:
    for name in replay.views:
        table = tables.load_table(f"{NAMESPACE}.{name}")
        if replay.branch in table.refs():
            table.manage_snapshots().remove_branch(replay.branch).commit()
