"""Follows a replay to its end, and slows it down where it would harm others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from flink_jobs.rest import FlinkError
from headwater.replays.context import Context
from headwater.replays.governor import ApiLatency, Bounds, Governor, Seen
from headwater.replays.jobs import ReplayJobs
from headwater.replays.journal import GOING, Replay
from headwater.replays.progress import Gauges, Progress

_POLL_SECONDS = 0.5
_AWAY_SECONDS = 60
_GOVERN_SECONDS = 2.0
_LATELY_SECONDS = 5.0


class Follower:
    """Looks at a replay about twice a second."""

    def __init__(
        self,
        context: Context,
        jobs: ReplayJobs,
        gauges: Gauges,
        ended: Callable[[Replay, str], Replay],
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._gauges = gauges
        self._ended = ended

    def follow(self, replay: Replay) -> Iterator[Progress]:
        """How far it is, about twice a second, until it is done or has caught up.

        The last one tells the state that the journal has then.
        """
        with self._context.lookups_first(replay):
            yield from self._follow(replay)

    def _follow(self, replay: Replay) -> Iterator[Progress]:
        watch = _Watch()
        govern = self._governor(replay)
        answered = time.monotonic()
        while True:
            try:
                now_ = watch.over(self._gauges.of(replay))
                answered = time.monotonic()
            except FlinkError:  # it is busy, or comes back in a moment
                if time.monotonic() - answered > _AWAY_SECONDS:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            if govern is not None and now_.state in GOING:
                now_ = self._govern(replay, govern, watch, now_)
            if now_.state != replay.state:
                replay = self._ended(replay, now_.state)
                now_ = replace(now_, state=replay.state)  # others may have ended it otherwise
            yield now_
            if now_.state not in ("starting", "running"):
                return
            time.sleep(_POLL_SECONDS)

    def _governor(self, replay: Replay) -> Governor | None:
        bounds = Bounds(
            None if replay.max_p99_ms is None else replay.max_p99_ms / 1000, replay.max_lag
        )
        if not bounds.any:
            return None
        latency = ApiLatency(self._context.settings.api_url)
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
            if replay.max_p99_ms is not None:
                self._context.cores.keep_one()  # of what was started since, too
            rate, watch.seen = governor.look(watch.lately)
            if rate != now_.rate:
                self._jobs.pace(replay, rate)
        return replace(now_, rate=rate, seen=watch.seen, slowed=governor.slowed)

    def _live_lag(self, replay: Replay) -> int | None:
        """Records that the live jobs of its views have not read; None if none runs."""
        names = {job.name for job in self._context.planner.jobs(replay.views)}
        lags = [
            self._gauges.lag(job.id) for job in self._context.cluster.jobs() if job.name in names
        ]
        return max(lags, default=None)


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
