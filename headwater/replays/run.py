"""Starts, follows, pauses, resumes and drops replays; the live jobs are never touched."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import redis

from flink_jobs.replay import Isolation, Span, replay_sql, restart_sql, warm_up
from flink_jobs.rest import FlinkCluster, FlinkError
from flink_jobs.sql import Job
from headwater.jobs import RECOVERY, Jobs
from headwater.replays.governor import ApiLatency, Bounds, Governor, Seen
from headwater.replays.journal import Journal, Replay
from headwater.replays.plan import Plan, Planner, ReplayError, Wanted, expected, now
from headwater.replays.promote import Moved, mark, promote, roll_back
from headwater.replays.verify import ViewReport, verify
from headwater.settings import Settings
from headwater.stores import catalog
from iceberg.catalog import (
    NAMESPACE,
    branch_files,
    create_quality,
    create_tables,
    drop_branch,
    empty_branch,
)
from iceberg.quality import forget
from schemas import EVENT_TIME, FeatureView, Repository
from schemas.expectations import of_view

Report = Callable[[str], None]
_ENDED = ("FINISHED", "FAILED", "CANCELED")
_GOING = ("starting", "running", "following")
_POLL_SECONDS = 0.5
_AWAY_SECONDS = 60
_COMMIT_SECONDS = 120
_GOVERN_SECONDS = 2.0
_LATELY_SECONDS = 5.0
_SAMPLED_KEYS = 200
_NEAR_RECORDS = 100
_NEAR_MS = 60_000
"""A replay that follows has caught up when no source has more records left to read, and it is
within this of live in event time."""


@dataclass(frozen=True)
class Progress:
    """How far a replay is."""

    share: float
    """0 to 1, by watermark; of one that follows, by records."""

    rows: int
    rows_per_second: float
    seconds_left: float | None
    state: str
    rate: float | None = None
    """The most records a second it may read just now."""

    lag: int = 0
    """Records it has not read yet."""

    seen: Seen | None = None
    """What its governor saw last."""

    slowed: int = 0
    """How often its governor has slowed it down since it is followed."""


@dataclass(frozen=True)
class Freed:
    """What a replay holds, and dropping it frees."""

    id: str
    state: str
    redis_keys: int
    redis_bytes: int
    """By the size of a sample of its keys."""

    disk_bytes: int
    """Files of its branches and its checkpoints. Of a replay that was promoted, not those of the
    branches: they are the table's now, or go when maintenance expires its snapshots."""


