"""How far the live jobs have come, beyond which no replay is put in their place."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from flink_jobs.rest import FlinkError
from flink_jobs.sql import Job
from headwater.jobs import Jobs, Report
from headwater.replays.context import Context
from headwater.replays.journal import Replay
from headwater.replays.plan import ReplayError
from headwater.replays.progress import Gauges
from iceberg.catalog import NAMESPACE
from iceberg.filters import since
from schemas import EVENT_TIME, FeatureView

_PASS_SECONDS = 120
_COMMIT_SECONDS = 120
_AGAIN_SECONDS = 2.0
"""Between two looks; Flink asks its tasks anew for the second."""


class Live:
    """The live jobs of views, as a replay of the same views has to know them."""

    def __init__(self, context: Context, gauges: Gauges) -> None:
        self._context = context
        self._gauges = gauges
        self._platform = Jobs(context.settings, context.repository)

    def await_end(self, replay: Replay, report: Report) -> None:
        """Return when live jobs have committed all that comes before the end of a replay.

        What they were still to write there would come on top of the replay's rows, and the online
        store would refuse it. ReplayError if they do not get there. A job that does not run, and
        would go on from where it was, is to get there first; another is not waited for, nor a view
        that its job does not compute yet. Of a cluster that does not answer, the tables tell.
        """
        try:
            self._platform.settled(report)
            begun = self._await_watermarks(replay, report)
            self._await_commits(replay, begun)
            if behind := self._behind(replay, self._known(replay)):
                raise ReplayError(
                    f"replay {replay.id} ends at {_end(replay)}, and live has started again:"
                    f" {behind}; try again"
                )
        except FlinkError:
            if not all(self._is_committed(replay, one) for one in self._context.views(replay)):
                raise

    def _await_watermarks(self, replay: Replay, report: Report) -> dict[str, int]:
        """When each of the jobs last began, as of the look that found them there."""
        deadline = time.monotonic() + _PASS_SECONDS
        said = ""
        while True:
            known = self._known(replay)
            begun = self.begun(id_ for _, id_ in known if id_ is not None)
            if not (behind := self._behind(replay, known)):
                return begun
            if time.monotonic() > deadline:
                raise ReplayError(
                    f"replay {replay.id} ends at {_end(replay)}, live has not come there: {behind};"
                    " promote it when it has, or replay without --to, which follows live"
                )
            if behind != said:
                report(f"waiting for live to come to {_end(replay)}: {behind}")
                said = behind
            time.sleep(_AGAIN_SECONDS)

    def _await_commits(self, replay: Replay, begun: dict[str, int]) -> None:
        ids = [
            id_
            for job, id_ in self._known(replay)
            if id_ is not None
            and not all(self._is_committed(replay, view) for view in self._computed(job, id_))
        ]
        if ids:
            self.commit({id_: begun.get(id_, -1) for id_ in ids})

    def begun(self, ids: Iterable[str]) -> dict[str, int]:
        """When running jobs, by Flink's ids, last began: to be asked before how far they are."""
        return {id_: self._context.cluster.restored(id_) for id_ in ids}

    def commit(self, begun: Mapping[str, int]) -> None:
        """Return when jobs have committed what they had let out since they have `begun`.

        ReplayError if one has begun anew, from before that.
        """
        cluster = self._context.cluster
        # The tables of the first are committed after it is complete, and before a second one is.
        made = cluster.checkpoint(list(begun), 2, _COMMIT_SECONDS)
        if behind := begun.keys() - made.keys():
            raise ReplayError(
                f"job {', '.join(sorted(behind))} makes no checkpoints: try again when it does"
            )
        if anew := [id_ for id_, at in begun.items() if cluster.restored(id_, made[id_]) != at]:
            raise ReplayError(
                f"job {', '.join(anew)} has started again while its rows were waited for: try again"
            )

    def _behind(self, replay: Replay, known: Iterable[tuple[Job, str | None]]) -> str:
        """Which live jobs have not come to its end, and where they are; empty if all have."""
        assert replay.end is not None
        told = []
        for job, id_ in known:
            # The facts of a captured table wait for no watermark.
            views = [view for view in self._computed(job, id_) if view.stream is not None]
            if not views:
                continue
            mark = -1
            if id_ is not None:
                mark = self._gauges.watermark(id_, [view.name for view in views])
            if mark < 0:  # it is away, or has read nothing new since it started again
                if not all(self._is_committed(replay, view) for view in views):
                    told.append(_away(job) if id_ is None else f"{job.name} has no watermark yet")
            elif mark < replay.end - 1:
                told.append(f"{job.name} is at {Replay.iso(mark)}")
        return ", ".join(told)

    def _known(self, replay: Replay) -> list[tuple[Job, str | None]]:
        """The live jobs of its views, narrowed to those; Flink's id of each, None of one away."""
        ids = {job.name: job.id for job in self._context.cluster.jobs()}
        return [(job, ids.get(job.name)) for job in self._context.planner.jobs(replay.views)]

    def _computed(self, job: Job, id_: str | None) -> list[FeatureView]:
        """The job's views that it computes as it runs: one that was declared since is not there.

        Of one that does not run, those that it will compute as it goes on.
        """
        if id_ is None:
            return list(job.views) if self._goes_on(job) else []
        return self._gauges.computed(id_, job.views)

    def mark(self, job: Job, id_: str) -> int:
        """The watermark of those of a job's views that it computes, -1 for none.

        Where all of them are new to it, that of its others: it has come as far.
        """
        views = self._computed(job, id_) or self._platform.find(job.name).views
        return self._gauges.watermark(id_, [view.name for view in views])

    def check_running(self, jobs: Iterable[Job], report: Report) -> None:
        """Raise ReplayError if a job does not run that would go on from where it was."""
        running = self._platform.settled(report)
        if away := [job for job in jobs if job.name not in running and self._goes_on(job)]:
            told = ", ".join(_away(job) for job in away)
            raise ReplayError(f"{told}; promote the replay when live has caught up")

    def _goes_on(self, job: Job) -> bool:
        return self._platform.goes_on(self._platform.find(job.name))

    def _is_committed(self, replay: Replay, view: FeatureView) -> bool:
        """Whether the table holds a row of the replay's last instant, or of a later one.

        A row is let out when the watermark has come to it, and committed with all before it.
        """
        assert replay.end is not None
        table = self._context.tables.load_table(f"{NAMESPACE}.{view.name}")
        scan = table.scan(row_filter=since(replay.end - 1), selected_fields=(EVENT_TIME,), limit=1)
        return bool(scan.to_arrow().num_rows)


def _away(job: Job) -> str:
    return f"{job.name} does not run: `headwater jobs submit {job.name}` lets it go on"


def _end(replay: Replay) -> str:
    assert replay.end is not None
    return Replay.iso(replay.end)
