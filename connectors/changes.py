"""Reads the changes of captured tables as Debezium writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from schemas import CdcTable

_FRAME = 5
"""Bytes that a producer with a schema registry puts before a record, of which the first is zero."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Change:
    """A change of one row; times are milliseconds since 1970 UTC."""

    key: str | int
    since: int
    """The event time: since when it is true; of a deletion, when that was committed."""

    committed: int


def unframed(record: bytes | None) -> bytes:
    """A record's JSON, without what a schema registry has put before it; empty if it has none."""
    payload = record or b""
    return payload[_FRAME:] if payload[:1] == b"\0" else payload


def change_of(table: CdcTable, record: bytes | None) -> Change | None:
    """What a record of a captured table's topic says; None of one that says nothing of the kind."""
    try:
        change = json.loads(unframed(record))
        committed = change["source"]["ts_ms"]
        if change["op"] == "d":
            return Change(change["before"][table.primary_key], committed, committed)
        row = change["after"]
        since = _milliseconds(row[table.updated_at])
        return Change(row[table.primary_key], since, committed)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _milliseconds(time: int | str) -> int:
    """Debezium sends a timestamp with time zone as text."""
    if isinstance(time, int):
        return time
    return (datetime.fromisoformat(time) - _EPOCH) // timedelta(milliseconds=1)
