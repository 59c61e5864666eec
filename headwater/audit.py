"""Accounts for every record of a topic: it is in the archive, or a dead letter, and once.

For an event stream the archive says of each offset whether its event came in; views take the
archive's rows but for the late ones, which are counted by view. For a captured table each view
has a row of every change, with its key and time; a table that no view is made of leaves no rows.
Offsets that carry no record, such as the marks of transactions, are none to account for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from connectors.access import KafkaAccess
from connectors.changes import change_of
from connectors.deadletters import DeadLetters
from connectors.heartbeat import heartbeat_time
from connectors.late import LateRow, aborted_rows, late_counts
from connectors.log import Log
from iceberg.archive import StreamArchive
from iceberg.catalog import ARCHIVE, NAMESPACE
from iceberg.filters import between, of_keys
from iceberg.reading import batches
from iceberg.tables import OFFSET, PARTITION
from schemas import EVENT_TIME, CdcTable, EventStream, FeatureView, Repository
from schemas.topics import source_topic

Bounds = dict[int, tuple[int, int]]
"""The first offset, and one more than the last, of each partition."""

Place = tuple[str | int, int]
"""Of a captured row: its key, and since when it is true, milliseconds since 1970 UTC."""

_RANGES = 20
_NONE = np.array([], np.int64)
_FAR = 100_000
"""Offsets: what lies further apart is looked at by itself, and not all that is in between."""


@dataclass(frozen=True)
class Span:
    """The records of one partition from offset `first` up to `end`, which is not among them."""

    partition: int
    first: int
    end: int
    dead: int
    bare: int = field(default=0, kw_only=True)
    """Offsets that carry no record: marks of transactions, and what was taken back by them."""

    @property
    def produced(self) -> int:
        """How many records there are."""
        return self.end - self.first - self.bare


@dataclass(frozen=True)
class PartitionAudit(Span):
    """What became of the records of an event stream."""

    archived: int
    """Events that came in, each counted once."""

    heartbeats: int
    twice: int
    """Events that stand in the archive more than once, or there and among the dead letters."""

    missing: int
    """Records that are nowhere, though later ones of the partition are."""

    pending: int
    """The newest records, which no checkpoint has committed yet."""

    where: list[str] = field(default_factory=list)
    """The first ranges of offsets that are missing."""

    deleted: int = 0
    """Records before `first` that Kafka deleted before they were archived, dead letters apart; a
    heartbeat among them, or the mark of a transaction, nobody can tell from an event."""

    deleted_where: str = ""
    """The range of their offsets."""


@dataclass(frozen=True)
class StreamAudit:
    """The topic of an event stream, accounted for."""

    topic: str
    partitions: list[PartitionAudit]
    late: dict[str, int]
    """Rows that came in and were late, by view; over the whole log."""

    whole: bool = True
    """Whether the partitions are the whole log, from its first record ever; of a part of it nobody
    knows how many of the late rows are of its events, nor how many came in."""

    note: str = ""
    lost: dict[str, int] = field(default_factory=dict)
    """Late rows that Kafka dropped, since their job was away for longer than it may be, by view."""

    @property
    def balanced(self) -> bool:
        """Whether every record is accounted for, once."""
        apart = sum(p.missing + p.twice + p.pending + p.deleted for p in self.partitions)
        return not (apart or self.lost or self.note)

    @property
    def came_in(self) -> dict[str, int]:
        """Rows that each view took in; none of a part of the log."""
        if not self.whole:
            return {}
        came = sum(p.produced - p.dead - p.heartbeats for p in self.partitions)
        return {view: came - late for view, late in self.late.items()}

    def document(self) -> dict[str, Any]:
        """As JSON."""
        names = ("produced", "archived", "dead", "heartbeats", "twice", "missing", "pending")
        return {
            "topic": self.topic,
            "balanced": self.balanced,
            **{
                name: sum(getattr(p, name) for p in self.partitions) for name in (*names, "deleted")
            },
            **({"in": self.came_in} if self.whole else {}),
            "late": self.late,
            "lost": self.lost,
            "partitions": [asdict(p) for p in self.partitions],
            "note": self.note,
        }


@dataclass(frozen=True)
class ViewRows:
    """The rows of a view, held against the changes of its captured table."""

    rows: int
    missing: int
    """Changes without a row, those among them that no checkpoint has committed yet."""

    twice: int
    """Rows beyond those of the changes."""


@dataclass(frozen=True)
class TableAudit:
    """The topic of a captured table, accounted for."""

    topic: str
    partitions: list[Span]
    views: dict[str, ViewRows] = field(default_factory=dict)
    """By name; none where nothing was checked."""

    note: str = ""
    """Why nothing was checked."""

    @property
    def balanced(self) -> bool | None:
        """Whether each view has one row of each change; None if that was not checked."""
        if self.note:
            return None
        return not any(view.missing or view.twice for view in self.views.values())

    def document(self) -> dict[str, Any]:
        """As JSON."""
        told = {
            "topic": self.topic,
            "balanced": self.balanced,
            "produced": sum(p.produced for p in self.partitions),
            "dead": sum(p.dead for p in self.partitions),
            "partitions": [asdict(p) for p in self.partitions],
            "note": self.note,
        }
        if self.note:
            return told
        return told | {
            "missing": sum(view.missing for view in self.views.values()),
            "twice": sum(view.twice for view in self.views.values()),
            "in": {name: view.rows for name, view in self.views.items()},
            "views": {name: asdict(view) for name, view in self.views.items()},
        }


class Audit:
    """Audits the topics of a repository."""

    def __init__(self, access: KafkaAccess, catalog: Catalog, repository: Repository) -> None:
        self._access = access
        self._log = Log(access)
        self._catalog = catalog
        self._repository = repository

    def run(
        self,
        sources: Iterable[EventStream | CdcTable],
        start: int | None,
        end: int | None,
        wait: float,
    ) -> list[StreamAudit | TableAudit]:
        """Every topic, waiting up to `wait` seconds until nothing is pending.

        `start` and `end` are times of records, milliseconds since 1970 UTC: from the first record
        as new as `start` up to the first as new as `end`. None is the log's beginning and end.
        """
        deadline = time.monotonic() + wait
        wanted = list(sources)
        found = [self._topic(source, start, end) for source in wanted]
        while any(one.balanced is False for one in found) and time.monotonic() < deadline:
            time.sleep(1)
            found = [
                self._topic(source, start, end) if one.balanced is False else one
                for source, one in zip(wanted, found, strict=True)
            ]
        return found

    def _topic(
        self, source: EventStream | CdcTable, start: int | None, end: int | None
    ) -> StreamAudit | TableAudit:
        if isinstance(source, CdcTable):
            return self._table(source, start, end)
        return self._stream(source, start, end)

    def _table(self, table: CdcTable, start: int | None, end: int | None) -> TableAudit:
        topic = source_topic(table, self._repository.name)
        views = [view for view in self._repository.views if view.source == table]
        whole = start is None and end is None
        # Before the log is read, which then has the change of every row that there is.
        rows = {view.name: self._rows(view) for view in views} if whole else {}
        bounds = self._bounds(topic, start, end)
        dead = self._dead(topic, bounds)
        spans = [Span(p, first, last, len(dead[p])) for p, (first, last) in bounds.items()]
        if note := _unchecked(views, whole, bounds):
            return TableAudit(topic, spans, note=note)
        changes: Counter[Place | None] = Counter()
        came = dict.fromkeys(bounds, 0)
        for partition, offset, value in self._records(topic, bounds):
            came[partition] += 1
            if offset not in dead[partition]:
                change = change_of(table, value)
                changes[None if change is None else (change.key, change.since)] += 1
        spans = [replace(s, bare=s.produced - came[s.partition]) for s in spans]
        return TableAudit(topic, spans, {name: held(of, changes) for name, of in rows.items()})

    def _stream(self, stream: EventStream, start: int | None, end: int | None) -> StreamAudit:
        topic = stream.topic
        # Before the archive is looked at, which then has what was deleted since.
        lows = {partition: low for partition, (low, _) in self._log.bounds(topic).items()}
        bounds = self._bounds(topic, start, end)
        dead = self._dead(topic, bounds)
        views = [view for view in self._repository.views if stream in (view.source, view.stream)]
        try:
            archived = self._archived(stream, bounds)
        except NoSuchTableError:
            return StreamAudit(topic, [], {}, note=f"no table {ARCHIVE}.{stream.name}")
        late = Counter(late_counts(self._access, stream))
        untraced = {
            p: first + np.flatnonzero(_times(first, last, archived[p], dead[p]) == 0)
            for p, (first, last) in bounds.items()
        }
        beats, bare = self._untraced(topic, untraced)
        found = [
            _account(p, first, last, archived[p], dead[p], beats[p], bare[p])
            for p, (first, last) in bounds.items()
        ]
        return StreamAudit(
            topic,
            self._with_deleted(stream, found, lows),
            {view.name: late[view.name] for view in views},
            whole=start is None and end is None and not _begins_later(bounds),
            lost=self._lost(stream, views),
        )

    def _dead(self, topic: str, bounds: Bounds) -> dict[int, set[int]]:
        """The offsets of its dead letters by partition."""
        found: dict[int, set[int]] = {partition: set() for partition in bounds}
        for letter in DeadLetters(self._access, [topic]).read(topic):
            first, last = bounds[letter.partition]
            if first <= letter.offset < last:
                found[letter.partition].add(letter.offset)
        return found

    def _lost(self, stream: EventStream, views: Iterable[FeatureView]) -> dict[str, int]:
        """Late rows whose transaction was aborted and that neither came again nor counted since."""
        found: dict[str, list[LateRow]] = {}
        for row in aborted_rows(self._access, stream):
            found.setdefault(row.view, []).append(row)
        counts = {view.name: self._uncounted(view, found.get(view.name, [])) for view in views}
        return {name: count for name, count in counts.items() if count}

    def _uncounted(self, view: FeatureView, rows: list[LateRow]) -> int:
        """How many of those rows the view has no row of: one counts that is not late again."""
        if not rows:
            return 0
        keys = {(*row.key(view), row.event_time) for row in rows}
        times = [row.event_time for row in rows]
        scan = self._catalog.load_table(f"{NAMESPACE}.{view.name}").scan(
            selected_fields=(*view.keys, EVENT_TIME),
            row_filter=of_keys(view.keys, [row.key(view) for row in rows]),
        )
        there = between(scan, min(times), max(times) + 1).to_arrow().to_pylist()
        counted = {
            (*(one[key] for key in view.keys), round(one[EVENT_TIME].timestamp() * 1000))
            for one in there
        }
        return len(keys - counted)

    def _archived(self, stream: EventStream, bounds: Bounds) -> dict[int, np.ndarray]:
        table = self._catalog.load_table(f"{ARCHIVE}.{stream.name}")
        found = {}
        for partition, (first, end) in bounds.items():
            within = f"{OFFSET} >= {first} and {OFFSET} < {end}"
            rows = table.scan(
                row_filter=f"{PARTITION} == {partition} and {within}",
                selected_fields=(OFFSET,),
            ).to_arrow()
            found[partition] = rows[OFFSET].to_numpy()
        return found

    def _with_deleted(
        self, stream: EventStream, parts: list[PartitionAudit], lows: Mapping[int, int]
    ) -> list[PartitionAudit]:
        """The same, with what Kafka deleted before it was archived."""
        gone = self._deleted(stream, parts, lows)
        if not gone:
            return parts
        dead = self._dead(stream.topic, dict.fromkeys(lows, (0, 0)) | gone)
        found = []
        for part in parts:
            first, end = gone.get(part.partition, (0, 0))
            if count := end - first - len(dead[part.partition]):
                part = replace(part, deleted=count, deleted_where=f"{first} to {end - 1}")
            found.append(part)
        return found

    def _deleted(
        self, stream: EventStream, parts: Iterable[PartitionAudit], lows: Mapping[int, int]
    ) -> Bounds:
        """Where the archive ends and Kafka begins only later, in what begins with Kafka's log.

        Not of a partition that nothing is archived of: nobody knows whether anything was to be.
        """
        if not any(lows.values()):
            return {}
        kept = StreamArchive(self._catalog.load_table(f"{ARCHIVE}.{stream.name}")).kept()
        ends = {p.partition: kept[p.partition].end for p in parts if p.partition in kept}
        return {
            p.partition: (ends[p.partition], low)
            for p in parts
            if p.first <= (low := lows[p.partition]) and ends.get(p.partition, low) < low
        }

    def _untraced(
        self, topic: str, untraced: Mapping[int, np.ndarray]
    ) -> tuple[dict[int, set[int]], dict[int, np.ndarray]]:
        """Those of the offsets that are heartbeats, and those that carry no record.

        A heartbeat leaves no trace, whether or not its stream still declares one; one of the future
        is a dead letter, and so traced. Of what Kafka has deleted nobody knows.
        """
        carry: dict[int, list[int]] = {partition: [] for partition in untraced}
        beats: dict[int, list[int]] = {partition: [] for partition in untraced}
        for partition, offset, value in self._at(topic, untraced):
            carry[partition].append(offset)
            if heartbeat_time(value) is not None:
                beats[partition].append(offset)
        lows = {partition: low for partition, (low, _) in self._log.bounds(topic).items()}
        bare = {
            p: np.setdiff1d(offsets[offsets >= lows[p]], carry[p])
            for p, offsets in untraced.items()
        }
        # What lies between them has a trace, and may be a dead letter that begins like a heartbeat.
        found = {p: np.intersect1d(offsets, beats[p]) for p, offsets in untraced.items()}
        return {p: set(its.tolist()) for p, its in found.items()}, bare

    def _at(
        self, topic: str, wanted: Mapping[int, np.ndarray]
    ) -> Iterator[tuple[int, int, bytes | None]]:
        """The partition, offset and value of the records at those offsets, and near them."""
        for partition, offsets in wanted.items():
            for near in np.split(offsets, np.flatnonzero(np.diff(offsets) > _FAR) + 1):
                if len(near):
                    start, end = {partition: int(near[0])}, {partition: int(near[-1]) + 1}
                    for message in self._log.messages(topic, start, end):
                        yield partition, message.offset() or 0, message.value()

    def _records(self, topic: str, bounds: Bounds) -> Iterator[tuple[int, int, bytes | None]]:
        """The partition, offset and value of each record."""
        starts = {partition: first for partition, (first, _) in bounds.items()}
        for message in self._log.messages(topic, starts):
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            if offset < bounds[partition][1]:
                yield partition, offset, message.value()

    def _rows(self, view: FeatureView) -> Counter[Place | None]:
        """How many rows of each change a view over a captured table has."""
        (key,) = view.keys
        table = self._catalog.load_table(f"{NAMESPACE}.{view.name}")
        found: Counter[Place | None] = Counter()
        for batch in batches(table.scan(selected_fields=(key, EVENT_TIME))):
            microseconds = batch[EVENT_TIME].cast("int64").to_numpy()
            found.update(zip(batch[key].to_pylist(), (microseconds // 1000).tolist(), strict=True))
        return found

    def _bounds(self, topic: str, start: int | None, end: int | None) -> Bounds:
        found = self._log.bounds(topic)
        firsts = {} if start is None else self._log.at(topic, start)
        ends = {} if end is None else self._log.at(topic, end)
        return {
            p: (first := firsts.get(p, low), max(first, ends.get(p, high)))
            for p, (low, high) in found.items()
        }


def _unchecked(views: Sequence[FeatureView], whole: bool, bounds: Bounds) -> str:
    """Why a captured table's changes cannot be held against rows; empty if they can."""
    if not views:
        return "not checked: no view is made of it, and what is joined with leaves no rows"
    if not whole:
        return "not checked: a captured table is audited over the whole log only"
    if _begins_later(bounds):
        return "not checked: Kafka has deleted its first changes, whose rows are still there"
    return ""


