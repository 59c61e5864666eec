"""Holds what was served against what the log of events says it should have been.

The features that a stream's events make are computed again in plain Python, from the archive
and without the rows that were late for their view. Facts, and features of joined streams, are
compared with the row that training reads: the one of that key and event time in Iceberg.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from connectors.access import KafkaAccess
from connectors.late import late_rows
from headwater.recompute import Event, Scalar, matches, recompute, same
from iceberg.catalog import ARCHIVE, NAMESPACE
from iceberg.filters import between, instant, of_keys
from iceberg.reading import batches
from iceberg.tables import AVAILABLE_AT
from schemas import EVENT_TIME, EventStream, FeatureView, HeadwaterError, Repository
from schemas.served import served_stream

Key = tuple[Scalar, ...]
_EXAMPLES = 5


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
    """Not compared: of a view or feature that is no longer declared, or with no row in Iceberg."""

    features: dict[str, FeatureSkew] = field(default_factory=dict)

    @property
    def mismatched(self) -> int:
        """Values that differ, of all features."""
        return sum(one.mismatched for one in self.features.values())


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

        Of each view's different answers `sample` at the most, taken at random. SkewError if none
        was logged.
        """
        answers = self._answers(start, end)
        if not answers:
            raise SkewError(
                "no answer was logged in that time: the API logs the share HEADWATER_FEATURE_LOG"
                " of its answers, and the job of the archive has them in Iceberg after a while"
            )
        known = {view.name: view for view in self._repository.views}
        report: dict[str, ViewSkew] = {}
        for name in sorted(answers):
            found = report[name] = ViewSkew()
            different = answers[name]
            chosen = random.Random(seed).sample(different, min(sample, len(different)))
            if name not in known:
                found.unknown = len(chosen)
                continue
            view = known[name]
            if isinstance(view.source, EventStream):
                self._against_events(view, view.source, chosen, found)
            else:
                self._against_rows(view, chosen, found)
        return report

    def _answers(self, start: int | None, end: int | None) -> dict[str, list[Answered]]:
        stream = served_stream(self._repository.name)
        try:
            table = self._catalog.load_table(f"{ARCHIVE}.{stream.name}")
        except NoSuchTableError:
            raise SkewError(
                f"there is no table {ARCHIVE}.{stream.name}: run `headwater apply`"
            ) from None
        scan = table.scan(selected_fields=("trace_id", "view", "entity", "value_time", "answered"))
        found: dict[str, dict[tuple[Key, int, str], Answered]] = defaultdict(dict)
        keys = {view.name: view.keys for view in self._repository.views}
        for batch in batches(between(scan, start, end)):
            for row in batch.to_pylist():
                if row["value_time"] is None:
                    continue  # there was no value
                entity = json.loads(row["entity"])
                key = tuple(entity[name] for name in keys.get(row["view"], entity))
                at = _milliseconds(row["value_time"])
                found[row["view"]].setdefault(
                    (key, at, row["answered"]),
                    Answered(row["view"], key, at, json.loads(row["answered"]), row["trace_id"]),
                )
        return {view: list(answers.values()) for view, answers in found.items()}

    def _against_events(
        self, view: FeatureView, stream: EventStream, chosen: Sequence[Answered], found: ViewSkew
    ) -> None:
        late = Counter(
            (tuple(row.entity[name] for name in view.keys), row.event_time)
            for row in late_rows(self._kafka, stream)
            if row.view == view.name
        )
        events: dict[Key, list[Event]] = defaultdict(list)
        until = max((one.at for one in chosen), default=0)
        for event in self._events(view, stream, {one.key for one in chosen}, until):
            key = tuple(event[name] for name in view.keys)
            time = event[EVENT_TIME]
            assert isinstance(time, int)
            if late[place := (tuple(map(str, key)), time)]:
                late[place] -= 1
                continue
            events[key].append(event)
        by_name = {feature.name: feature for feature in view.features}
        for one in chosen:
            names = [name for name in one.values if name in by_name]
            if not names:
                found.unknown += 1
                continue
            found.answers += 1
            # Of the whole view: which of two events of one time is the newest is told by all that
            # it reads of them.
            exact = recompute(view, events[one.key], one.at)
            for name in names:
                is_right = matches(by_name[name], one.values[name], exact[name], events[one.key])
                _count(found, view, one, name, exact[name], is_right)

    def _events(
        self, view: FeatureView, stream: EventStream, keys: set[Key], until: int
    ) -> Iterator[Event]:
        """The archived events of those entities, up to an instant."""
        table = self._catalog.load_table(f"{ARCHIVE}.{stream.name}")
        names = (EVENT_TIME, *(column.name for column in stream.columns))
        scan = table.scan(of_keys(view.keys, keys), selected_fields=names)
        scan = scan.filter(f"{EVENT_TIME} <= '{instant(until)}'")
        for batch in batches(scan):
            for row in batch.to_pylist():
                if tuple(row[name] for name in view.keys) in keys:
                    yield {name: _plain(value) for name, value in row.items()}

    def _against_rows(self, view: FeatureView, chosen: Sequence[Answered], found: ViewSkew) -> None:
        keys = {one.key for one in chosen}
        table = self._catalog.load_table(f"{NAMESPACE}.{view.name}")
        newest: dict[tuple[Key, int], dict[str, Any]] = {}
        for batch in batches(table.scan(of_keys(view.keys, keys))):
            for row in batch.to_pylist():
                at = (tuple(row[name] for name in view.keys), _milliseconds(row[EVENT_TIME]))
                if at not in newest or newest[at][AVAILABLE_AT] <= row[AVAILABLE_AT]:
                    newest[at] = row
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
