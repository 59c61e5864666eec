"""Holds what was served against what the log of events says it should have been.

The features that a stream's events make are computed again in plain Python, from the archive
and without the rows that were late for their view. Facts, and features of joined streams, are
compared with the row that training reads: the one of that key and event time in Iceberg.

The archive may be behind what was served of the same events. What it may not have all events of yet
is not compared.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import DataScan

from connectors.access import KafkaAccess
from connectors.heartbeat import is_heartbeat
from connectors.late import late_rows
from connectors.log import Log
from headwater.recompute import Event, Scalar, event_time, matches, recompute, same, window_start
from iceberg.archive import StreamArchive
from iceberg.catalog import ARCHIVE, NAMESPACE
from iceberg.filters import between, instant, of_keys
from iceberg.offline import spilling_database
from iceberg.reading import batches
from iceberg.tables import AVAILABLE_AT
from schemas import EVENT_TIME, EventStream, FeatureView, HeadwaterError, Repository, Type
from schemas.served import served_stream

Key = tuple[Scalar, ...]
_EXAMPLES = 5
_BEGINNING = -62_135_596_800_000
"""Of the calendar, milliseconds since 1970 UTC."""

_MEMORY = "512MB"
_SAMPLE = """
SELECT view, entity, epoch_ms(value_time), answered, min(trace_id)
FROM served WHERE value_time IS NOT NULL
GROUP BY view, entity, value_time, answered
QUALIFY row_number() OVER (
  PARTITION BY view ORDER BY hash(entity, value_time, answered, $seed)) <= $sample
ORDER BY view
"""
_MISSING = """
SELECT view, entity, epoch_ms(max(event_time))
FROM served WHERE value_time IS NULL
GROUP BY view, entity
QUALIFY row_number() OVER (PARTITION BY view ORDER BY hash(entity, $seed)) <= $sample
ORDER BY view
"""
_TYPES = {str: Type.STRING, int: Type.INT64}
"""Of an entity's keys."""

_WRITTEN_MS = 60_000
"""So long after a row came to be, Redis has it in any case."""


class SkewError(HeadwaterError):
    """Nothing can be compared; the text says why and what to do."""

    exit_code = 1


@dataclass(frozen=True)
class Answered:
    """The values of one view and entity as they were answered."""

    view: str
    key: Key
    at: int
    """Event time of the values, milliseconds since 1970 UTC."""

    values: Mapping[str, Scalar]
    trace_id: str


@dataclass(frozen=True)
class Mismatch:
    """A value that was not what it should have been."""

    entity: dict[str, Scalar]
    event_time: str
    served: Scalar
    expected: Scalar
    trace_id: str


@dataclass
class FeatureSkew:
    """How the served values of one feature compare."""

    equal: int = 0
    mismatched: int = 0
    examples: list[Mismatch] = field(default_factory=list)
    """The first few."""


@dataclass
class ViewSkew:
    """How the served values of one view compare."""

    answers: int = 0
    """Compared; of answers of the same values to the same question, one."""

    unknown: int = 0
    """Not compared: of a view, key or feature that is no longer declared, with no row in Iceberg,
    or of events that the archive may not have yet."""

    missing: int = 0
    """Entities that were answered with nothing at all; they are not among `answers`."""

    lost: int = 0
    """Of those: a minute before the last such answer, Iceberg had a row."""

    features: dict[str, FeatureSkew] = field(default_factory=dict)

    @property
    def mismatched(self) -> int:
        """Values that differ, of all features."""
        return sum(one.mismatched for one in self.features.values())

    @property
    def is_blind(self) -> bool:
        """Whether there were answers, and none that could be compared."""
        return bool(self.unknown or self.lost) and not self.answers


