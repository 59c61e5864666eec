"""A replay's job: the live job's own SQL over a part of the log, its values kept apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flink_jobs.sql import Job, job_sql
from schemas import EventStream, FeatureView


@dataclass(frozen=True)
class Span:
    """The event times a replay writes, milliseconds since 1970 UTC: start <= t < end."""

    start: int
    end: int


def warm_up(views: tuple[FeatureView, ...]) -> int | None:
    """How long before its span a replay must read, in milliseconds; None from the beginning.

    The largest window with its tile, and the disorder the first events may have. A lifetime
    feature needs all of the log.
    """
    longest = 0
    for view in views:
        source = view.source
        if not isinstance(source, EventStream):
            return None
        for feature in view.features:
            if feature.window is None:
                return None
            window = feature.window.size.seconds + feature.window.resolution.seconds
            longest = max(longest, window + source.disorder.seconds)
    return longest * 1000


def replay_sql(job: Job, name: str, branch: str, version: str, span: Span) -> str:
    """The script of a replay of `job`'s views.

    It is the live script with four differences: where it starts and ends in the log, which rows
    it lets out, the Iceberg branch, and the project its Redis keys end in.
    """
    text = job_sql(job, keep_late=False)
    text = text.replace(f"'pipeline.name' = '{job.name}'", f"'pipeline.name' = '{name}'", 1)
    text = text.replace("'scan.startup.mode' = 'earliest-offset'", _scan(job, span))
    text = text.replace(f"'project' = '{job.repository}'", f"'project' = '{version}'")
    text = re.sub(
        r"(INSERT INTO headwater\.features\.`\w+`)",
        rf"\1 /*+ OPTIONS('branch'='{branch}') */",
        text,
    )
    within = (
        f"`event_time` >= TO_TIMESTAMP_LTZ({span.start}, 3)"
        f" AND `event_time` < TO_TIMESTAMP_LTZ({span.end}, 3)"
    )
    return re.sub(r"(FROM computed\.`\w+`);\n", rf"\1\nWHERE {within};\n", text)


def _scan(job: Job, span: Span) -> str:
    """Where in the log; a record's timestamp is its event time."""
    before = warm_up(job.views)
    stream = job.sources[0]
    lines = ["'scan.bounded.mode' = 'latest-offset'"]
    if before is None or not isinstance(stream, EventStream):
        lines.append("'scan.startup.mode' = 'earliest-offset'")
    else:
        # Whatever lies in the log after the first record of the warm-up is read, in or out of
        # order: an offset found by timestamp is that of the first record as new or newer.
        lines.append("'scan.startup.mode' = 'timestamp'")
        lines.append(f"'scan.startup.timestamp-millis' = '{span.start - before}'")
    return ",\n  ".join(lines)
