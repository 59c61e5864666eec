"""What the archive's job has not committed yet: where it begins when it has no state.

Its tables say it exactly, as each row holds its place in the log. So the job may begin anew at any
time, and writes no record twice; what else it counted (windows of expectations) begins anew too.
"""

from __future__ import annotations

from collections.abc import Callable

from connectors.log import Log
from flink_jobs.replay import Reading
from flink_jobs.sql import Job
from headwater.settings import Settings
from headwater.stores import catalog
from iceberg.archive import StreamArchive
from schemas import EventStream, SettingsError


def unarchived(settings: Settings, job: Job, report: Callable[[str], None]) -> dict[str, Reading]:
    """What is still to be archived, by stream; SettingsError for a job that computes views."""
    if job.views:
        raise SettingsError(
            f"{job.name} computes views: its values need its state, and where their tables end"
            " does not say what that was. `headwater replay` computes them anew"
        )
    tables, log = catalog(settings), Log(settings.kafka_access)
    readings = {}
    for stream in job.sources:
        assert isinstance(stream, EventStream)
        archive = StreamArchive.open(tables, stream)
        kept = {} if archive is None else archive.kept()
        bounds = {}
        for partition, (low, end) in log.bounds(stream.topic).items():
            first = kept[partition].end if partition in kept else low
            if first < low:
                report(
                    f"{stream.topic}: Kafka has deleted offsets {first} to {low - 1} of"
                    f" partition {partition} before they were archived"
                )
            bounds[partition] = (max(first, low), end)
        readings[stream.name] = Reading(stream.topic, bounds)
    return readings
