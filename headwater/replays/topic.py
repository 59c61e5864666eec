"""Where a span of event time lies in a topic of Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from connectors.access import KafkaAccess
from connectors.changes import change_of, unframed
from connectors.heartbeat import heartbeat_time
from connectors.topics import KafkaUnavailable
from flink_jobs.replay import Offsets
from schemas import EVENT_TIME, CdcTable, EventStream, HeadwaterError, Type

_KAFKA_SECONDS = 10
_SAMPLE = 200
_LOOKED_AT = 32
"""Events, for whether all of them are past an instant."""

_NEAR = 1024
"""Records; rather than to look more closely for where a span ends, so many more are read."""

_PYTHON: dict[Type, type] = {
    Type.STRING: str,
    Type.INT64: int,
    Type.FLOAT64: float,
    Type.BOOL: bool,
    Type.TIMESTAMP: int,
}


@dataclass(frozen=True)
class Found:
    """A record, and the event time it has, milliseconds since 1970 UTC."""

    partition: int
    offset: int
    time: int


class NoTopic(HeadwaterError):
    """What is to be read is not there; the text names the topic."""

    exit_code = 1


@contextmanager
def looking(access: KafkaAccess) -> Iterator[Consumer]:
    """A consumer that looks into topics here and there; KafkaException if it cannot be made.

    KafkaUnavailable where Kafka fails while it looks.
    """
    consumer = Consumer(
        {
            **access.librdkafka(),
            "group.id": "headwater-plan",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # What was deleted since its offset was told is not the log's end.
            "auto.offset.reset": "error",
            # Little is read from each place; and it is not waited for what was read before to be
            # taken, nor for Kafka to have more than the last record.
            "queued.min.messages": 1,
            "fetch.queue.backoff.ms": 1,
            "fetch.wait.max.ms": 10,
            "log_level": 0,
        }
    )
    try:
        yield consumer
    except KafkaException as error:
        raise KafkaUnavailable(f"Kafka at {access.bootstrap}: {error}") from error
    finally:
        consumer.close()


class Topic:
    """One topic as Kafka has it, seen by a consumer of `looking`.

    NoTopic if there is none; KafkaUnavailable, or a KafkaException, where Kafka does not tell.
    """

    def __init__(self, consumer: Consumer, name: str) -> None:
        self._consumer = consumer
        self.name = name
        metadata = consumer.list_topics(name, timeout=_KAFKA_SECONDS).topics[name]
        if metadata.error is not None:
            raise NoTopic(f"Kafka: {name}: {metadata.error.str()}")
        self.bounds: Offsets = {}
        for partition in sorted(metadata.partitions):
            low, high = consumer.get_watermark_offsets(
                TopicPartition(name, partition), timeout=_KAFKA_SECONDS
            )
            self.bounds[partition] = (low, high)
        self.ends = {partition: high for partition, (_, high) in self.bounds.items()}

    def at(self, milliseconds: int | None) -> dict[int, int]:
        """The first offset of a record whose timestamp is as new or newer, by partition."""
        if milliseconds is None:
            return {partition: low for partition, (low, _) in self.bounds.items()}
        found = self._consumer.offsets_for_times(
            [TopicPartition(self.name, p, milliseconds) for p in self.bounds],
            timeout=_KAFKA_SECONDS,
        )
        for one in found:
            if one.error is not None:
                raise KafkaException(one.error)
        return {
            one.partition: self.ends[one.partition]
            if one.offset < 0 or one.offset == OFFSET_END
            else one.offset
            for one in found
        }

    def past(self, milliseconds: int, stream: EventStream) -> dict[int, int]:
        """An offset from which on events are as new or newer, but for disorder, by partition.

        The first one, or where records have other timestamps a thousand after it at the most; the
        end where none is that new, or nothing is an event.

        A record's timestamp is its event time where its producer says so. Others have the time at
        which they were sent, which may be long after: Kafka's answer is where to look from, and
        the events themselves tell how much further it is.
        """
        read = _reader(stream)
        return {
            partition: _search(
                first, self.ends[partition], partial(self._look, partition, milliseconds, read)
            )
            for partition, first in self.at(milliseconds).items()
        }

    def first_between(
        self,
        offsets: Offsets,
        span: tuple[int | None, int],
        source: EventStream | CdcTable,
        past: int | None,
        committed: int | None,
    ) -> Found | None:
        """The first record among those offsets of an event time in [start, end), if there is one.

        Milliseconds since 1970 UTC; None is open. What comes after events that are all as new as
        `past` is late and counts no more; nor does a change that was committed after `committed`.
        A heartbeat is no record of its source.
        """
        start, end = span
        read = (
            _event_reader(source)
            if isinstance(source, EventStream)
            else _change_reader(source, committed)
        )
        for partition, (first, stop) in offsets.items():
            if first >= stop:
                continue
            left = _LOOKED_AT
            with closing(self._records(partition, first, stop)) as records:
                for place, record in records:
                    time_ = read(record)
                    if time_ is None:
                        continue
                    if time_ < end and (start is None or start <= time_):
                        return Found(partition, place, time_)
                    if past is not None:
                        left = left - 1 if time_ >= past else _LOOKED_AT
                    if not left:
                        break
        return None

    def _look(
        self,
        partition: int,
        milliseconds: int,
        read: Callable[[bytes | None], int],
        offset: int,
        stop: int,
    ) -> tuple[int, bool]:
        """Where an event from an offset on is older, or the first event if the next ones are not.

        `stop` if there is no event before it. Not the next one alone: it may be of a producer whose
        clock is wrong.
        """
        first, left = stop, _LOOKED_AT
        with closing(self._records(partition, offset, stop)) as records:
            for place, record in records:
                event_time = read(record)
                if event_time < 0:
                    continue
                if event_time < milliseconds:
                    return place, False
                first, left = min(first, place), left - 1
                if not left:
                    break
        return first, True

    def _records(
        self, partition: int, first: int, stop: int
    ) -> Generator[tuple[int, bytes | None], None, None]:
        """The offset and value of each record from one offset up to another, until it is closed."""
        self._consumer.assign([TopicPartition(self.name, partition, first)])
        try:
            while (message := self._next(stop)) is not None:
                place = message.offset()
                assert place is not None
                yield place, message.value()
        finally:
            self._consumer.unassign()

    def _next(self, stop: int) -> Message | None:
        """The next record of what is assigned; None if there is none before an offset."""
        message = self._consumer.poll(_KAFKA_SECONDS)
        if message is None:
            raise KafkaUnavailable(f"Kafka: {self.name}: no answer in {_KAFKA_SECONDS} s")
        if error := message.error():
            if error.code() == KafkaError._PARTITION_EOF:
                return None
            raise KafkaException(error)
        place = message.offset()
        return None if place is None or place >= stop else message

    def record_bytes(self, offsets: Offsets) -> float:
        """The mean size of a few hundred records among those offsets."""
        there = [(p, first) for p, (first, end) in offsets.items() if end > first]
        if not there:
            return 0.0
        self._consumer.assign([TopicPartition(self.name, p, first) for p, first in there])
        records = self._consumer.consume(_SAMPLE, timeout=2)
        self._consumer.unassign()
        sizes = [len(one) for one in records if one.error() is None]
        return sum(sizes) / len(sizes) if sizes else 0.0


def _search(first: int, end: int, look: Callable[[int, int], tuple[int, bool]]) -> int:
    """From where on all is past, by steps of twice the length, and then by halves."""
    older, newer, step = first - 1, end, _NEAR
    offset = first
    while offset < end:
        place, is_past = look(offset, end)
        if place == end and offset == first:
            return end  # nothing says what time it is
        if is_past:
            newer = offset
            break
        older, offset, step = place, max(place + 1, offset + step), step * 2
    while newer - older > _NEAR:
        middle = (older + newer) // 2
        place, is_past = look(middle, newer)
        if is_past:
            newer = middle
        else:
            older = place
    return newer


def _event_reader(stream: EventStream) -> Callable[[bytes | None], int | None]:
    """Tells the time of an event; None of what is none, and of a heartbeat."""
    time_of = _reader(stream)

    def read(record: bytes | None) -> int | None:
        found = -1 if heartbeat_time(record) is not None else time_of(record)
        return None if found < 0 else found

    return read


def _change_reader(table: CdcTable, until: int | None) -> Callable[[bytes | None], int | None]:
    """Tells since when a change of a captured table is true.

    Of a deletion, and of a row without, that is when it was committed. None of what tells no such
    time, or was committed after `until`.
    """

    def read(record: bytes | None) -> int | None:
        change = change_of(table, record)
        if change is None or (until is not None and change.committed > until):
            return None
        return change.since

    return read


def _reader(stream: EventStream) -> Callable[[bytes | None], int]:
    """Tells the time of an event, or a heartbeat, of a stream; -1 of what is none.

    Nearly as the stream's job does, where what is none has no time either.
    """
    # Under names of ours: a column may be called what Python gives another meaning.
    fields: list[tuple[str, Any, Any]] = [("time", int, msgspec.NODEFAULT)]
    names = {"time": EVENT_TIME}
    for number, column in enumerate(stream.columns):
        names[f"c{number}"] = column.name
        known: Any = _PYTHON[column.type]
        fields.append(
            (f"c{number}", known, msgspec.NODEFAULT)
            if column.required
            else (f"c{number}", known | None, None)
        )
    event = msgspec.defstruct("Event", fields, kw_only=True, rename=names)
    decoder = msgspec.json.Decoder(event)
    ahead = stream.ahead.seconds

    def read(record: bytes | None) -> int:
        found = heartbeat_time(record)
        if found is None:
            try:
                decoded: Any = decoder.decode(unframed(record))
            except (msgspec.DecodeError, RecursionError):
                return -1
            found = int(decoded.time)
        return found if found <= (time.time() + ahead) * 1000 else -1

    return read
