"""Late rows: what came too late to count in a view, on `<topic>.late`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from connectors.access import KafkaAccess
from connectors.ddl import late_topic
from connectors.log import Log
from schemas import EventStream


@dataclass(frozen=True)
class LateRow:
    """A row that a view did not count."""

    view: str
    entity: dict[str, str]
    event_time: int
    """Milliseconds since 1970 UTC."""


class _Record(msgspec.Struct):
    view: str
    entity: dict[str, str]
    event_time: datetime


def late_rows(access: KafkaAccess, stream: EventStream) -> Iterator[LateRow]:
    """All late rows of a stream; one event may be late for several views."""
    decode = msgspec.json.Decoder(_Record).decode
    for message in Log(access).messages(late_topic(stream)):
        row = decode(message.value() or b"")
        yield LateRow(row.view, row.entity, round(row.event_time.timestamp() * 1000))


def late_counts(access: KafkaAccess, stream: EventStream) -> dict[str, int]:
    """How many late rows each view has had."""
    return dict(Counter(row.view for row in late_rows(access, stream)))
