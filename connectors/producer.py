"""Sends recorded events to Kafka as they would have come, or faster."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.access import KafkaAccess
from connectors.topics import KafkaUnavailable
from schemas import EVENT_TIME, EventStream
from schemas.event import check_event

Event = Mapping[str, str | int | float | bool | None]
Progress = Callable[[int], None]
"""Called now and then with the number of events sent so far."""


class Sending(Protocol):
    """A sampled event on its way to Kafka."""

    @property
    def headers(self) -> list[tuple[str, str | bytes | None]]:
        """What its record says of its trace."""

    def ended(self, partition: int | None, offset: int | None, error: str | None) -> None:
        """Kafka has it, there; or it was not taken, with the reason."""


Sample = Callable[[str], Sending | None]
"""Asked for each event of a traced stream, by its topic; None of those that are not sampled."""

_EVERY = 2000
_SECONDS = 60
_WAKING = 1000
"""Events among which each partition has its first, if it gets any."""

_NOTICED_SECONDS = 0.5
"""Until a job has read an event, and let the time of its partition count."""


@dataclass(frozen=True)
class Sent:
    """How a run of the producer ended."""

    counts: dict[str, int]
    """Events acknowledged by Kafka, by stream."""

    seconds: float


def between(events: Sequence[Event], start: int | None, end: int | None) -> list[Event]:
    """The events with start <= event time < end, both milliseconds since 1970 UTC or open."""
    return [
        event
        for event in events
        if (start is None or _time(event) >= start) and (end is None or _time(event) < end)
    ]


def record_key(stream: EventStream, event: Event) -> bytes | None:
    """What keys an event's record; None, which is any partition, where it has no such value."""
    value = event.get(stream.partition_by)
    return None if value is None else str(value).encode()


def produce(
    access: KafkaAccess,
    recorded: Mapping[EventStream, Sequence[Event]],
    speed: float | None = None,
    progress: Progress = lambda _: None,
    sample: Sample | None = None,
    wakes: bool = False,
) -> Sent:
    """Send the events of all streams, merged by event time, and wait until Kafka has them.

    `speed` is event time over wall time: 1 as it happened, 60 an hour a minute, None as fast as
    Kafka takes them. With `wakes` that is not before each partition has an event and a job has
    noticed: one that is silent counts as idle, and what it got in a burst would be late by the
    partitions that are read first. `sample` begins the traces of events, of streams that are
    traced. An event that does not fit its stream raises EventError, before which everything up to
    it has been sent.
    KafkaUnavailable if Kafka does not take an event in time.
    """
    failed: list[KafkaError] = []
    producer = Producer(
        {
            **access.librdkafka(),
            "enable.idempotence": True,
            "linger.ms": 5 if speed else 50,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 200_000,
            "message.timeout.ms": 60_000,
            # The same entity to the same partition whichever client produces it.
            "partitioner": "murmur2_random",
            "log_level": 0,
        }
    )

    waking = _Waking(producer, access, recorded) if wakes and not speed else None

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(error)
        elif waking is not None and not waking.is_done:
            waking.reached(message)

    def told(sending: Sending) -> Callable[[KafkaError | None, Message], None]:
        def tell(error: KafkaError | None, message: Message) -> None:
            delivered(error, message)
            sending.ended(
                message.partition(), message.offset(), None if error is None else error.str()
            )

        return tell

    encode = msgspec.json.Encoder().encode
    counts = {stream.name: 0 for stream in recorded}
    began = time.monotonic()
    number = 0
    try:
        for stream, event in _paced(_merged(recorded), speed, producer):
            check_event(stream, event)
            sending = sample(stream.topic) if sample is not None and stream.traced else None
            while True:
                try:
                    producer.produce(
                        stream.topic,
                        encode(event),
                        record_key(stream, event),
                        timestamp=_time(event),
                        on_delivery=delivered if sending is None else told(sending),
                        headers=None if sending is None else sending.headers,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            counts[stream.name] += 1
            number += 1
            if waking is not None and not waking.is_done:
                waking.wait()
            if number % _EVERY == 0:
                producer.poll(0)
                progress(number)
                if failed:
                    break
    finally:
        left = producer.flush(_SECONDS)
    if failed or left:
        reason = failed[0].str() if failed else f"{left} events were not acknowledged"
        raise KafkaUnavailable(f"Kafka at {access.bootstrap}: {reason}") from (
            KafkaException(failed[0]) if failed else None
        )
    progress(number)
    return Sent(counts, time.monotonic() - began)


def _merged(
    recorded: Mapping[EventStream, Sequence[Event]],
) -> Iterator[tuple[EventStream, Event]]:
    def labelled(
        stream: EventStream, events: Iterable[Event]
    ) -> Iterator[tuple[EventStream, Event]]:
        return ((stream, event) for event in events)

    return heapq.merge(
        *(labelled(stream, events) for stream, events in recorded.items()),
        key=lambda pair: _time(pair[1]),
    )


class _Waking:
    """Which partitions have no event yet; those that get one are given time to be noticed."""

    def __init__(
        self, producer: Producer, access: KafkaAccess, streams: Iterable[EventStream]
    ) -> None:
        self._producer = producer
        self._silent: set[tuple[str, int]] = set()
        self._left = _WAKING
        self._woken = False
        try:
            for topic in [stream.topic for stream in streams]:
                told = producer.list_topics(topic, _SECONDS).topics[topic]
                self._silent.update((topic, partition) for partition in told.partitions)
        except KafkaException as error:
            raise KafkaUnavailable(f"Kafka at {access.bootstrap}: {error}") from error

    @property
    def is_done(self) -> bool:
        """Whether each has one, or gets none."""
        return not self._silent or self._left <= 0

    def reached(self, message: Message) -> None:
        """An event is there."""
        where = (message.topic() or "", message.partition() or 0)
        if where in self._silent:
            self._silent.discard(where)
            self._woken = True

    def wait(self) -> None:
        """Until the last event is there, and longer where it is the first of its partition."""
        self._left -= 1
        self._producer.flush(_SECONDS)
        if self._woken:
            self._woken = False
            time.sleep(_NOTICED_SECONDS)


def _paced(
    events: Iterable[tuple[EventStream, Event]], speed: float | None, producer: Producer
) -> Iterator[tuple[EventStream, Event]]:
    if speed is None:
        yield from events
        return
    first, began = None, time.monotonic()
    for stream, event in events:
        first = _time(event) if first is None else first
        due = began + (_time(event) - first) / 1000 / speed
        while (ahead := due - time.monotonic()) > 0:
            producer.poll(min(ahead, 0.2))
        yield stream, event


def _time(event: Event) -> int:
    return int(event[EVENT_TIME] or 0)