class Skew:
    """Compares the feature log with the events."""

    def __init__(self, repository: Repository, catalog: Catalog, kafka: KafkaAccess) -> None:
        self._repository = repository
        self._catalog = catalog
        self._kafka = kafka

    def compare(
        self, start: int | None, end: int | None, sample: int, seed: int = 1
    ) -> dict[str, ViewSkew]:
        """What was served from `start` up to `end` (milliseconds since 1970 UTC, None is open).

        Of each view's different answers `sample` at the most, taken at random, and of its entities
        that were answered with nothing. SkewError if no answer was logged.
        """
        answers, unknown, missing = self._answers(start, end, sample, seed)
        if not answers and not unknown and not missing:
            raise SkewError(
                "no answer was logged in that time: the API logs the share HEADWATER_FEATURE_LOG"
                " of its answers, and the job of the archive has them in Iceberg after a while"
            )
        known = {view.name: view for view in self._repository.views}
        report = {name: ViewSkew(unknown=count) for name, count in unknown.items()}
        for name, chosen in answers.items():
            found = report.setdefault(name, ViewSkew())
            view = known[name]
            if isinstance(view.source, EventStream):
                self._against_events(view, view.source, chosen, found)
            else:
                self._against_rows(view, chosen, found)
        for name, when in missing.items():
            found = report.setdefault(name, ViewSkew())
            found.missing = len(when)
            if name in known:
                keys = ((_key(known[name], entity), at) for entity, at in when.items())
                found.lost = self._lost(known[name], {key: at for key, at in keys if key})
        return report

    def _answers(
        self, start: int | None, end: int | None, sample: int, seed: int
    ) -> tuple[dict[str, list[Answered]], Counter[str], dict[str, dict[str, int]]]:
        """Some of each view's different answers, and of those with nothing the last by entity.

        Between them, how many of the answers there are that no declared view has the key of.
        """
        stream = served_stream(self._repository.name)
        try:
            table = self._catalog.load_table(f"{ARCHIVE}.{stream.name}")
        except NoSuchTableError:
            raise SkewError(
                f"there is no table {ARCHIVE}.{stream.name}: run `headwater apply`"
            ) from None
        columns = (EVENT_TIME, "trace_id", "view", "entity", "value_time", "answered")
        scan = between(table.scan(selected_fields=columns), start, end)
        chosen, nothing = (self._read(scan, asked, seed, sample) for asked in (_SAMPLE, _MISSING))
        views = {view.name: view for view in self._repository.views}
        found: dict[str, list[Answered]] = defaultdict(list)
        unknown: Counter[str] = Counter()
        for view, entity, at, answered, trace_id in chosen:
            key = _key(views[view], entity) if view in views else None
            if key is None:
                unknown[view] += 1
                continue
            found[view].append(Answered(view, key, at, json.loads(answered), trace_id))
        missing: dict[str, dict[str, int]] = defaultdict(dict)
        for view, entity, at in nothing:
            missing[view][entity] = at
        return found, unknown, missing

    @staticmethod
    def _read(scan: DataScan, asked: str, seed: int, sample: int) -> list[tuple[Any, ...]]:
        with spilling_database(_MEMORY) as database:
            database.register("served", batches(scan))
            rows = database.execute(asked, {"seed": seed, "sample": sample}).fetchall()
            database.unregister("served")
        return rows

    def _against_events(
        self, view: FeatureView, stream: EventStream, chosen: Sequence[Answered], found: ViewSkew
    ) -> None:
        until = self._archived(stream)
        found.unknown += sum(one.at > until for one in chosen)
        chosen = [one for one in chosen if one.at <= until]
        if not chosen:
            return
        keys = {one.key for one in chosen}
        written = {tuple(map(str, key)) for key in keys}
        late = Counter(
            (place, row.event_time)
            for row in late_rows(self._kafka, stream)
            if row.view == view.name
            and (place := tuple(row.entity[x] for x in view.keys)) in written
        )
        events: dict[Key, list[Event]] = defaultdict(list)
        since, last = min(_since(view, one.at) for one in chosen), max(one.at for one in chosen)
        for event in self._events(view, stream, keys, since, last):
            key = tuple(event[name] for name in view.keys)
            if late[known := (tuple(map(str, key)), event_time(event))]:
                late[known] -= 1
                continue
            events[key].append(event)
        for of_key in events.values():
            of_key.sort(key=event_time)
        by_name = {feature.name: feature for feature in view.features}
        for one in chosen:
            names = [name for name in one.values if name in by_name]
            if not names:
                found.unknown += 1
                continue
            found.answers += 1
            of_key = events[one.key]
            first = bisect_left(of_key, _since(view, one.at), key=event_time)
            seen = of_key[first : bisect_right(of_key, one.at, key=event_time)]
            # Of the whole view: which of two events of one time is the newest is told by all that
            # it reads of them.
            exact = recompute(view, seen, one.at)
            for name in names:
                is_right = matches(by_name[name], one.values[name], exact[name], seen)
                _count(found, view, one, name, exact[name], is_right)

    def _archived(self, stream: EventStream) -> float:
        """The event time up to which the archive has all events but late ones, in milliseconds.

        Of a partition that it has not all of: its newest event there, less the stream's disorder.
        """
        archive = StreamArchive.open(self._catalog, stream)
        ends = {} if archive is None else {p: kept.end for p, kept in archive.kept().items()}
        newest = {} if archive is None else archive.newest()
        log = Log(self._kafka)
        bounds = log.bounds(stream.topic).items()
        left = {p for p, (low, end) in bounds if ends.get(p, low) < end}
        behind: set[int | None] = set()
        for message in log.messages(stream.topic, ends):
            # Heartbeats are in no archive.
            if not is_heartbeat(message.value()):
                behind.add(message.partition())
            if behind == left:
                break
        disorder = stream.disorder.seconds * 1000
        return min((newest.get(p or 0, _BEGINNING) - disorder for p in behind), default=math.inf)

    def _lost(self, view: FeatureView, missing: Mapping[Key, int]) -> int:
        """How many of those entities had a row a minute before they were answered with nothing."""
        table = self._catalog.load_table(f"{NAMESPACE}.{view.name}")
        scan = table.scan(
            of_keys(view.keys, missing.keys()), selected_fields=(*view.keys, AVAILABLE_AT)
        )
        lost = set()
        for batch in batches(scan):
            for row in batch.to_pylist():
                key = tuple(row[name] for name in view.keys)
                at = missing.get(key)
                if at is not None and _milliseconds(row[AVAILABLE_AT]) < at - _WRITTEN_MS:
                    lost.add(key)
        return len(lost)

    def _events(
        self, view: FeatureView, stream: EventStream, keys: set[Key], since: int, until: int
    ) -> Iterator[Event]:
        """The archived events of those entities, from an instant up to another, both included."""
        table = self._catalog.load_table(f"{ARCHIVE}.{stream.name}")
        names = (EVENT_TIME, *(column.name for column in stream.columns))
        scan = table.scan(of_keys(view.keys, keys), selected_fields=names)
        for batch in batches(between(scan, since, until + 1)):
            for row in batch.to_pylist():
                if tuple(row[name] for name in view.keys) in keys:
                    yield {name: _plain(value) for name, value in row.items()}

    def _against_rows(self, view: FeatureView, chosen: Sequence[Answered], found: ViewSkew) -> None:
        keys = {one.key for one in chosen}
        wanted = {(one.key, one.at) for one in chosen}
        times = [one.at for one in chosen]
        table = self._catalog.load_table(f"{NAMESPACE}.{view.name}")
        scan = between(table.scan(of_keys(view.keys, keys)), min(times), max(times) + 1)
        order = partial(_order, [column.name for column in view.schema])
        newest: dict[tuple[Key, int], dict[str, Any]] = {}
        for batch in batches(scan):
            for row in batch.to_pylist():
                at = (tuple(row[name] for name in view.keys), _milliseconds(row[EVENT_TIME]))
                if at in wanted:
                    newest[at] = max(newest.get(at, row), row, key=order)
        for one in chosen:
            row = newest.get((one.key, one.at), {})
            names = [name for name in one.values if name in row]
            if not names:
                found.unknown += 1
                continue
            found.answers += 1
            for name in names:
                expected = _plain(row[name])
                _count(found, view, one, name, expected, same(one.values[name], expected))