class Replays:
    """The replays of one repository on one platform."""

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self.settings = settings
        self.repository = repository
        self.journal = Journal(settings.state / "replays")
        self.cluster = FlinkCluster(settings.flink_url)

    @cached_property
    def planner(self) -> Planner:
        """Works out what replays read."""
        return Planner(self.repository, self.settings.kafka_access, catalog(self.settings))

    def plan(self, wanted: Wanted, rate: float | None = None) -> Plan:
        """What a replay would do; changes nothing."""
        planner = self.planner
        planner.keys(wanted)
        names = [job.name for job in planner.jobs(wanted.views)]
        return expected(planner.sources(wanted), self._rates(), rate, self._state_bytes(names))

    def start(
        self,
        wanted: Wanted,
        report: Report,
        rate: float | None = None,
        max_p99_ms: float | None = None,
        max_lag: int | None = None,
    ) -> Replay:
        """Begin a replay beside the live jobs, of at most `rate` records a second.

        While it is followed, it is slowed down when serving or live jobs go over their bounds.
        """
        planner = self.planner
        plan = self.plan(wanted, rate)
        if plan.gap:
            raise ReplayError(plan.gap)
        chosen = planner.jobs(wanted.views)
        begun = Replay(
            id=self.journal.next_id(),
            views=tuple(view.name for job in chosen for view in job.views),
            start=wanted.start,
            end=wanted.end,
            state="starting",
            keys=planner.keys(wanted),
            rate=rate,
            max_p99_ms=max_p99_ms,
            max_lag=max_lag,
            planned=plan.rows,
            begun=now(),
        )
        begun = replace(begun, jobs={self._name(begun, job): "" for job in chosen})
        readings = {one.source: one.reading for one in plan.sources}
        folder = self.journal.folder(begun)
        folder.mkdir(parents=True, exist_ok=True)
        for job in chosen:
            name = self._name(begun, job)
            apart = Isolation(
                name,
                begun.branch,
                begun.version(self.repository.name),
                begun.pace(self.repository.name),
            )
            sql = replay_sql(job, apart, Span(begun.start, begun.end), readings, begun.keys)
            (folder / f"{name}.sql").write_text(sql, "utf-8")
        self.journal.write(begun)
        # A feature that is new has no column yet.
        create_tables(catalog(self.settings), self._views(begun))
        return self._launch(begun, report)

    def resume(self, replay: Replay, report: Report) -> Replay:
        """Bring a replay's jobs to life again, from their savepoints or last checkpoints.

        What runs is left alone and what has ended well stays ended, so that it can be asked of
        any replay: after a pause, a cancellation, or the loss of the command or of the cluster.
        """
        if replay.state in ("done", "promoting", "promoted", "rolling back", "rolled back"):
            raise ReplayError(f"replay {replay.id} is {replay.state}: nothing is left to run")
        return self._launch(replay, report)

    def set_rate(self, replay: Replay, rate: float | None) -> Replay:
        """At most `rate` records a second from now on, while it runs."""
        self._pace(replay, rate)
        return self.journal.write(replace(replay, rate=rate))

    def _pace(self, replay: Replay, rate: float | None) -> None:
        key = replay.pace(self.repository.name)
        with self._online() as online:
            if rate is None:
                online.delete(key)
            else:
                online.set(key, f"{rate:.1f}")

    def pause(self, replay: Replay, report: Report) -> Replay:
        """Stop its jobs with savepoints that `resume` goes on from."""
        if replay.state not in _GOING:
            raise ReplayError(f"replay {replay.id} is {replay.state}: it does not run")
        self._stop(replay, report)
        known = self._known(replay)
        if all(self._is_done(replay, name, known.get(name)) for name in replay.jobs):
            return self._ended(replay, "done")
        return self.journal.set_state(replay, "paused")

    def cancel(self, replay: Replay) -> Replay:
        """End its jobs; what it has written stays until it is dropped."""
        for job in self._known(replay).values():
            if job["state"] not in _ENDED:
                self.cluster.cancel(job["jid"])
        if replay.state in ("starting", "running", "following", "paused", "failed"):
            return self.journal.set_state(replay, "cancelled")
        return replay

    def follow(self, replay: Replay) -> Iterator[Progress]:
        """How far it is, about twice a second, until it is done or has caught up.

        The last one tells the state that the journal has then.
        """
        watch = _Watch()
        govern = self._governor(replay)
        answered = time.monotonic()
        while True:
            try:
                now_ = watch.over(self._progress(replay))
                answered = time.monotonic()
            except FlinkError:  # it is busy, or comes back in a moment
                if time.monotonic() - answered > _AWAY_SECONDS:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            if govern is not None and now_.state in _GOING:
                now_ = self._govern(replay, govern, watch, now_)
            yield now_
            if now_.state != replay.state:
                replay = self._ended(replay, now_.state)
            if now_.state not in ("starting", "running"):
                return
            time.sleep(_POLL_SECONDS)

    def _governor(self, replay: Replay) -> Governor | None:
        bounds = Bounds(
            None if replay.max_p99_ms is None else replay.max_p99_ms / 1000, replay.max_lag
        )
        if not bounds.any:
            return None
        latency = ApiLatency(self.settings.api_url)
        latency.p99_seconds()  # what came before counts for nothing

        def see() -> Seen:
            p99 = None if bounds.p99_seconds is None else latency.p99_seconds()
            return Seen(p99, None if bounds.lag_records is None else self._live_lag(replay))

        return Governor(bounds, replay.rate, see)

    def _govern(
        self, replay: Replay, governor: Governor, watch: _Watch, now_: Progress
    ) -> Progress:
        rate = now_.rate
        if watch.is_time():
            rate, watch.seen = governor.look(watch.lately)
            if rate != now_.rate:
                self._pace(replay, rate)
        return replace(now_, rate=rate, seen=watch.seen, slowed=governor.slowed)

    def _live_lag(self, replay: Replay) -> int | None:
        """Records that the live jobs of its views have not read; None if none runs."""
        names = {job.name for job in self.planner.jobs(replay.views)}
        lags = [self._lag(job.id) for job in self.cluster.jobs() if job.name in names]
        return max(lags, default=None)

    def progress(self, replay: Replay) -> Progress:
        """How far it is just now."""
        return self._progress(replay)

    def verify(self, replay: Replay) -> dict[str, ViewReport]:
        """Compare everything it wrote with what live wrote, by view."""
        tables = catalog(self.settings)
        return {view.name: verify(tables, view, replay) for view in self._views(replay)}

    def promote(self, replay: Replay, report: Report) -> dict[str, Moved]:
        """Put its values in the place of live ones, offline and online; what moved, by view.

        ReplayError unless it has come to its end, or follows and has caught up. Doing it again
        finishes what was begun.
        """
        if replay.state == "following":
            replay = self._hand_over(replay, report)
        if replay.state == "promoted":
            return {}
        if replay.state not in ("done", "rolled back", "promoting"):
            raise ReplayError(f"replay {replay.id} is {replay.state}: it cannot be promoted")
        with self._online() as online:
            return promote(
                self.journal,
                catalog(self.settings),
                online,
                self.repository.name,
                self._views(replay),
                replay,
            )

    def roll_back(self, replay: Replay, report: Report) -> dict[str, Moved]:
        """Put back what live values were before the promotion; what moved, by view."""
        if replay.state == "rolled back":
            return {}
        if replay.state not in ("promoted", "promoting", "rolling back"):
            raise ReplayError(f"replay {replay.id} is {replay.state}: there is nothing to undo")
        if replay.state == "promoting":
            report(f"replay {replay.id} was being promoted: that is finished first")
            self.promote(replay, report)
            replay = self.journal.find(replay.id)
        with self._online() as online:
            return roll_back(
                self.journal,
                catalog(self.settings),
                online,
                self.repository.name,
                self._views(replay),
                replay,
            )

    def holds(self, replay: Replay) -> Freed:
        """What dropping a replay would free."""
        tables = catalog(self.settings)
        on_disk = 0
        for view in replay.views:
            table = tables.load_table(f"{NAMESPACE}.{view}")
            if mark(replay) not in table.properties:
                on_disk += sum(branch_files(table, replay.branch).values())
        state = self.settings.state / "checkpoints" / "replays" / replay.id
        on_disk += sum(path.stat().st_size for path in state.glob("**/*") if path.is_file())
        keys, in_memory = 0, 0
        with self._online() as online:
            sizes: list[int] = []
            for key in online.scan_iter(match=self._keys(replay), count=1000):
                keys += 1
                if len(sizes) < _SAMPLED_KEYS:
                    sizes.append(int(online.memory_usage(key) or 0))
            in_memory = round(keys * sum(sizes) / len(sizes)) if sizes else 0
        return Freed(replay.id, replay.state, keys, in_memory, on_disk)

    def drop(self, replay: Replay) -> Freed:
        """Remove all it wrote and forget it; what that has freed.

        Of one that was promoted, its values stay where they are, and can no longer be taken back.
        """
        if replay.state in ("promoting", "rolling back"):
            raise ReplayError(f"replay {replay.id} is {replay.state}: finish that first")
        self.cancel(replay)
        self._await_end(replay)
        freed = self.holds(replay)
        tables = catalog(self.settings)
        for name in replay.views:
            table = tables.load_table(f"{NAMESPACE}.{name}")
            taken_over = mark(replay) in table.properties
            drop_branch(table, replay.branch, replay.kept, delete_files=not taken_over)
        self._drop_keys(replay)
        shutil.rmtree(
            self.settings.state / "checkpoints" / "replays" / replay.id, ignore_errors=True
        )
        self.journal.remove(replay)
        return freed

    def prune(self, older_than_seconds: float, dry: bool) -> list[Freed]:
        """Drop the replays that have ended and began that long ago; what that frees."""
        limit = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        ended = ("done", "failed", "cancelled", "promoted", "rolled back")
        old = [
            one
            for one in self.journal.all()
            if one.state in ended and datetime.fromisoformat(one.begun) <= limit
        ]
        return [self.holds(one) if dry else self.drop(one) for one in old]

    def failure(self, replay: Replay) -> str:
        """Why its jobs failed, the first line of each; empty if none did."""
        told = []
        for name, job in self._known(replay).items():
            try:
                said = self.cluster.exception(job["jid"])
            except FlinkError as error:
                said = str(error)
            if said:
                told.append(f"{name}: {said}")
        return "\n".join(told)

    def _views(self, replay: Replay) -> list[FeatureView]:
        return [view for view in self.repository.views if view.name in replay.views]

    def _online(self) -> redis.Redis:
        return redis.Redis(port=self.settings.ports.redis)

    @staticmethod
    def _name(replay: Replay, job: Job) -> str:
        return f"replay-{replay.id}-{job.name}"

    def _launch(self, replay: Replay, report: Report) -> Replay:
        """Submit those of its jobs that neither run nor have ended well."""
        with self.journal.alone(replay) as lock:
            return self._launch_alone(replay, report, lock)

    def _launch_alone(self, replay: Replay, report: Report, lock: int) -> Replay:
        self._pace(replay, replay.rate)
        known = self._known(replay)
        scripts, configuration = {}, {}
        tables = catalog(self.settings)
        for name in replay.jobs:
            if name in known and known[name]["state"] not in _ENDED:
                continue
            if self._is_done(replay, name, known.get(name)):
                continue
            folder = self._checkpoints(replay, name)
            configuration[name] = {
                "execution.checkpointing.dir": f"file://{folder}/checkpoints",
            }
            if replay.end is not None:
                # Every partition has an end: none is idle, and none may be passed by.
                configuration[name]["table.exec.source.idle-timeout"] = "0 s"
            if state := _newest(folder):
                configuration[name][RECOVERY] = f"file://{state}"
                report(f"{name} goes on from {state.name}")
            else:
                for view in self._views_of(replay, name):
                    empty_branch(tables.load_table(f"{NAMESPACE}.{view}"), replay.branch)
            scripts[name] = (self.journal.folder(replay) / f"{name}.sql").read_text("utf-8")
        ids = {name: str(job["jid"]) for name, job in known.items()}
        if scripts:
            platform = Jobs(self.settings, self.repository)
            ids |= platform.submit_scripts(scripts, report, configuration, (lock,))
        return self.journal.write(replace(replay, jobs=replay.jobs | ids, state="running"))

    def _views_of(self, replay: Replay, name: str) -> list[str]:
        return [
            view.name
            for job in self.planner.jobs(replay.views)
            if self._name(replay, job) == name
            for view in job.views
        ]

    def _checkpoints(self, replay: Replay, name: str) -> Path:
        return self.settings.state / "checkpoints" / "replays" / replay.id / name

    def _known(self, replay: Replay) -> dict[str, dict[str, Any]]:
        """Its jobs that the cluster knows, by name: of several attempts the newest."""
        found: dict[str, dict[str, Any]] = {}
        for job in self.cluster.get("/jobs/overview")["jobs"]:
            name = job["name"]
            if name in replay.jobs and (
                name not in found or found[name]["start-time"] < job["start-time"]
            ):
                found[name] = job
        return found

    def _is_done(self, replay: Replay, name: str, job: dict[str, Any] | None) -> bool:
        """Whether a job has come to its end: one that was stopped has left a savepoint."""
        if job is None or job["state"] != "FINISHED":
            return False
        folder = self._checkpoints(replay, name) / "savepoints"
        return not any(
            path.stat().st_mtime * 1000 >= job["start-time"] for path in folder.glob("*/_metadata")
        )

    def _stop(self, replay: Replay, report: Report) -> None:
        for name, job in self._known(replay).items():
            if job["state"] not in _ENDED:
                folder = f"file://{self._checkpoints(replay, name)}/savepoints"
                try:
                    savepoint = self.cluster.stop(job["jid"], folder=folder)
                    report(f"{name} is stopped; savepoint {savepoint}")
                except FlinkError:
                    # It came to its end just now.
                    if self.cluster.get(f"/jobs/{job['jid']}")["state"] != "FINISHED":
                        raise

    def _await_end(self, replay: Replay) -> None:
        """Return when none of its jobs runs any more: one that does still writes."""
        deadline = time.monotonic() + _AWAY_SECONDS
        while any(job["state"] not in _ENDED for job in self._known(replay).values()):
            if time.monotonic() > deadline:
                raise ReplayError(f"replay {replay.id}: its jobs do not end; try again")
            time.sleep(0.2)

    def _ended(self, replay: Replay, state: str) -> Replay:
        current = self.journal.find(replay.id)
        if current.state not in _GOING:
            return current  # somebody else was quicker
        if state == "done":
            seconds = 0.0
            rows = 0
            for job in self._known(replay).values():
                described = self.cluster.get(f"/jobs/{job['jid']}")
                rows += _read(described)
                seconds = max(seconds, described["duration"] / 1000)
            current = replace(current, rows=rows, seconds=seconds)
        return self.journal.write(replace(current, state=state))

    def _progress(self, replay: Replay) -> Progress:
        """The slowest of its jobs."""
        if replay.state not in _GOING:
            return Progress(1.0, replay.rows, 0.0, None, replay.state)
        known = self._known(replay)
        if missing := [name for name in replay.jobs if name not in known]:
            raise ReplayError(
                f"{', '.join(missing)}: the cluster does not know of it;"
                f" `headwater replay resume {replay.id}` starts it again"
            )
        shares, rows, lag, states = [], 0, 0, []
        for name, job in known.items():
            described = self.cluster.get(f"/jobs/{job['jid']}")
            stopped = job["state"] == "FINISHED" and not self._is_done(replay, name, job)
            states.append("STOPPED" if stopped else described["state"])
            rows += _read(described)
            shares.append(
                1.0 if described["state"] == "FINISHED" else self._share(described, replay)
            )
            if replay.end is None and described["state"] == "RUNNING":
                lag = max(lag, self._lag(described["jid"]))
        if any(state in ("FAILED", "CANCELED") for state in states):
            state = "failed"
        elif "STOPPED" in states:
            state = "paused"
        elif all(state == "FINISHED" for state in states):
            state = "done"
        elif (
            replay.end is None
            and lag <= _NEAR_RECORDS
            and rows
            and self._is_near(replay, known, states)
        ):
            state = "following"
        else:
            state = "running"
        share = min(shares, default=0.0)
        if replay.end is None:
            share = 1.0 if state == "following" else rows / max(rows + lag, replay.planned, 1)
        return Progress(share, rows, 0.0, None, state, self.rate(replay), lag)

    def _is_near(self, replay: Replay, known: dict[str, dict[str, Any]], states: list[str]) -> bool:
        """Whether each job has come as far in event time as the live job it was made of."""
        if any(state != "RUNNING" for state in states):
            return False
        live = {job.name: job.id for job in self.cluster.jobs()}
        for name, job in known.items():
            mark = self._watermark(job["jid"], replay.views)
            its = live.get(name.split("-", 2)[2])
            if mark < 0 or (
                its is not None and mark < self._watermark(its, replay.views) - _NEAR_MS
            ):
                return False
        return True

    def rate(self, replay: Replay) -> float | None:
        """The most records a second that it may read just now; None for no limit."""
        with self._online() as online:
            told: Any = online.get(replay.pace(self.repository.name))
        return None if told is None else float(told)

    def _lag(self, job: str) -> int:
        return self.cluster.metric(job, "Source", "pendingRecords")

    def _share(self, job: dict[str, Any], replay: Replay) -> float:
        if replay.end is None:
            return 0.0
        known = {view.name: view for view in self.repository.views}
        before = warm_up(tuple(known[name] for name in replay.views)) or 0
        first = replay.start - before
        reached = self._mark(job, replay.views)
        return max(0.0, min(1.0, (reached - first) / (replay.end - first)))

    def _hand_over(self, replay: Replay, report: Report) -> Replay:
        """End a replay that follows the log, at a point that live has passed as well.

        Each view's span ends where both have computed everything before: live's rows from there
        on stay, so that none is lost and none is there twice.
        """
        jobs_ = self.planner.jobs(replay.views)
        if not replay.ends:
            ends = self._common_ends(replay, jobs_)
            replay = self.journal.write(replace(replay, ends=ends))
            report(f"replay {replay.id} ends at {Replay.iso(min(ends.values()))}")
        self._await_commits([job.name for job in jobs_])
        self._stop(replay, report)
        tables = catalog(self.settings)
        for view, end in replay.ends.items():
            table = tables.load_table(f"{NAMESPACE}.{view}")
            table.delete(f"{EVENT_TIME} >= '{Replay.iso(end)}'", branch=replay.branch)
        return self.journal.set_state(replay, "done")

    def _common_ends(self, replay: Replay, jobs_: Iterable[Job]) -> dict[str, int]:
        known, live = self._known(replay), {job.name: job.id for job in self.cluster.jobs()}
        ends: dict[str, int] = {}
        for job in jobs_:
            views = [view.name for view in job.views]
            marks = [self._watermark(known[self._name(replay, job)]["jid"], views)]
            if job.name in live:
                marks.append(self._watermark(live[job.name], views))
            if min(marks) < replay.start:
                raise ReplayError(
                    f"{job.name}: has not come to {Replay.iso(replay.start)} yet; try again"
                )
            # At a watermark, all rows up to and with it have been let out.
            ends |= {view.name: min(marks) + 1 for view in job.views}
        return ends

    def _watermark(self, job: str, views: Iterable[str]) -> int:
        """As `_mark`, of a running job's id."""
        return self._mark(self.cluster.get(f"/jobs/{job}"), views)

    def _mark(self, job: dict[str, Any], views: Iterable[str]) -> int:
        """The least watermark of the tasks that compute those views, -1 if they have none.

        Not of all tasks: those that read what is joined may never have one.
        """
        names = [f"redis {view}: " for view in views]
        marks = [
            int(mark["value"])
            for vertex in job["vertices"]
            if any(name in vertex["name"] for name in names)
            for mark in self.cluster.get(f"/jobs/{job['jid']}/vertices/{vertex['id']}/watermarks")
        ]
        return min(marks, default=-1)

    def _await_commits(self, names: Iterable[str]) -> None:
        """Return when running live jobs have committed what they had let out on the call."""
        ids = [job.id for job in self.cluster.jobs() if job.name in set(names)]
        # The first may have begun before the call, the second has not; its tables are committed
        # after it is complete, and before a third one is.
        if behind := self.cluster.await_checkpoints(ids, 3, _COMMIT_SECONDS):
            raise ReplayError(
                f"job {', '.join(behind)} makes no checkpoints: try again when it does"
            )

    def upgrade(self, replay: Replay, report: Report) -> list[str]:
        """Bring the live jobs of its views to the declarations as they are; the jobs' names.

        A job whose state fits goes on from a savepoint. Another starts with no state, reads its
        windows' length of the log and writes from the end of the replay on. The job of the archive
        comes with them: what a source means has changed for it, too.
        """
        platform = Jobs(self.settings, self.repository)
        known = {job.name: job for job in platform.known.values()}
        upgraded = []
        archives = (job for job in known.values() if not job.views)
        for narrowed in (*self.planner.jobs(replay.views), *archives):
            job = known[narrowed.name]
            if not platform.is_changed(job):
                continue
            reasons = platform.changes(job)
            upgraded.append(job.name)
            if not reasons or not job.views:
                platform.stop([job.name], report)
                platform.submit([job.name], report)
                continue
            report(f"{job.name} cannot go on from its state: {'; '.join(reasons)}")
            since = min(replay.ends.get(view.name, replay.end or 0) for view in narrowed.views)
            wanted = Wanted(tuple(view.name for view in job.views), since, None, {})
            sources = self.planner.sources(wanted)
            if gap := "; ".join(f"{one.topic}: {one.gap}" for one in sources if one.gap):
                raise ReplayError(gap)
            readings = {one.source: one.reading for one in sources}
            platform.cancel(job)
            self._sum_up_anew(job, since)
            platform.restart(job, restart_sql(job, since, readings), report)
        return upgraded

    def _sum_up_anew(self, job: Job, since: int) -> None:
        """What became of expectations from `since` on is written again, of the new values."""
        checked = [of_view(view.name) for view in job.views if view.checked]
        if checked:
            tables = catalog(self.settings)
            create_quality(tables, self.repository.name)
            forget(tables, self.repository.name, checked, since)

    def _drop_keys(self, replay: Replay) -> None:
        with self._online() as online:
            online.delete(replay.pace(self.repository.name))
            keys = []
            for key in online.scan_iter(match=self._keys(replay), count=1000):
                keys.append(key)
                if len(keys) == 1000:
                    online.unlink(*keys)
                    keys = []
            if keys:
                online.unlink(*keys)

    def _keys(self, replay: Replay) -> bytes:
        """The pattern of its Redis keys, and of what a promotion keeps to be taken back."""
        return b"*" + replay.version(self.repository.name).encode() + b"*"

    def _rates(self) -> list[float]:
        """Records a second of the replays that were measured and not held back."""
        return [
            one.rows / one.seconds
            for one in self.journal.all()
            if one.seconds > 0 and one.rows > 0 and one.rate is None
        ]

    def _state_bytes(self, names: Iterable[str]) -> int | None:
        wanted, total = set(names), None
        try:
            for job in self.cluster.jobs():
                if job.name in wanted:
                    newest = self.cluster.get(f"/jobs/{job.id}/checkpoints")["latest"]["completed"]
                    if newest is not None:
                        total = (total or 0) + int(newest["state_size"])
        except FlinkError:
            return None  # a plan needs no cluster
        return total