def _begins_later(bounds: Bounds) -> bool:
    """Whether the first records of a partition are not among them."""
    return any(first > 0 for first, _ in bounds.values())


def held(rows: Counter[Place | None], changes: Counter[Place | None]) -> ViewRows:
    """How rows compare with the changes that they are to be of, each as often as it came.

    For a change may come more than once: two of one transaction may have the same time, and a
    snapshot brings a row again.
    """
    return ViewRows(rows.total(), (changes - rows).total(), (rows - changes).total())


def _times(first: int, end: int, archived: np.ndarray, *others: set[int]) -> np.ndarray:
    """How often there is a trace of each offset of [first, end): archived, or of the others."""
    times = np.zeros(end - first, np.int32)
    np.add.at(times, archived - first, 1)
    for few in others:
        times[np.fromiter(few, np.int64, len(few)) - first] += 1
    return times


def _account(
    partition: int,
    first: int,
    end: int,
    archived: np.ndarray,
    dead: set[int],
    heartbeats: set[int],
    bare: np.ndarray = _NONE,
) -> PartitionAudit:
    """Each offset of [first, end) is archived once, or dead, or a heartbeat; or it is `bare`."""
    times = _times(first, end, archived, dead, heartbeats)
    known = np.flatnonzero(times)
    reached = int(known[-1]) + 1 if len(known) else 0
    left = times == 0
    left[bare - first] = False
    gaps = np.flatnonzero(left[:reached])
    starts = gaps[np.flatnonzero(np.diff(gaps, prepend=-2) > 1)]
    ends = gaps[np.flatnonzero(np.diff(gaps, append=end + 2) > 1)]
    return PartitionAudit(
        partition,
        first,
        end,
        len(dead),
        len(np.unique(archived)),
        len(heartbeats),
        int((times > 1).sum()),
        len(gaps),
        int(left[reached:].sum()),
        [f"{first + a} to {first + b}" for a, b in zip(starts[:_RANGES], ends, strict=False)],
        bare=len(bare),
    )
