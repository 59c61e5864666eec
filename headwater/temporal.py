"""What a temporal join should give, in plain Python: independent of the jobs.

The demo and the tests hold the platform against it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from headwater.recompute import Event, Scalar
from schemas import EVENT_TIME, CdcTable, EventStream, JoinedStream, TemporalJoin


@dataclass(frozen=True)
class Version:
    """A row, true since an instant (milliseconds since 1970 UTC); or that there is none."""

    since: int
    row: Event
    """Of a deletion at least the key."""

    deleted: bool = False


def versions(source: CdcTable | EventStream, rows: Iterable[Event]) -> list[Version]:
    """Recorded rows or events as versions, in the same order."""
    time = source.updated_at if isinstance(source, CdcTable) else EVENT_TIME
    return [Version(_whole(row[time]), row) for row in rows]


def enrich(
    joined: JoinedStream, events: Iterable[Event], known: Mapping[str, Sequence[Version]]
) -> list[Event]:
    """The events with the columns of every join; `known` holds versions in the order of the log."""
    result = list(events)
    for join in joined.joins:
        by_key: dict[Scalar, list[Version]] = defaultdict(list)
        for version in known[join.source.name]:
            by_key[version.row[join.matched]].append(version)
        for of_key in by_key.values():
            of_key.sort(key=lambda version: version.since)  # stable: ties stay in their order
        result = [{**event, **_values(join, event, by_key)} for event in result]
    return result


def _values(
    join: TemporalJoin, event: Event, by_key: Mapping[Scalar, Sequence[Version]]
) -> dict[str, Scalar]:
    row: Event = {}
    time, key = _whole(event[EVENT_TIME]), event.get(join.on)
    true = () if key is None else by_key.get(key, ())
    true = true[: bisect_right(true, time, key=lambda version: version.since)]
    if true and (join.within is None or time - true[-1].since <= join.within.seconds * 1000):
        since = true[-1].since
        ties = list(takewhile(lambda version: version.since == since, reversed(true)))
        newest = ties[0]
        if isinstance(join.source, EventStream):
            newest = max(ties, key=lambda version: _content(join, version.row))
        row = {} if newest.deleted else newest.row
    return {join.prefix + name: row.get(name) for name in join.columns}


def _content(join: TemporalJoin, row: Event) -> list[tuple[bool, Scalar, float]]:
    """Column by column, null first; a negative zero before the other."""
    values = [row.get(name) for name in join.columns]
    return [
        (v is not None, 0 if v is None else v, math.copysign(1, v) if isinstance(v, float) else 0)
        for v in values
    ]


def _whole(value: Scalar) -> int:
    assert isinstance(value, int)
    return value
