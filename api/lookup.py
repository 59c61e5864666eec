"""Looks up features: one request, one round trip, each hash once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from operator import itemgetter
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from api.auth import Principal
from api.errors import RequestError
from api.messages import MISSING, FeatureValue, Status
from api.plan import BAD_ROW, Group, Key, Run, Selection, Slot
from api.serving import Serving
from api.store import OnlineStore
from api.switch import Switch
from api.telemetry import Trace, link
from api.texts import Reply
from api.work import Work
from connectors.redis_codec import CodecError, Value, count_older, decode_event_time
from observability.metrics import ApiMetrics

MAX_ENTITIES = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNREADABLE = b"\xff"
_HASH = {list}
_lines = msgspec.json.Encoder().encode_lines

if TYPE_CHECKING:
    from api.feature_log import FeatureLog

Clock = Callable[[], float]  # seconds since 1970 UTC
Bytes = tuple[bytes | None, ...]
Read = tuple[list[Any], dict[Any, None]]
"""What a group's `key_of` gave of each row, and the same, each once."""


class Part:
    """What one group's hashes hold, one place for each different entity."""

    def __init__(
        self, group: Group, keys: Sequence[Any], entities: Collection[Any], replies: Sequence[Any]
    ) -> None:
        self.group = group
        self.keys = keys
        """What the group's `key_of` gave of each row."""

        self.entities = entities
        """The same, each once."""

        self.replies = _hashes(replies, group.fields)

    @cached_property
    def by_field(self) -> list[Bytes]:
        """The same, field by field."""
        return list(zip(*self.replies, strict=True))

    @cached_property
    def _spread(self) -> Callable[[Any], Any]:
        places = dict(zip(self.entities, range(len(self.entities)), strict=True))
        return itemgetter(*map(places.__getitem__, self.keys))

    def rows(self, values: Sequence[Any]) -> Sequence[Any]:
        """Values of each different entity as values of each row."""
        return values if len(self.keys) == len(self.entities) else self._spread(values)


