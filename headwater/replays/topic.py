"""Where a span of event time lies in a topic of Kafka."""

from __future__ import annotations

import time

import msgspec
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from connectors.topics import KafkaUnavailable
from flink_jobs.replay import Offsets
from schemas import EventStream

_KAFKA_SECONDS = 10
_SAMPLE = 200
_NEAR = 1024
"""Records; rather than to look more closely for where a span ends, so many more are read."""


class _Timed(msgspec.Struct):
    """What every event of a stream has."""

    event_time: int


CONSUMER: dict[str, str | int | bool] = {
    "group.id": "headwater-plan",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    # Little is read from each place; and it is not waited for what was read before to be taken.
    "queued.min.messages": 1,
    "fetch.queue.backoff.ms": 1,
    # Behind the last record Kafka answers nothing, and for nothing it waits.
    "fetch.wait.max.ms": 10,
    "log_level": 0,
}
"""Of a consumer that looks into topics here and there."""


class Topic:
    """One topic as Kafka has it, by a consumer that was made with `CONSUMER`."""

    def __init__(self, consumer: Consumer, name: str) -> None:
        self._consumer = consumer
        self._name = name
        metadata = consumer.list_topics(name, timeout=_KAFKA_SECONDS).topics[name]
        if metadata.error is not None:
            raise KafkaUnavailable(f"Kafka: {name}: {metadata.error.str()}")
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
            [TopicPartition(self._name, p, milliseconds) for p in self.bounds],
            timeout=_KAFKA_SECONDS,
        )
        return {
            one.partition: self.ends[one.partition]
            if one.offset < 0 or one.offset == OFFSET_END
            else one.offset
            for one in found
        }

    def past(self, milliseconds: int, stream: EventStream) -> dict[int, int]:
        """An offset from which on events are as new or newer, but for disorder, by partition.

        The first one, or where records have other timestamps a thousand after it at the most.

        A record's timestamp is its event time where its producer says so. Others have the time at
        which they were sent, which may be long after: Kafka's answer is where to look from, and
        the events themselves tell how much further it is.
        """
        return {
            partition: self._past(partition, first, milliseconds, stream)
            for partition, first in self.at(milliseconds).items()
        }

    def _past(self, partition: int, first: int, milliseconds: int, stream: EventStream) -> int:
        """By steps of twice the length, and then by halves."""
        older, newer, step = first - 1, first, _NEAR
        while not self._is_past(partition, newer, milliseconds, stream):
            older, newer, step = newer, newer + step, step * 2
        while newer - older > _NEAR:
            middle = (older + newer) // 2
            if self._is_past(partition, middle, milliseconds, stream):
                newer = middle
            else:
                older = middle
        return min(newer, self.ends[partition])

    def _is_past(self, partition: int, offset: int, milliseconds: int, stream: EventStream) -> bool:
        """Whether the first event from an offset on is as new, or none is left."""
        end = self.ends[partition]
        if offset >= end:
            return True
        limit = (time.time() + stream.ahead.seconds) * 1000  # beyond it is a dead letter
        self._consumer.assign([TopicPartition(self._name, partition, offset)])
        try:
            while (message := self._consumer.poll(_KAFKA_SECONDS)) is not None:
                if error := message.error():
                    if error.code() == KafkaError._PARTITION_EOF:
                        return True
                    raise KafkaException(error)
                place = message.offset()
                if place is None or place >= end:
                    return True
                event_time = _event_time(message.value())
                if event_time is not None and event_time <= limit:
                    return event_time >= milliseconds
            raise KafkaUnavailable(f"Kafka: {self._name}: no answer in {_KAFKA_SECONDS} s")
        finally:
            self._consumer.unassign()

    def record_bytes(self, offsets: Offsets) -> float:
        """The mean size of a few hundred records among those offsets."""
        there = [(p, first) for p, (first, end) in offsets.items() if end > first]
        if not there:
            return 0.0
        self._consumer.assign([TopicPartition(self._name, p, first) for p, first in there])
        records = self._consumer.consume(_SAMPLE, timeout=2)
        self._consumer.unassign()
        sizes = [len(one) for one in records if one.error() is None]
        return sum(sizes) / len(sizes) if sizes else 0.0


def _event_time(record: bytes | None) -> int | None:
    """Of a record; None if it is no event."""
    try:
        return msgspec.json.decode(record or b"", type=_Timed).event_time
    except msgspec.DecodeError:
        return None
