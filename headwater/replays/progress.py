"""How far replays are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flink_jobs.replay import warm_up
from headwater.replays.context import Context
from headwater.replays.governor import Seen
from headwater.replays.jobs import ReplayJobs
from headwater.replays.journal import GOING, Replay
from headwater.replays.plan import ReplayError
from schemas import FeatureView

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


class Gauges:
    """Asks the cluster how far jobs have come."""

    def __init__(self, context: Context, jobs: ReplayJobs) -> None:
        self._context = context
        self._jobs = jobs

    def of(self, replay: Replay) -> Progress:
        """The slowest of its jobs."""
        if replay.state not in GOING:
            return Progress(replay.share, replay.rows, 0.0, None, replay.state)
        known = self._jobs.known(replay)
        if missing := [name for name in replay.jobs if name not in known]:
            raise ReplayError(
                f"{', '.join(missing)}: the cluster does not know of it;"
                f" `headwater replay resume {replay.id}` starts it again"
            )
        shares, rows, lag, states = [], 0, 0, []
        for name, job in known.items():
            described = self._context.cluster.get(f"/jobs/{job['jid']}")
            stopped = job["state"] == "FINISHED" and not self._jobs.is_done(replay, name, job)
            states.append("STOPPED" if stopped else described["state"])
            rows += records(described)
            shares.append(
                1.0 if described["state"] == "FINISHED" else self._share(described, replay)
            )
            if replay.end is None and described["state"] == "RUNNING":
                lag = max(lag, self.lag(described["jid"]))
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
        return Progress(share, rows, 0.0, None, state, self._jobs.rate(replay), lag)

    def watermark(self, job: str, views: Iterable[str]) -> int:
        """The least watermark of a running job's tasks that compute those views, -1 for none."""
        return self._mark(self._context.cluster.get(f"/jobs/{job}"), views)

    def computed(self, job: str, views: Iterable[FeatureView]) -> list[FeatureView]:
        """Those of the views that a running job computes; all while its tasks are not known yet."""
        tasks = [vertex["name"] for vertex in self._context.cluster.get(f"/jobs/{job}")["vertices"]]
        return [view for view in views if not tasks or any(_task(view.name) in t for t in tasks)]

    def lag(self, job: str) -> int:
        """Records that a running job has not read yet."""
        return self._context.cluster.metric(job, "Source", "pendingRecords")

    def _mark(self, job: dict[str, Any], views: Iterable[str]) -> int:
        """The least watermark of the tasks that compute those views, -1 if they have none.

        Not of all tasks: those that read what is joined may never have one.
        """
        names = [_task(view) for view in views]
        tasks = f"/jobs/{job['jid']}/vertices"
        marks = [
            int(mark["value"])
            for vertex in job["vertices"]
            if any(name in vertex["name"] for name in names)
            for mark in self._context.cluster.get(f"{tasks}/{vertex['id']}/watermarks")
        ]
        return min(marks, default=-1)

    def _share(self, job: dict[str, Any], replay: Replay) -> float:
        if replay.end is None:
            return 0.0
        before = warm_up(tuple(self._context.views(replay))) or 0
        first = replay.start - before
        reached = self._mark(job, replay.views)
        return max(0.0, min(1.0, (reached - first) / (replay.end - first)))

    def _is_near(self, replay: Replay, known: dict[str, dict[str, Any]], states: list[str]) -> bool:
        """Whether each job has come as far in event time as the live job it was made of."""
        if any(state != "RUNNING" for state in states):
            return False
        live = {job.name: job.id for job in self._context.cluster.jobs()}
        for name, job in known.items():
            mark = self.watermark(job["jid"], replay.views)
            its = live.get(name.split("-", 2)[2])
            if mark < 0 or (
                its is not None and mark < self.watermark(its, replay.views) - _NEAR_MS
            ):
                return False
        return True


def _task(view: str) -> str:
    """What the name of the task contains that writes a view's values."""
    return f"redis {view}: "


def records(job: dict[str, Any]) -> int:
    """Records that a job has read: each of its operators behind the source gets them all."""
    return max((int(vertex["metrics"]["read-records"]) for vertex in job["vertices"]), default=0)