class Found:
    """What was found for the rows of one request, still as Redis has it."""

    __slots__ = ("_metrics", "bad", "count", "now", "parts", "replaying", "selection")

    def __init__(
        self,
        selection: Selection,
        count: int,
        now: float,
        parts: list[Part],
        metrics: ApiMetrics,
        replaying: frozenset[str] = frozenset(),
    ) -> None:
        self._metrics = metrics
        self.replaying = replaying
        """The views whose values were being switched."""

        self.selection = selection
        self.count = count
        self.now = now
        self.parts = parts
        self.bad: dict[int, list[int]] = {}
        """Places that hold no value of their column's type, by the column's place."""

    def columns(self) -> list[Sequence[Value]]:
        """The values of each feature, in the order of the request; None for what is not there."""
        if not self.count:
            return [() for _ in self.selection.names]
        columns: list[Any] = [None] * len(self.selection.names)
        bad: list[int] = []
        for part in self.parts:
            by_field = part.by_field
            for slot in part.group.slots:
                values = slot.decode(by_field[slot.value_at], bad)
                columns[slot.at] = part.rows(values)
                if bad:
                    self.bad[slot.at] = bad
                    self._metrics.unreadable.labels(slot.column.view).inc(len(bad))
                    bad = []
        return columns

    def rows_json(self) -> bytes:
        """The rows as a JSON array of arrays.

        The values of an entity are made text once, however many rows it is in, and the rows are
        put together from texts.
        """
        if not self.count:
            return b"[]"
        pieces = []
        for run in self.selection.runs:
            part = self.parts[run.group]
            texts = run.texts.of(part.entities, part.replies, partial(self._texts, run))
            pieces.append(part.rows(texts))
        rows = pieces[0] if len(pieces) == 1 else map(b",".join, zip(*pieces, strict=True))
        return b"[[%b]]" % b"],[".join(rows)

    def _texts(self, run: Run, replies: Sequence[Reply]) -> tuple[list[bytes], set[int]]:
        """The values of a run's columns as JSON, and the places with a value that is none."""
        by_field: list[Bytes] = list(zip(*replies, strict=True))
        columns = []
        unreadable: set[int] = set()
        bad: list[int] = []
        for slot in run.slots:
            columns.append(slot.decode(by_field[slot.value_at], bad))
            if bad:
                self._metrics.unreadable.labels(slot.column.view).inc(len(bad))
                unreadable.update(bad)
                bad = []
        # A line for each entity; JSON's strings have no line breaks of their own.
        return _lines(list(zip(*columns, strict=True)))[1:-2].split(b"]\n["), unreadable

    def with_metadata(self) -> list[list[FeatureValue]]:
        """The same columns, each value with its event time, age and status."""
        columns = self.columns()
        if not self.count:
            return [[] for _ in columns]
        result: list[Any] = [None] * len(columns)
        for part in self.parts:
            times = {
                v.time_at: list(map(event_time, part.by_field[v.time_at])) for v in part.group.views
            }
            for slot in part.group.slots:
                result[slot.at] = self._described(part, slot, columns[slot.at], times[slot.time_at])
        return result

    def _described(
        self, part: Part, slot: Slot, values: Sequence[Value], found: list[int | None]
    ) -> list[FeatureValue]:
        """Each row's value; `found` are the event times of each entity, in milliseconds."""
        raw = part.by_field[slot.value_at]
        bad: set[int] = set(self.bad.get(slot.at, ()))
        if None in found:
            stored = part.by_field[slot.time_at]
            bad.update(
                at for at, time in enumerate(found) if time is None and stored[at] is not None
            )
        times: Sequence[int | None] = part.rows(found)
        flags: Sequence[int] = [
            2 if place in bad else data is not None for place, data in enumerate(raw)
        ]
        flags = part.rows(flags)
        ttl, now = slot.column.ttl_seconds, self.now
        replaying = slot.column.view in self.replaying
        result = []
        for value, time, flag in zip(values, times, flags, strict=True):
            if flag == 2:
                result.append(_UNREADABLE_VALUE)
            elif not flag or time is None:
                result.append(MISSING)
            else:
                age = round(now - time / 1000, 3)
                status: Status = "stale" if age > ttl else "present"
                if replaying:
                    status = "replaying"
                result.append(
                    FeatureValue(value, _EPOCH + timedelta(milliseconds=time), age, status)
                )
        return result


_UNREADABLE_VALUE = FeatureValue(None, None, None, "unreadable")


