"""Accounts for every record of a topic: it is in the archive, or a dead letter, and once.

For an event stream the archive says of each offset whether its event came in; views take the
archive's rows but for the late ones, which are counted by view. For a captured table each view
has a row of every change.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import numpy as np
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from connectors.access import KafkaAccess
from connectors.ddl import source_topic
from connectors.deadletters import DeadLetters
from connectors.heartbeat import is_heartbeat
from connectors.late import LateRow, aborted_rows, late_counts
from connectors.log import Log
from iceberg.catalog import ARCHIVE, NAMESPACE
from iceberg.filters import between, of_keys
from iceberg.tables import OFFSET, PARTITION
from schemas import EVENT_TIME, CdcTable, EventStream, FeatureView, Repository

_RANGES = 20


@dataclass(frozen=True)
class PartitionAudit:
    """The records of one partition from offset `first` up to `end`, which is not among them."""

    partition: int
    first: int
    end: int
    archived: int
    """Events that came in, each counted once."""

    dead: int
    heartbeats: int
    twice: int
    """Events that stand in the archive more than once, or there and among the dead letters."""

    missing: int
    """Records that are nowhere, though later ones of the partition are."""

    pending: int
    """The newest records, which no checkpoint has committed yet."""

    where: list[str] = field(default_factory=list)
    """The first ranges of offsets that are missing."""

    @property
    def produced(self) -> int:
        """How many records there are."""
        return self.end - self.first


@dataclass(frozen=True)
class TopicAudit:
    """A topic, accounted for."""

    topic: str
    partitions: list[PartitionAudit]
    late: dict[str, int]
    """Rows that came in and were late, by view; over the whole log."""

    rows: dict[str, int]
    """Of a captured table: the rows of each view."""

    note: str = ""
    lost: dict[str, int] = field(default_factory=dict)
    """Late rows that Kafka dropped, since their job was away for longer than it may be, by view."""

    @property
    def balanced(self) -> bool:
        """Whether every record is accounted for, once."""
        apart = sum(p.missing + p.twice + p.pending for p in self.partitions)
        came = sum(p.produced - p.dead - p.heartbeats for p in self.partitions)
        whole = not (apart or self.lost or self.note)
        return whole and all(rows == came for rows in self.rows.values())

    def document(self) -> dict[str, object]:
        """As JSON."""
        totals = {
            name: sum(getattr(p, name) for p in self.partitions)
            for name in (
                *("produced", "archived", "dead", "heartbeats"),
                *("twice", "missing", "pending"),
            )
        }
        came = totals["produced"] - totals["dead"] - totals["heartbeats"]
        return {
            "topic": self.topic,
            "balanced": self.balanced,
            **totals,
            "in": {view: came - late for view, late in self.late.items()} | self.rows,
            "late": self.late,
            "lost": self.lost,
            "partitions": [asdict(p) for p in self.partitions],
            "note": self.note,
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
    ) -> list[TopicAudit]:
        """Every topic, waiting up to `wait` seconds until nothing is pending.

        `start` and `end` are times of records, milliseconds since 1970 UTC: from the first record
        as new as `start` up to the first as new as `end`. None is the log's beginning and end.
        """
        deadline = time.monotonic() + wait
        wanted = list(sources)
        found = [self._topic(source, start, end) for source in wanted]
        while not all(one.balanced for one in found) and time.monotonic() < deadline:
            time.sleep(1)
            found = [
                one if one.balanced else self._topic(source, start, end)
                for source, one in zip(wanted, found, strict=True)
            ]
        return found

    def _topic(
        self, source: EventStream | CdcTable, start: int | None, end: int | None
    ) -> TopicAudit:
        topic = source_topic(source, self._repository.name)
        bounds = self._bounds(topic, start, end)
        letters = DeadLetters(self._access, [topic]).read(topic)
        dead: dict[int, set[int]] = {partition: set() for partition in bounds}
        for letter in letters:
            first, last = bounds[letter.partition]
            if first <= letter.offset < last:
                dead[letter.partition].add(letter.offset)
        views = [v for v in self._repository.views if source in (v.source, v.stream)]
        if isinstance(source, CdcTable):
            whole = start is None and end is None
            rows = {v.name: self._rows(v.name) for v in views} if whole else {}
            parts = [
                PartitionAudit(
                    p, first, last, last - first - len(dead[p]), len(dead[p]), 0, 0, 0, 0
                )
                for p, (first, last) in bounds.items()
            ]
            note = "" if whole else "a captured table is audited over the whole log only"
            return TopicAudit(topic, parts, {}, rows, note)
        try:
            archived = self._archived(source, bounds)
        except NoSuchTableError:
            return TopicAudit(topic, [], {}, {}, f"no table {ARCHIVE}.{source.name}")
        late = Counter(late_counts(self._access, source))
        beats = self._heartbeats(topic, bounds) if source.heartbeat else {}
        return TopicAudit(
            topic,
            [
                _account(p, first, last, archived[p], dead[p], beats.get(p, set()))
                for p, (first, last) in bounds.items()
            ],
            {view.name: late[view.name] for view in views},
            {},
            lost=self._lost(source, views),
        )

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

    def _archived(
        self, stream: EventStream, bounds: dict[int, tuple[int, int]]
    ) -> dict[int, np.ndarray]:
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

    def _heartbeats(self, topic: str, bounds: dict[int, tuple[int, int]]) -> dict[int, set[int]]:
        """Their offsets by partition: the one kind of record that leaves no trace."""
        found: dict[int, set[int]] = {partition: set() for partition in bounds}
        starts = {partition: first for partition, (first, _) in bounds.items()}
        for message in self._log.messages(topic, starts):
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            if is_heartbeat(message.value()) and offset < bounds[partition][1]:
                found[partition].add(offset)
        return found

    def _rows(self, view: str) -> int:
        table = self._catalog.load_table(f"{NAMESPACE}.{view}")
        return sum(task.file.record_count for task in table.scan().plan_files())

    def _bounds(self, topic: str, start: int | None, end: int | None) -> dict[int, tuple[int, int]]:
        found = self._log.bounds(topic)
        firsts = {} if start is None else self._log.at(topic, start)
        ends = {} if end is None else self._log.at(topic, end)
        return {
            p: (first := firsts.get(p, low), max(first, ends.get(p, high)))
            for p, (low, high) in found.items()
        }


def _account(
    partition: int,
    first: int,
    end: int,
    archived: np.ndarray,
    dead: set[int],
    heartbeats: set[int],
) -> PartitionAudit:
    """Each offset of [first, end) is archived once, or dead, or a heartbeat."""
    times = np.zeros(end - first, np.int32)
    np.add.at(times, archived - first, 1)
    came = int((times > 0).sum())
    times[np.fromiter(dead, np.int64, len(dead)) - first] += 1
    times[np.fromiter(heartbeats, np.int64, len(heartbeats)) - first] += 1
    known = np.flatnonzero(times)
    reached = int(known[-1]) + 1 if len(known) else 0
    gaps = np.flatnonzero(times[:reached] == 0)
    starts = gaps[np.flatnonzero(np.diff(gaps, prepend=-2) > 1)]
    ends = gaps[np.flatnonzero(np.diff(gaps, append=end + 2) > 1)]
    return PartitionAudit(
        partition,
        first,
        end,
        came,
        len(dead),
        len(heartbeats),
        int((times > 1).sum()),
        len(gaps),
        end - first - reached,
        [f"{first + a} to {first + b}" for a, b in zip(starts[:_RANGES], ends, strict=False)],
    )
