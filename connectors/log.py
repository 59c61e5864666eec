"""Reads topics from a known place to their present end, for commands that look into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.access import KafkaAccess
from connectors.topics import KafkaUnavailable

_SECONDS = 10
_LARGEST = 4 << 20


class Log:
    """The topics of the Kafka at `access`; records of transactions count once committed.

    Unless those that are not are asked for as well.
    """

    def __init__(self, access: KafkaAccess, uncommitted: bool = False) -> None:
        self._access = access
        self._isolation = "read_uncommitted" if uncommitted else "read_committed"

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """The first offset, and one more than the last, of each partition."""
        with closing(self._consumer()) as consumer:
            return self._bounds(consumer, topic)

    def ends(self, topic: str) -> dict[int, int]:
        """One more than the last offset of each partition."""
        return {partition: end for partition, (_, end) in self.bounds(topic).items()}

    def at(self, topic: str, milliseconds: int) -> dict[int, int]:
        """The offset of the first record as new as a time, or the end, of each partition."""
        with closing(self._consumer()) as consumer:
            bounds = self._bounds(consumer, topic)
            wanted = [TopicPartition(topic, p, max(milliseconds, 0)) for p in bounds]
            try:
                found = consumer.offsets_for_times(wanted, timeout=_SECONDS)
            except KafkaException as error:
                raise self._unavailable(topic, str(error)) from error
            return {
                place.partition: place.offset if place.offset >= 0 else bounds[place.partition][1]
                for place in found
            }

    def messages(
        self,
        topic: str,
        starts: Mapping[int, int] | None = None,
        ends: Mapping[int, int] | None = None,
    ) -> Iterator[Message]:
        """All records of a topic from `starts`, or its beginning, up to its present end.

        Or up to `ends`, of those partitions alone.
        """
        with closing(self._consumer()) as consumer:
            left = {}
            for partition, (low, end) in self._bounds(consumer, topic).items():
                first = max(low, (starts or {}).get(partition, low))
                end = end if ends is None else min(end, ends.get(partition, low))
                if first < end:
                    left[partition] = (first, end)
            consumer.assign([TopicPartition(topic, p, first) for p, (first, _) in left.items()])
            while left:
                message = consumer.poll(_SECONDS)
                if message is None:
                    raise self._unavailable(topic, "no answer")
                place, offset = message.partition(), message.offset()
                assert place is not None and offset is not None
                if error := message.error():
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise self._unavailable(topic, error.str())
                    left.pop(place, None)
                elif place in left:
                    if offset < left[place][1]:
                        yield message
                    if offset + 1 >= left[place][1]:
                        del left[place]

    def _bounds(self, consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
        try:
            found = consumer.list_topics(topic, timeout=_SECONDS).topics[topic]
            if found.error is not None:
                raise self._unavailable(topic, found.error.str())
            return {
                p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=_SECONDS)
                for p in found.partitions
            }
        except KafkaException as error:
            raise self._unavailable(topic, str(error)) from error

    def _unavailable(self, topic: str, what: str) -> KafkaUnavailable:
        return KafkaUnavailable(f"Kafka at {self._access.bootstrap}: {topic}: {what}")

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                **self._access.librdkafka(),
                "group.id": "headwater-log",
                "enable.auto.commit": False,
                "isolation.level": self._isolation,
                "enable.partition.eof": True,
                "fetch.message.max.bytes": _LARGEST,
                # Behind the last record may be the mark of its transaction, which Kafka answers as
                # nothing, and for nothing it waits: half a second by default.
                "fetch.wait.max.ms": 10,
                "log_level": 0,
            }
        )
