"""The recorded flights and their weather, read once for all tests."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

from feature_repo.flights.history import history
from feature_repo.flights.repository import repository
from schemas import EVENT_TIME

STREAMS = {stream.name: stream for stream in repository.streams}
DAY = 86_400_000
FIRST = 15_706 * DAY
"""The first of January 2013."""


def of_days(since, start, end):
    """The events of those days, counted from `since` in milliseconds since 1970, by stream."""
    return {stream: of_stream(name, since, start, end) for name, stream in STREAMS.items()}


def of_stream(name, since, start, end):
    """The same of one stream alone."""
    events, times = _year(name)
    first, last = (bisect_left(times, since + day * DAY) for day in (start, end))
    return events[first:last]


@cache
def _year(name):
    events = history.streams[name]()
    return events, [event[EVENT_TIME] for event in events]
