"""What came of a replay's span after it was planned: live has it, and the replay has not."""

from __future__ import annotations

from collections.abc import Mapping

from flink_jobs.replay import warm_up
from flink_jobs.sql import Job, Part
from headwater.replays.context import Context
from headwater.replays.journal import Replay
from headwater.replays.plan import Plan, ReplayError, certainly_past, topic_of
from headwater.replays.topic import Found, Topic, looking
from iceberg.filters import instant
from schemas import EventStream


def planned_ends(plan: Plan) -> dict[str, dict[str, int]]:
    """From where on each source's topic had nothing of the span, by source and partition."""
    found: dict[str, dict[str, int]] = {}
    for one in plan.sources:
        its = found.setdefault(one.source, {})
        for partition, end in one.ends.items():
            its[str(partition)] = min(end, its.get(str(partition), end))
    return found


def check_whole(context: Context, replay: Replay, end: int) -> None:
    """Raise ReplayError if a record that its values hang on came since it was planned.

    Of one that does not follow, and ends there. To be asked once live has come to the end: what
    comes then is late for live. KafkaUnavailable where it cannot be told.
    """
    if not any(replay.offsets.values()):
        return
    with looking(context.settings.kafka_access) as consumer:
        for job in context.planner.jobs(replay.views):
            for source in job.sources:
                topic = Topic(consumer, topic_of(source, context.repository.name))
                then = replay.offsets.get(source.name, {})
                if found := _first_since(topic, source, job, (replay.start, end), then):
                    raise ReplayError(
                        f"{topic.name}: a record of {instant(found.time)} came since replay"
                        f" {replay.id} was planned (partition {found.partition}, offset"
                        f" {found.offset}): live has it, and the replay has not; replay the span"
                        " again"
                    )


def _first_since(
    topic: Topic, source: Part, job: Job, span: tuple[int, int], then: Mapping[str, int]
) -> Found | None:
    start, end = span
    before = warm_up(job.views, source)
    needed = None if before is None else start - before
    now_, past, committed = topic.ends, None, None
    if isinstance(source, EventStream):
        past = certainly_past(source, end)
        now_ = topic.past(past, source)
    elif streams := [view.stream for view in job.views if view.stream is not None]:
        # Events before the end were joined without what was committed long after it.
        committed = max(certainly_past(stream, end) for stream in streams)
    else:
        needed = start  # the row of a change is written at its own time
    since = {
        partition: (max(then.get(str(partition), 0), low), now_[partition])
        for partition, (low, _) in topic.bounds.items()
    }
    return topic.first_between(since, (needed, end), source, past, committed)
