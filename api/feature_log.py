"""The feature log: a sample of the answers goes to Kafka, where the archive takes it from.

Nothing waits for it: of a large answer a part is noted at once and the rest between what else there
is to do. What the log has no room for, or Kafka does not take, is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from api.lookup import Found, Part, event_time
from api.plan import Key
from connectors.access import KafkaAccess
from connectors.redis_codec import Value
from observability.metrics import ApiMetrics
from schemas import EVENT_TIME
from schemas.served import served_stream

_log = logging.getLogger(__name__)

_QUEUED = 20_000
_AT_ONCE = 50
"""Events; a lookup that came meanwhile waits for about half a millisecond."""

_POLL_SECONDS = 0.25
_FLUSH_SECONDS = 2.0
_encode = msgspec.json.Encoder(order="sorted").encode
_random = random.Random()


class FeatureLog(Protocol):
    """Where answers are noted down."""

    def note(self, found: Found, rows: Sequence[Mapping[str, Key]], trace_id: str) -> None:
        """Note an answer; never waits, never raises."""

    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """Send what is still to be sent, for two seconds at most."""


class Unlogged:
    """Notes nothing."""

    def note(self, found: Found, rows: Sequence[Mapping[str, Key]], trace_id: str) -> None:
        """Nothing."""

    async def start(self) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Nothing."""


@dataclass
class _Rest:
    """What is left of an answer."""

    of: Iterator[dict[str, Any]]
    events: int
    """At the most."""


class KafkaFeatureLog:
    """Notes the share `share` of the answers, as events of `served_stream`.

    An event holds the stored values of one view for one row of an answer, as they were read.
    """

    def __init__(
        self,
        project: str,
        access: KafkaAccess,
        share: float,
        metrics: ApiMetrics,
        producer: Any = None,
    ) -> None:
        self._topic = served_stream(project).topic
        self._share = share
        self._metrics = metrics
        self._producer = producer or Producer(
            access.librdkafka()
            | {
                "linger.ms": 100,
                "compression.type": "lz4",
                "queue.buffering.max.messages": _QUEUED,
                "message.timeout.ms": 30_000,
                "log_level": 0,
            }
        )
        self._polls: asyncio.Task[None] | None = None
        self._left: deque[_Rest] = deque()
        """Of answers that are noted in part."""

    def note(self, found: Found, rows: Sequence[Mapping[str, Key]], trace_id: str) -> None:
        """Note an answer; never waits, never raises."""
        if not found.count or _random.random() >= self._share:
            return
        events = _events(found, rows, trace_id)
        self._send_some(events)
        left = sum(len(part.entities) * len(part.group.views) for part in found.parts) - _AT_ONCE
        if left <= 0:
            return
        if sum(rest.events for rest in self._left) + left > _QUEUED:
            self._metrics.logged.labels("dropped").inc(left)
            return
        self._left.append(_Rest(events, left))

    def _send_some(self, events: Iterator[dict[str, Any]]) -> int:
        sent = 0
        for event in islice(events, _AT_ONCE):
            self._send(event)
            sent += 1
        return sent

    def _send_left(self) -> None:
        """Some of what is left of the answer that came first."""
        if not self._left:
            return
        rest = self._left[0]
        try:
            sent = self._send_some(rest.of)
        except Exception:  # what is wrong with one answer keeps no other from the log
            _log.exception("the rest of an answer is not noted")
            self._metrics.logged.labels("dropped").inc(rest.events)
            sent = 0
        rest.events -= sent
        if sent < _AT_ONCE:
            self._left.popleft()

    def _send(self, event: dict[str, Any]) -> None:
        try:
            self._producer.produce(
                self._topic,
                _encode(event),
                event["trace_id"].encode(),
                timestamp=event[EVENT_TIME],
                on_delivery=self._delivered,
            )
        except (BufferError, KafkaException):  # the queue is full, or the event is too long
            self._metrics.logged.labels("dropped").inc()

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self._metrics.logged.labels("dropped" if error else "sent").inc()

    async def start(self) -> None:
        """Begin to send what is left, and to hear what became of what was sent."""
        self._polls = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(0 if self._left else _POLL_SECONDS)
            self._send_left()
            self._producer.poll(0)

    async def stop(self) -> None:
        """Send what is still to be sent, for two seconds at most."""
        if self._polls is not None:
            self._polls.cancel()
        while self._left:
            self._send_left()
        left = await asyncio.to_thread(self._producer.flush, _FLUSH_SECONDS)
        if left:
            self._metrics.logged.labels("dropped").inc(left)


def _events(
    found: Found, rows: Sequence[Mapping[str, Key]], trace_id: str
) -> Iterator[dict[str, Any]]:
    """Of each view and entity one, however many rows it is in."""
    about = {EVENT_TIME: round(found.now * 1000), "trace_id": trace_id}
    for part in found.parts:
        row_of = dict(zip(part.keys, rows, strict=True))
        keys = list(part.entities)
        for view in part.group.views:
            for first in range(0, len(keys), _AT_ONCE):
                some = slice(first, first + _AT_ONCE)
                answered = _answered(part, view.view, some)
                times = part.by_field[view.time_at][some]
                for key, time, values in zip(keys[some], times, answered, strict=True):
                    entity = {name: row_of[key][name] for name in part.group.names}
                    yield about | {
                        "view": view.view,
                        "entity": _text(entity),
                        "value_time": event_time(time),
                        "answered": _text(values),
                    }


def _answered(part: Part, view: str, some: slice) -> Iterator[dict[str, Value]]:
    """The values of a view by its features' names, entity by entity.

    What cannot be read is null; whoever was answered has had it counted.
    """
    slots = [slot for slot in part.group.slots if slot.column.view == view]
    names = [slot.column.name.partition(":")[2] for slot in slots]
    columns = [slot.decode(part.by_field[slot.value_at][some], []) for slot in slots]
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _text(document: dict[str, Any]) -> str:
    return _encode(document).decode()
