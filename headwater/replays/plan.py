"""Works out what a replay reads: warm-up, offsets, archive or Kafka, rows, bytes and gaps."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from confluent_kafka import Consumer
from pyiceberg.catalog import Catalog

from connectors.access import KafkaAccess
from flink_jobs.replay import Offsets, Reading, warm_up
from flink_jobs.sql import Job, Part, jobs
from headwater.replays.topic import Topic, looking
from iceberg.archive import StreamArchive
from iceberg.filters import instant
from schemas import (
    CdcTable,
    EventStream,
    HeadwaterError,
    Repository,
    SettingsError,
    Type,
    parts,
)
from schemas.topics import captured_topic

SOURCES = ("auto", "kafka", "archive")
_FOLLOWED = 1000
"""The newest records of each partition come from Kafka where a replay follows the log: the archive
has no watermark once it is read, and Kafka none before it gave a record."""
_PRIOR_RECORDS_PER_SECOND = 40_000
"""Of all the flights' views on two cores, until a replay of this platform has been measured."""


class ReplayError(HeadwaterError):
    """A replay cannot be done, or has failed; the text says why and what to do."""

    exit_code = 1


@dataclass(frozen=True)
class Wanted:
    """What is to be replayed."""

    views: tuple[str, ...]
    start: int
    """Milliseconds since 1970 UTC; the first event time that is written."""

    end: int | None
    """The first that is not; None to follow Kafka until it is caught up with."""

    keys: Mapping[str, tuple[str, ...]]
    """Values of key columns, as text; none for all entities."""

    source: str = "auto"
    as_of: int | None = None
    """Milliseconds since 1970 UTC: events that were archived later are not read."""


@dataclass(frozen=True)
class SourcePlan:
    """What a replay reads of one source."""

    source: str
    topic: str
    views: list[str]
    warm_up_seconds: int | None
    """None: from the beginning of the log."""

    archive: Offsets
    """First and last-plus-one offset, by partition, from the archive."""

    snapshot: int | None
    log: Offsets
    """The same from Kafka, after the archive's."""

    rows: int
    bytes: int
    """As they lie in Kafka and in the archive's files."""

    gap: str
    """What neither holds of what is needed; empty if all is there."""

    ends: dict[int, int] = field(default_factory=dict)
    """From where on the topic had nothing of the span, by partition; none as of an instant, and
    where the log is followed."""

    @property
    def reading(self) -> Reading:
        """The same, for the job's script."""
        return Reading(self.topic, self.log, self.archive, self.snapshot)


@dataclass(frozen=True)
class Plan:
    """What a replay would do."""

    sources: list[SourcePlan]
    rows: int
    bytes: int
    seconds: float
    """Expected, at `records_per_second`."""

    records_per_second: float
    measured: int
    """Finished replays that this rate is the mean of; 0: it is a guess."""

    state_bytes: int | None
    """Of the live jobs' last checkpoints, which hold the state of the same views and more."""

    @property
    def gap(self) -> str:
        """What is missing, of all sources; empty if nothing is."""
        return "; ".join(f"{one.topic}: {one.gap}" for one in self.sources if one.gap)


class Planner:
    """Plans replays of one repository."""

    def __init__(self, repository: Repository, kafka: KafkaAccess, catalog: Catalog) -> None:
        self._repository = repository
        self._kafka = kafka
        self._catalog = catalog

    def jobs(self, names: Iterable[str]) -> list[Job]:
        """The live jobs, narrowed to the views of those names; SettingsError for an unknown one."""
        wanted = [view.name for view in self._repository.named(names)]
        narrowed = []
        for job in jobs(self._repository):
            if any(view.name in wanted for view in job.views):
                narrowed.append(job.only(wanted))
        return narrowed

    def keys(self, wanted: Wanted) -> dict[str, tuple[str | int, ...]]:
        """The wanted keys in the types of their columns; SettingsError if a view lacks one."""
        typed: dict[str, tuple[str | int, ...]] = {}
        for job in self.jobs(wanted.views):
            for view in job.views:
                types = {entity.key: entity.type for entity in view.entities}
                for column, values in wanted.keys.items():
                    if column not in types:
                        raise SettingsError(
                            f"--keys: {view.name} has no key {column!r};"
                            f" choices: {', '.join(types)}"
                        )
                    typed[column] = tuple(_typed(column, types[column], v) for v in values)
        return typed

    def sources(self, wanted: Wanted) -> list[SourcePlan]:
        """What is to be read of each source; changes nothing."""
        if wanted.end is not None and wanted.start >= wanted.end:
            raise SettingsError("--from must be before --to")
        present = time.time() * 1000
        if wanted.start > present:
            raise SettingsError(f"--from: {instant(wanted.start)} has not come yet")
        if wanted.end is not None and wanted.end > present:
            raise SettingsError(
                f"--to: {instant(wanted.end)} has not come yet; leave --to out to follow the log"
            )
        if wanted.source not in SOURCES:
            raise SettingsError(f"--source: {wanted.source!r}; choices: {', '.join(SOURCES)}")
        if wanted.source == "archive" and wanted.end is None:
            raise SettingsError("--source archive needs --to: what is still to come is in Kafka")
        with looking(self._kafka) as consumer:
            return [
                self._source(consumer, source, job, wanted)
                for job in self.jobs(wanted.views)
                for source in job.sources
            ]

    def _source(self, consumer: Consumer, source: Part, job: Job, wanted: Wanted) -> SourcePlan:
        before = warm_up(job.views, source)
        needed = None if before is None else max(wanted.start - before, 0)
        topic = topic_of(source, self._repository.name)
        # A captured table is read whole, and its changes are not archived.
        stream = source if isinstance(source, EventStream) else None
        archive = None if stream is None else StreamArchive.open(self._catalog, stream)
        if archive is not None and archive.snapshot is None:
            archive = None
        until = None
        if stream is not None and wanted.end is not None:
            until = certainly_past(stream, wanted.end)
        log = Topic(consumer, topic)
        if wanted.end is None and wanted.as_of is not None:
            raise SettingsError("--as-of needs --to: what follows the log knows all of it")
        known = archive.known_at(wanted.as_of) if archive and wanted.as_of is not None else None
        if wanted.as_of is not None and known is None:
            raise ReplayError(
                f"--as-of: nothing says when the records of {topic} came: it is not archived"
            )
        ends = log.ends if stream is None or until is None else log.past(until, stream)
        chosen = _choose(log, archive, wanted.source, needed, until, ends, known)
        kept = archive.kept(chosen.archive) if archive and chosen.archive else {}
        from_log = sum(end - first for first, end in chosen.log.values())
        return SourcePlan(
            source=source.name,
            topic=topic,
            views=[view.name for view in job.views if source in parts(view.source)],
            warm_up_seconds=None if before is None else before // 1000,
            archive=chosen.archive,
            snapshot=archive.snapshot if archive and chosen.archive else None,
            log=chosen.log,
            rows=sum(one.rows for one in kept.values()) + from_log,
            bytes=sum(one.bytes for one in kept.values())
            + round(from_log * log.record_bytes(chosen.log)),
            gap=chosen.gap,
            ends=dict(ends) if wanted.end is not None and wanted.as_of is None else {},
        )


