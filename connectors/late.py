"""Late rows: what came too late to count in a view, on `<topic>.late`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from connectors.access import KafkaAccess
from connectors.log import Log
from schemas import EventStream, FeatureView, Type
from schemas.topics import late_topic


@dataclass(frozen=True)
class LateRow:
    """A row that a view did not count."""

    view: str
    entity: dict[str, str]
    event_time: int
    """Milliseconds since 1970 UTC."""

    def key(self, view: FeatureView) -> tuple[str | int, ...]:
        """The entity's key, as the view has it."""
        return tuple(
            int(self.entity[one.key]) if one.type is Type.INT64 else self.entity[one.key]
            for one in view.entities
        )


class _Record(msgspec.Struct):
    view: str
    entity: dict[str, str]
    event_time: datetime


_decode = msgspec.json.Decoder(_Record).decode


def late_rows(access: KafkaAccess, stream: EventStream) -> Iterator[LateRow]:
    """All late rows of a stream; one event may be late for several views."""
    for message in Log(access).messages(late_topic(stream)):
        yield _late(message.value())


def late_counts(access: KafkaAccess, stream: EventStream) -> dict[str, int]:
    """How many late rows each view has had."""
    return dict(Counter(row.view for row in late_rows(access, stream)))


def aborted_rows(access: KafkaAccess, stream: EventStream) -> list[LateRow]:
    """Rows of transactions that Kafka has aborted and that no later one has brought again.

    A job that fails leaves such rows and brings each again, unless it is not late any more. Of
    rows that say the same it is one.
    """
    topic = late_topic(stream)
    committed, came = set(), set()
    known = Log(access)
    # Of what lies behind the first open transaction nothing is decided.
    ends = known.ends(topic)
    for message in known.messages(topic):
        committed.add((message.partition(), message.offset()))
        came.add(message.value())
    found: dict[bytes | None, LateRow] = {}
    for message in Log(access, uncommitted=True).messages(topic):
        partition, offset, value = message.partition(), message.offset(), message.value()
        assert partition is not None and offset is not None
        decided = offset < ends[partition]
        if decided and (partition, offset) not in committed and value not in came:
            found[value] = _late(value)
    return list(found.values())


def _late(value: bytes | None) -> LateRow:
    row = _decode(value or b"")
    return LateRow(row.view, row.entity, round(row.event_time.timestamp() * 1000))