def _key(view: FeatureView, entity: str) -> Key | None:
    """An entity as the log has it; None if the view is declared with another key by now."""
    told = json.loads(entity)
    types = {one.key: one.type for one in view.entities}
    if {name: _TYPES.get(type(value)) for name, value in told.items()} != types:
        return None
    return tuple(told[name] for name in view.keys)


def _order(features: Sequence[str], row: Mapping[str, Any]) -> tuple[object, ...]:
    """Of the rows of one key and event time training reads the one for which this is largest.

    That is a training set of all features; one of some compares the values of those alone.
    """
    values = [_plain(row.get(name)) for name in features]
    # A null is below all values, as in `iceberg.offline`; a NaN, to DuckDB, above all.
    ranks = [(0, 0) if x is None else (1, x) if x == x else (2, 0) for x in values]
    return row[AVAILABLE_AT], ranks


def _since(view: FeatureView, at: int) -> int:
    """No event before it plays a part in the view's values at an instant."""
    windows = [feature.window for feature in view.features]
    return min(_BEGINNING if window is None else window_start(window, at) for window in windows)


def _count(
    found: ViewSkew,
    view: FeatureView,
    one: Answered,
    name: str,
    expected: Scalar,
    is_right: bool,
) -> None:
    feature = found.features.setdefault(name, FeatureSkew())
    if is_right:
        feature.equal += 1
        return
    feature.mismatched += 1
    if len(feature.examples) < _EXAMPLES:
        entity = dict(zip(view.keys, one.key, strict=True))
        feature.examples.append(
            Mismatch(entity, instant(one.at), one.values[name], expected, one.trace_id)
        )


def _plain(value: Any) -> Scalar:
    plain: Scalar = _milliseconds(value) if isinstance(value, datetime) else value
    return plain


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