class FeatureLookup:
    """Answers lookups over what is served."""

    def __init__(
        self,
        serving: Serving,
        store: OnlineStore,
        switch: Switch,
        clock: Clock,
        metrics: ApiMetrics,
        log: FeatureLog,
    ) -> None:
        self._serving = serving
        self._store = store
        self._switch = switch
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._work = Work()

    def stored(
        self, service: str | None, features: Sequence[str] | None, principal: Principal
    ) -> Selection:
        """A selection of stored features alone; RequestError if one is computed on demand."""
        selection = self.selection(service, features, principal)
        if selection.computation is not None:
            name = selection.computation.first
            raise RequestError("$", "computed on demand, ask POST /v1/features for it", name)
        return selection

    def selection(
        self, service: str | None, features: Sequence[str] | None, principal: Principal
    ) -> Selection:
        """The columns of a service or of a list; RequestError unless just one is asked for.

        Forbidden if `principal` may not read all of them.
        """
        if service is not None and features is None:
            return self._serving.plan.service(service, principal)
        if features and service is None:
            return self._serving.plan.features(features, principal)
        raise RequestError(
            "$",
            "needs one of service and features",
            {"service": service, "features": features},
            ("service", "features"),
        )

    async def find(
        self, selection: Selection, rows: Sequence[Mapping[str, Key]], trace: Trace
    ) -> Found:
        """What is known of each row; RequestError or StoreUnavailable if it cannot be told."""
        traced = trace.span is not None
        if traced:
            selection = selection.traced
        _check_count("$.entities", len(rows))
        wanted = len(selection.keys)
        commands: list[bytes] = []
        count = fields = 0
        reads: list[Read] = []
        try:
            for row in rows:
                if len(row) != wanted:
                    raise KeyError
            for group in selection.groups:
                keys = list(map(group.key_of, rows))
                different = dict.fromkeys(keys)
                commands.append(group.commands(different))
                count += len(different)
                fields += len(different) * group.fields
                reads.append((keys, different))
        except BAD_ROW:
            selection.check(rows)
            raise
        self._work.begin(fields)
        try:
            quiet, replies = await self._read(selection, commands, count, reads, traced)
        finally:
            self._work.end(fields)
        parts = []
        at = 0
        for group, (keys, entities) in zip(selection.groups, reads, strict=True):
            end = at + len(entities)
            parts.append(Part(group, keys, entities, replies[at:end]))
            at = end
        replaying = frozenset[str]() if quiet else self._switch.views
        found = Found(selection, len(rows), self._clock(), parts, self._metrics, replaying)
        if trace.span is not None and rows:
            link(trace.span, _traces(parts))
        # When this task waits next, and so after the answer has left.
        asyncio.get_running_loop().call_soon(self._note, found, rows, trace.trace_id)
        return found

    async def _read(
        self,
        selection: Selection,
        commands: Sequence[bytes],
        count: int,
        reads: Sequence[Read],
        traced: bool,
    ) -> tuple[bool, list[Any]]:
        """Whether nothing was being switched, and the replies to the `count` commands."""
        quiet_until = self._switch.quiet_until
        if quiet_until is not None:
            replies = await self._store.read(commands, count, traced)
            # Where the connection broke under the question it has been asked again, maybe too late.
            if monotonic() < quiet_until:
                return True, replies
        keys = [
            group.redis_keys(entities)
            for group, (_, entities) in zip(selection.groups, reads, strict=True)
        ]
        return False, await self._switch.read(selection.groups, keys, traced)

    def _note(self, found: Found, rows: Sequence[Mapping[str, Key]], trace_id: str) -> None:
        self._count(found)
        self._log.note(found, rows, trace_id)

    def _count(self, found: Found) -> None:
        if not found.count:
            return
        now = found.now
        for part in found.parts:
            for view in part.group.views:
                times = [reply[view.time_at] for reply in part.replies]
                self._metrics.served(
                    view.view,
                    view.columns,
                    len(times),
                    times.count(None),
                    count_older(times, round((now - view.ttl_seconds) * 1000)),
                )
                if (first := times[0]) is not None and (time := event_time(first)) is not None:
                    self._metrics.age(view.view, now - time / 1000)


def rows_of(columns: Mapping[str, Sequence[Key]], path: str) -> list[dict[str, Key]]:
    """The rows of columns of keys; RequestError at `path` if they differ in length, or are too
    many."""
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise RequestError(path, "needs as many values of each key", sizes)
    _check_count(path, max(sizes.values(), default=0))
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _check_count(path: str, count: int) -> None:
    if count > MAX_ENTITIES:
        raise RequestError(path, f"at most {MAX_ENTITIES} entities", count)


def _traces(parts: Iterable[Part]) -> Iterator[tuple[str, bytes]]:
    """The views that have a sampled row of an entity, each with what is stored of its trace."""
    for part in parts:
        for view in part.group.views:
            if view.trace_at is not None:
                for data in part.by_field[view.trace_at]:
                    if data is not None:
                        yield view.view, data


def _hashes(replies: Sequence[Any], fields: int) -> Sequence[Reply]:
    if set(map(type, replies)) <= _HASH:
        return replies
    # A key that holds something else than a hash.
    return [reply if type(reply) is list else [_UNREADABLE] * fields for reply in replies]


def event_time(data: bytes | None) -> int | None:
    """The event time in a timestamp field, in milliseconds; None if there is none to read."""
    if data is None:
        return None
    try:
        return decode_event_time(data)
    except CodecError:
        return None


def transposed(columns: Iterable[Sequence[Any]], count: int) -> list[tuple[Any, ...]]:
    """The rows of columns; `count` of them even where there are no columns."""
    return list(zip(*columns, strict=True)) or [() for _ in range(count)]
