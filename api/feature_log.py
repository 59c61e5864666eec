"""The feature log: a sample of the answers goes to Kafka, where the archive takes it from.

Nothing waits for it. What the log has no room for, or Kafka does not take, is dropped and counted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from api.lookup import Found, event_time
from api.plan import Key
from connectors.access import KafkaAccess
from observability.metrics import ApiMetrics
from schemas import EVENT_TIME
from schemas.served import served_stream

_QUEUED = 20_000
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

    def note(self, found: Found, rows: Sequence[Mapping[str, Key]], trace_id: str) -> None:
        """Note an answer; never waits, never raises."""
        if not found.count or _random.random() >= self._share:
            return
        about = {EVENT_TIME: round(found.now * 1000), "trace_id": trace_id}
        columns = found.columns()
        for part in found.parts:
            entities = [_text({name: row[name] for name in part.group.names}) for row in rows]
            # Each entity once, however many rows it is in.
            places = {entity: place for place, entity in enumerate(entities)}
            for view in part.group.views:
                times = part.rows(part.by_field[view.time_at])
                values = {
                    slot.column.name.partition(":")[2]: columns[slot.at]
                    for slot in part.group.slots
                    if slot.column.view == view.view
                }
                for entity, place in places.items():
                    answered = {name: column[place] for name, column in values.items()}
                    self._send(
                        about
                        | {
                            "view": view.view,
                            "entity": entity,
                            "value_time": event_time(times[place]),
                            "answered": _text(answered),
                        }
                    )

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
        """Begin to hear what became of what was sent."""
        self._polls = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            self._producer.poll(0)

    async def stop(self) -> None:
        """Send what is still to be sent, for two seconds at most."""
        if self._polls is not None:
            self._polls.cancel()
        left = await asyncio.to_thread(self._producer.flush, _FLUSH_SECONDS)
        if left:
            self._metrics.logged.labels("dropped").inc(left)


def _text(document: dict[str, Any]) -> str:
    return _encode(document).decode()