@dataclass(frozen=True)
class _Choice:
    archive: Offsets
    log: Offsets
    gap: str


def _choose(
    log: Topic,
    archive: StreamArchive | None,
    source: str,
    needed: int | None,
    enough: int | None,
    ends: Mapping[int, int],
    known: Mapping[int, int] | None,
) -> _Choice:
    """Archive first, then Kafka: no offset twice, none left out but what `gap` says."""
    kept = archive.kept() if archive is not None else {}
    in_archive = archive.first_at(needed) if archive is not None and needed is not None else {}
    ends_in_archive = archive.first_at(enough) if archive is not None and enough is not None else {}
    starts = log.at(needed)
    chosen = _Choice({}, {}, "")
    gaps = []
    for partition, (low, _) in log.bounds.items():
        first, end = starts[partition], ends[partition]
        covered = low == 0 or first > low
        held = kept.get(partition)
        if held is not None and not covered and source != "kafka":
            # Kafka begins too late, so that its first offset says nothing of where to begin.
            begin = held.first if needed is None else in_archive.get(partition, held.end)
            if begin == held.first > 0:
                gaps.append(f"partition {partition}: the archive begins at offset {begin}")
            if 0 < low == end:
                end = min(end, ends_in_archive.get(partition, end))
        elif source == "archive":
            begin = first
            if held is None or begin < held.first:
                there = "nothing" if held is None else f"offsets from {held.first}"
                gaps.append(f"partition {partition}: the archive holds {there}, needed {begin}")
        else:
            begin = first
            if not covered:
                gaps.append(f"partition {partition}: Kafka begins at offset {low}")
        if known is not None:
            end = min(end, known.get(partition, 0))
        end = max(begin, end)
        # All of it that the archive has: Kafka may delete more while the replay runs.
        use = held is not None and (source == "archive" or (source == "auto" and not covered))
        until = min(end, held.end) if use and held is not None else begin
        if enough is None:
            until = min(until, max(low, end - _FOLLOWED))
        if use and until > begin:
            chosen.archive[partition] = (begin, until)
        if source == "archive":
            # Where it holds an event past the span, what it lacks is none of it.
            if until < end and partition not in ends_in_archive:
                gaps.append(f"partition {partition}: the archive ends at offset {until} of {end}")
        else:
            if until < low and until < end:
                gaps.append(
                    f"partition {partition}: the archive ends at offset {until},"
                    f" Kafka begins at {low}"
                )
            chosen.log[partition] = (max(until, begin), end)
    gap = f"the log no longer holds what the replay needs: {', '.join(gaps)}" if gaps else ""
    return _Choice(chosen.archive, chosen.log, gap)


def expected(
    sources: list[SourcePlan],
    rates: list[float],
    limit: float | None,
    state_bytes: int | None,
) -> Plan:
    """The plan of those sources, at the mean of the `rates` of replays before, or the limit."""
    rate = sum(rates) / len(rates) if rates else float(_PRIOR_RECORDS_PER_SECOND)
    if limit is not None:
        rate = min(rate, limit)
    rows = sum(one.rows for one in sources)
    return Plan(
        sources,
        rows,
        sum(one.bytes for one in sources),
        round(rows / rate, 1),
        round(rate, 1),
        len(rates),
        state_bytes,
    )


def certainly_past(stream: EventStream, end: int) -> int:
    """No event before an end comes on time after one of this instant, milliseconds since 1970."""
    return end + (stream.disorder.seconds + stream.drift.seconds) * 1000


def topic_of(source: Part, project: str) -> str:
    """The topic of a source."""
    return captured_topic(source, project) if isinstance(source, CdcTable) else source.topic


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _typed(column: str, type_: Type, text: str) -> str | int:
    if type_ is not Type.INT64:
        return text
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"--keys: {column} is an integer, got {text!r}") from None
