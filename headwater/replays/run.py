"""The life of replays, from their plan to their end; the live jobs are never touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from flink_jobs.replay import Isolation, Span, replay_sql
from flink_jobs.rest import STOP_SECONDS, FlinkError
from flink_jobs.sql import Job
from headwater.jobs import Report
from headwater.locks import Busy
from headwater.refusals import Refusals
from headwater.replays.arrivals import check_whole, planned_ends
from headwater.replays.context import Context, job_name
from headwater.replays.following import Follower
from headwater.replays.handover import Handover
from headwater.replays.holdings import Freed, Holdings
from headwater.replays.jobs import ENDED, ReplayJobs
from headwater.replays.journal import GOING, Replay
from headwater.replays.live import Live
from headwater.replays.plan import Plan, ReplayError, Wanted, expected, now
from headwater.replays.progress import Gauges, Progress, records
from headwater.replays.promote import Moved, promote, roll_back
from headwater.replays.reports import ViewReport
from headwater.replays.verify import verify
from headwater.settings import Settings
from iceberg.archive import keep
from iceberg.catalog import create_tables
from schemas import Repository, SettingsError


class Replays:
    """The replays of one repository on one platform."""

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self._context = context = Context(settings, repository)
        self.journal = context.journal
        self._jobs = ReplayJobs(context)
        self._gauges = Gauges(context, self._jobs)
        self._live = Live(context, self._gauges)
        self._handover = Handover(context, self._jobs, self._gauges, self._live)
        self._holdings = Holdings(context)

    def plan(self, wanted: Wanted, rate: float | None = None) -> Plan:
        """What a replay would do; changes nothing.

        SettingsError for a captured table without an end: its changes carry times in no order, so
        that nothing says when a replay that follows has come as far as live.
        """
        planner = self._context.planner
        endless = [view for view in self._context.repository.named(wanted.views) if not view.stream]
        if endless and wanted.end is None:
            raise SettingsError(
                f"--to: needed for {', '.join(view.name for view in endless)}: a captured table has"
                " no watermark, so that a replay of it cannot follow the log"
            )
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
        planner = self._context.planner
        plan = self.plan(wanted, rate)
        if plan.gap:
            raise ReplayError(plan.gap)
        chosen = planner.jobs(wanted.views)
        # A feature that is new has no column yet; a table that does not fit is refused before.
        create_tables(self._context.tables, [view for job in chosen for view in job.views])
        begun = Replay(
            id=self.journal.reserve(),
            views=tuple(view.name for job in chosen for view in job.views),
            start=wanted.start,
            end=wanted.end,
            state="starting",
            keys=planner.keys(wanted),
            rate=rate,
            held=rate is not None or max_p99_ms is not None or max_lag is not None,
            max_p99_ms=max_p99_ms,
            max_lag=max_lag,
            planned=plan.rows,
            share=0.0,
            begun=now(),
            offsets=planned_ends(plan),
            archives=_archives(plan),
        )
        begun = replace(begun, jobs={job_name(begun, job): "" for job in chosen})
        with self.journal.alone(begun, "run"):
            self._write_scripts(begun, chosen, plan)
            self.journal.write(begun)
            report(f"replay {begun.id} is begun")
            return self._launch(begun, report)

    def _write_scripts(self, begun: Replay, chosen: Iterable[Job], plan: Plan) -> None:
        readings = {one.source: one.reading for one in plan.sources}
        project = self._context.repository.name
        for job in chosen:
            name = job_name(begun, job)
            apart = Isolation(name, begun.branch, begun.version(project), begun.pace(project))
            sql = replay_sql(job, apart, Span(begun.start, begun.end), readings, begun.keys)
            (self.journal.folder(begun) / f"{name}.sql").write_text(sql, "utf-8")

    @contextmanager
    def _alone(
        self, replay: Replay, command: str, seconds: float | None = None
    ) -> Iterator[Replay]:
        """Nobody else changes a replay meanwhile; the replay as it is then."""
        with self.journal.alone(replay, command, seconds):
            yield self.journal.find(replay.id)

    def resume(self, replay: Replay, report: Report) -> Replay:
        """Bring a replay's jobs to life again, from their savepoints or last checkpoints.

        What runs is left alone and what has ended well stays ended, so that it can be asked of
        any replay: after a pause, a cancellation, or the loss of the command or of the cluster.
        """
        with self._alone(replay, "resume") as found:
            if found.state not in (*GOING, "paused", "failed", "cancelled"):
                raise ReplayError(f"replay {found.id} is {found.state}: nothing is left to run")
            return self._launch(found, report)

    def _launch(self, replay: Replay, report: Report) -> Replay:
        for stream, snapshots in replay.archives.items():
            for snapshot in snapshots:  # whoever began it may have been killed before
                keep(self._context.tables, stream, snapshot, replay.read)
        with self._context.lookups_first(replay):  # its first seconds are the compiler's
            return self._jobs.launch(replay, report)

    def set_rate(self, replay: Replay, rate: float | None) -> Replay:
        """At most `rate` records a second from now on, while it runs."""
        with self._alone(replay, "rate") as found:
            self._jobs.pace(found, rate)
            return self.journal.write(replace(found, rate=rate, held=True))

    def pause(self, replay: Replay, report: Report) -> Replay:
        """Stop its jobs with savepoints that `resume` goes on from."""
        with self._alone(replay, "pause") as found:
            if found.state not in GOING:
                raise ReplayError(f"replay {found.id} is {found.state}: it does not run")
            reached = self._reached(found)
            self._jobs.stop(found, report)
            known = self._jobs.known(found)
            if all(self._jobs.is_done(found, name, known.get(name)) for name in found.jobs):
                return self._ended(found, "done")
            return self.journal.set_state(reached, "paused")

    def cancel(self, replay: Replay) -> Replay:
        """End its jobs; what it has written stays until it is dropped."""
        with self._alone(replay, "cancel") as found:
            reached = self._reached(found)
            for job in self._jobs.known(found).values():
                if job["state"] not in ENDED:
                    self._context.cluster.cancel(job["jid"])
            if found.state in (*GOING, "paused", "failed"):
                return self.journal.set_state(reached, "cancelled")
            return found

    def _reached(self, replay: Replay) -> Replay:
        """With how far it is, if it runs and its jobs tell."""
        try:
            progress = self._gauges.of(replay)
        except (ReplayError, FlinkError, SettingsError):  # such as of a view declared no more
            return replay
        return replace(replay, rows=progress.rows, share=progress.share)

    def follow(self, replay: Replay) -> Iterator[Progress]:
        """How far it is, about twice a second, until it is done or has caught up.

        The last one tells the state that the journal has then.
        """
        return Follower(self._context, self._jobs, self._gauges, self._ended).follow(replay)

    def progress(self, replay: Replay) -> Progress:
        """How far it is just now."""
        return self._gauges.of(replay)

    def verify(
        self, replay: Replay, told: Callable[[str, int, int], None] = lambda *_: None
    ) -> dict[str, ViewReport]:
        """Compare everything it wrote with what live wrote, by view.

        `told` is called with a view, how many of its rows are compared, and how many there are.
        """
        tables = self._context.tables
        return {
            view.name: verify(tables, view, replay, partial(told, view.name))
            for view in self._context.views(replay)
        }

    def promote(self, replay: Replay, report: Report) -> dict[str, Moved]:
        """Put its values in the place of live ones, offline and online; what moved, by view.

        ReplayError unless it has come to its end, or follows and has caught up. Doing it again
        finishes what was begun.
        """
        with self._alone(replay, "promote") as found:
            if found.state == "promoted":
                return {}
            self._context.views(found)
            if found.state == "following":
                found = self._handover.end(found, report)
            if found.state == "done":
                self._handover.cut(found)
            if found.state not in ("done", "rolled back", "promoting"):
                raise ReplayError(f"replay {found.id} is {found.state}: it cannot be promoted")
            if found.end is not None and found.state != "promoting":
                self._live.await_end(found, report)
                check_whole(self._context, found, found.end)
            return self._switch(found, "promote", promote)

    def roll_back(self, replay: Replay, report: Report) -> dict[str, Moved]:
        """Put back what live values were before the promotion; what moved, by view."""
        with self._alone(replay, "rollback") as found:
            if found.state == "rolled back":
                return {}
            if found.state not in ("promoted", "promoting", "rolling back"):
                raise ReplayError(f"replay {found.id} is {found.state}: there is nothing to undo")
            self._context.views(found)
            if found.state == "promoting":
                report(f"replay {found.id} was being promoted: that is finished first")
                self.promote(found, report)
                found = self.journal.find(found.id)
            return self._switch(found, "rollback", roll_back)

    def _switch(
        self, replay: Replay, command: str, way: Callable[..., dict[str, Moved]]
    ) -> dict[str, Moved]:
        with self.journal.switching(command), self._context.online() as online:
            return way(
                self.journal,
                self._context.tables,
                online,
                self._context.repository.name,
                self._context.views(replay),
                replay,
            )

    def holds(self, replay: Replay) -> Freed:
        """What dropping a replay would free."""
        return self._holdings.of(replay)

    def drop(self, replay: Replay) -> Freed:
        """Remove all it wrote and forget it; what that has freed.

        Of one that was promoted, its values stay where they are, and can no longer be taken back.
        """
        with self._alone(replay, "drop") as found:
            if found.state in ("promoting", "rolling back"):
                raise ReplayError(f"replay {found.id} is {found.state}: finish that first")
            self.cancel(found)
            self._jobs.await_end(found)
            # Nobody goes on with what is left of it, should this command be killed; and who takes
            # another one back, and puts its values online again, is through with that.
            with self.journal.switching("drop"):
                self.journal.set_state(found, "dropping")
            freed = self._holdings.drop(found)
            self.journal.remove(found)
            return freed

    def prune(self, older_than_seconds: float, dry: bool, refusals: Refusals) -> list[Freed]:
        """Drop the replays that have ended and began that long ago; what that frees.

        So is one that was never launched, as its command was killed. One that another command works
        on, or has changed since, is left. One that cannot be dropped keeps no other: that is noted.
        """
        limit = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        ended = ("done", "failed", "cancelled", "promoted", "rolled back", "dropping")
        old = [
            one
            for one in self.journal.all()
            if datetime.fromisoformat(one.begun) <= limit
            and (one.state in ended or (one.state == "starting" and not self._jobs.known(one)))
        ]
        freed = []
        for one in old:
            with refusals.noted(), suppress(Busy):
                if dry:
                    freed.append(self.holds(one))
                    continue
                with self.journal.alone(one, "prune", 0):
                    if one in self.journal.all():
                        freed.append(self.drop(one))
        return freed

    def failure(self, replay: Replay) -> str:
        """Why its jobs failed, the first line of each; empty if none did."""
        return self._jobs.failure(replay)

    def upgrade(self, replay: Replay, report: Report, anew: bool = False) -> list[str]:
        """Bring the live jobs of its views to the declarations as they are; the jobs' names.

        With `anew` those of the views start with no state in any case.
        """
        return self._handover.upgrade(replay, report, anew)

    def _ended(self, replay: Replay, state: str) -> Replay:
        wait = STOP_SECONDS * (len(replay.jobs) + 1)  # they are stopped one after the other
        with self._alone(replay, "follow", wait) as current:
            if current.state not in GOING or current.jobs != replay.jobs:
                return current  # somebody else was quicker, or has launched it again
            if state == "failed":
                current = self._reached(current)
            if state == "done":
                seconds = 0.0
                rows = 0
                for job in self._jobs.known(replay).values():
                    described = self._context.cluster.get(f"/jobs/{job['jid']}")
                    rows += records(described)
                    seconds = max(seconds, described["duration"] / 1000)
                current = replace(current, rows=rows, seconds=seconds, share=1.0)
            return self.journal.write(replace(current, state=state))

    def _rates(self) -> list[float]:
        """Records a second of the replays that were measured and not held back."""
        return [
            one.rows / one.seconds
            for one in self.journal.all()
            if one.seconds > 0 and one.rows > 0 and one.rate is None and not one.held
        ]

    def _state_bytes(self, names: Iterable[str]) -> int | None:
        cluster, wanted, total = self._context.cluster, set(names), None
        try:
            for job in cluster.jobs():
                if job.name in wanted:
                    newest = cluster.get(f"/jobs/{job.id}/checkpoints")["latest"]["completed"]
                    if newest is not None:
                        total = (total or 0) + int(newest["state_size"])
        except FlinkError:
            return None  # a plan needs no cluster
        return total


def _archives(plan: Plan) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for one in plan.sources:
        if one.snapshot is not None:
            found.setdefault(one.source, []).append(one.snapshot)
    return found


def as_dict(plan: Plan) -> dict[str, Any]:
    """A plan as a JSON document."""
    return asdict(plan) | {"gap": plan.gap}
