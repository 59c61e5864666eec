"""Hands over from live jobs to replays, and from replays to live jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from flink_jobs.replay import restart_sql
from flink_jobs.sql import Job, job_sql
from headwater.jobs import Finish, Jobs, Report
from headwater.replays.context import Context, job_name
from headwater.replays.jobs import ENDED, ReplayJobs
from headwater.replays.journal import Replay
from headwater.replays.live import Live
from headwater.replays.plan import ReplayError, Wanted
from headwater.replays.progress import Gauges
from headwater.replays.values import Values
from headwater.submissions import Begun
from iceberg.catalog import (
    NAMESPACE,
    create_quality,
    create_tables,
    cut_branch,
)
from iceberg.quality import forget
from schemas import FeatureView
from schemas.expectations import of_view

_FRESH_SECONDS = 2.0
"""After a question Flink asks its tasks anew for the next one: the answer is as old as the last."""

_OLD_MS = 300_000
"""How far replay and live have come past an end that is found again."""


class Handover:
    """Where a replay ends and live goes on."""

    def __init__(self, context: Context, jobs: ReplayJobs, gauges: Gauges, live: Live) -> None:
        self._context = context
        self._jobs = jobs
        self._gauges = gauges
        self._live = live

    def end(self, replay: Replay, report: Report) -> Replay:
        """End a replay that follows the log, at a point that live has passed as well.

        Each view's span ends where both have computed everything before: live's rows from there
        on stay, so that none is lost and none is there twice. ReplayError if live does not run and
        would go on from before; and, with the replay paused, if one of its jobs has ended in
        another way than by being stopped.
        """
        jobs_ = self._context.planner.jobs(replay.views)
        if self._gauges.of(replay).state == "failed":
            raise self._paused(replay)
        self._live.check_running(jobs_, report)
        names = {job.name for job in jobs_}
        running = (job.id for job in self._context.cluster.jobs() if job.name in names)
        begun = self._live.begun(running)
        time.sleep(_FRESH_SECONDS)
        replay = self._found(replay, jobs_)
        report(f"replay {replay.id} ends at {Replay.iso(min(replay.ends.values()))}")
        self._live.commit(begun)
        self._check_reached(replay, jobs_)
        self._jobs.stop(replay, report)
        # Its last rows may be in a savepoint alone: they are in the tables once a job has ended.
        self._jobs.await_end(replay)
        if self._jobs.unfinished(replay):
            raise self._paused(replay)
        return self._context.journal.set_state(replace(replay, share=1.0), "done")

    def _found(self, replay: Replay, jobs_: Iterable[Job]) -> Replay:
        """A replay with its end, which is kept.

        Who tried before may have found it, and then begun to stop the jobs: that holds. Where none
        was stopped, and it is minutes ago, what came since would be left as live has it.
        """
        if replay.ends:
            self._check_reached(replay, jobs_)
            if self._jobs.ended(replay):
                return replay
        ends = self._common_ends(replay, jobs_)
        later = [end - replay.ends[view] for view, end in ends.items() if replay.ends]
        if later and (min(later) < 0 or max(later) < _OLD_MS):
            return replay
        return self._context.journal.write(replace(replay, ends=ends))

    def cut(self, replay: Replay) -> None:
        """Take from a replay that has been ended what it wrote after its end; also once more."""
        for view, end in replay.ends.items():
            table = self._context.tables.load_table(f"{NAMESPACE}.{view}")
            cut_branch(table, replay.branch, Replay.iso(end))

    def _paused(self, replay: Replay) -> ReplayError:
        """Keep it as one that goes on from its last state, to another end; what to say of it."""
        told = ", ".join(
            f"{name} is {state}" for name, state in self._jobs.unfinished(replay).items()
        )
        self._context.journal.write(replace(replay, ends={}, state="paused"))
        return ReplayError(
            f"replay {replay.id}: {told}, and what it had to write may not be in the tables;"
            f" `headwater replay resume {replay.id}` goes on from its last savepoint or checkpoint,"
            " then promote it again"
        )

    def _check_reached(self, replay: Replay, jobs_: Iterable[Job]) -> None:
        """Raise ReplayError if a job, or a live one, is before its end.

        It has gone on from a checkpoint since.
        """
        known = self._jobs.known(replay)
        live = {job.name: job.id for job in self._context.cluster.jobs()}
        for job in jobs_:
            found = known[job_name(replay, job)]
            views = [view.name for view in job.views]
            end = max(replay.ends[view] for view in views)
            marks = {}
            if found["state"] not in ENDED:
                marks[found["name"]] = self._gauges.watermark(found["jid"], views)
            if job.name in live:
                marks[job.name] = self._live.mark(job, live[job.name])
            for name, mark in marks.items():
                if mark < end - 1:
                    raise ReplayError(
                        f"{name} has started again and is not back at {Replay.iso(end)} yet;"
                        " try again"
                    )

    def _common_ends(self, replay: Replay, jobs_: Iterable[Job]) -> dict[str, int]:
        known = self._jobs.known(replay)
        live = {job.name: job.id for job in self._context.cluster.jobs()}
        ends: dict[str, int] = {}
        for job in jobs_:
            views = [view.name for view in job.views]
            marks = [self._gauges.watermark(known[job_name(replay, job)]["jid"], views)]
            if job.name in live:
                marks.append(self._live.mark(job, live[job.name]))
            if min(marks) < replay.start:
                raise ReplayError(
                    f"{job.name}: has not come to {Replay.iso(replay.start)} yet; try again"
                )
            # At a watermark, all rows up to and with it have been let out.
            ends |= {view.name: min(marks) + 1 for view in job.views}
        return ends

    def upgrade(self, replay: Replay, report: Report, anew: bool = False) -> list[str]:
        """Bring the live jobs of its views to the declarations as they are; the jobs' names.

        With `anew` those of the views start with no state in any case: theirs lacks what came late.

        A job whose state fits goes on from a savepoint. Another starts with no state, reads its
        windows' length of the log and writes from the end of the replay on; that of captured tables
        reads and writes all their changes again. The job of the archive comes with them: what a
        source means has changed for it, too. One that is as declared, and was lost, goes on too.
        TableMismatch, before any is stopped, if a table cannot take what its job is to write.
        """
        platform = Jobs(self._context.settings, self._context.repository)
        known = {job.name: job for job in platform.known.values()}
        archives = [job for job in known.values() if not job.views]
        wanted_jobs = [*self._context.planner.jobs(replay.views), *archives]
        self._create(known[job.name] for job in wanted_jobs)
        running = platform.settled(report)
        for narrowed in wanted_jobs:
            platform.check_broken_off(known[narrowed.name], replay.id)
        upgraded, option = [], "--anew" if anew else "--upgrade"
        for narrowed in wanted_jobs:
            job = known[narrowed.name]
            broken_off = platform.broken_off(job) is not None
            if not platform.is_changed(job) and not broken_off and not (anew and job.views):
                if platform.was_submitted(job) and job.name not in running:
                    upgraded.append(job.name)
                    platform.submit([job.name], report)
                continue
            is_anew = anew or broken_off
            reasons = ["it is to begin anew"] if is_anew else platform.changes(job)
            upgraded.append(job.name)
            if not reasons or not job.views:
                platform.stop([job.name], report)
                platform.submit([job.name], report)
                continue
            report(f"{job.name} cannot go on from its state: {'; '.join(reasons)}")
            since = min(replay.ends.get(view.name, replay.end or 0) for view in narrowed.views)
            wanted = Wanted(tuple(view.name for view in job.views), since, None, {})
            sources = self._context.planner.sources(wanted)
            if gap := "; ".join(f"{one.topic}: {one.gap}" for one in sources if one.gap):
                raise ReplayError(gap)
            readings = {one.source: one.reading for one in sources}
            # Event times of a captured table's changes are in no order: all of them count again.
            begun = None if job.late is None else Begun(since, readings)
            sql = job_sql(job) if begun is None else restart_sql(job, since, readings)
            between = partial(self._clear, replay, job, narrowed.views, since)
            finish = Finish(replay.id, f"headwater replay promote {replay.id} {option}")
            platform.restart(job, sql, report, begun, between, finish)
        return upgraded

    def _create(self, jobs_: Iterable[Job]) -> None:
        """What those jobs write to, where a table or a column of it is not there yet."""
        tables, repository = self._context.tables, self._context.repository
        create_tables(tables, [view for job in jobs_ for view in job.views], repository.archived)
        if repository.checked:
            create_quality(tables, repository.name)

    def _clear(self, replay: Replay, job: Job, views: Sequence[FeatureView], since: int) -> None:
        """Take away what a job has written that it writes anew; it has ended, and has no state."""
        self._sum_up_anew(job, since)
        if replay.ends and job.late is not None:
            self._forget(replay, views, since)

    def _forget(self, replay: Replay, views: Sequence[FeatureView], since: int) -> None:
        """What the job wrote by its old declaration from the replay's end on counts no more.

        The new one writes at its own instants: where the old one let out a value as a window
        passed, it may have none, and what it writes before that would be older.
        """
        tables = self._context.tables
        for view in views:
            cut_branch(tables.load_table(f"{NAMESPACE}.{view.name}"), "main", Replay.iso(since))
        with self._context.online() as online:
            Values(online, self._context.repository.name, views, replay).forget(tables, since)

    def _sum_up_anew(self, job: Job, since: int) -> None:
        """What became of expectations from `since` on is written again, of the new values."""
        checked = [of_view(view.name) for view in job.views if view.checked]
        if checked:
            forget(self._context.tables, self._context.repository.name, checked, since)