class _Watch:
    """How fast a replay has been since it is looked at."""

    def __init__(self) -> None:
        self.seen: Seen | None = None
        self.lately = 0.0
        self._first: tuple[float, Progress] | None = None
        self._marks: list[tuple[float, int]] = []
        self._looked = 0.0

    def over(self, now_: Progress) -> Progress:
        """The same with its speed: of the last seconds, and for the time left since the first."""
        moment = time.monotonic()
        if self._first is None:
            self._first = (moment, now_)
        self._marks = [mark for mark in self._marks if moment - mark[0] <= _LATELY_SECONDS]
        self._marks.append((moment, now_.rows))
        began, rows = self._marks[0]
        self.lately = (now_.rows - rows) / max(moment - began, 0.001)
        since, first = self._first
        done = now_.share - first.share
        left = (moment - since) / done * (1 - now_.share) if done > 0.01 else None
        return replace(now_, rows_per_second=self.lately, seconds_left=left)

    def is_time(self) -> bool:
        """Whether the governor is to look again."""
        moment = time.monotonic()
        if moment - self._looked < _GOVERN_SECONDS:
            return False
        self._looked = moment
        return True


def as_dict(plan: Plan) -> dict[str, Any]:
    """A plan as a JSON document."""
    return asdict(plan) | {"gap": plan.gap}


def _read(job: dict[str, Any]) -> int:
    """Records that a job has read: each of its operators behind the source gets them all."""
    return max((int(vertex["metrics"]["read-records"]) for vertex in job["vertices"]), default=0)


def _newest(folder: Path) -> Path | None:
    """The newest complete checkpoint or savepoint below a folder."""
    found = sorted(folder.glob("**/_metadata"), key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else None
