"""Slows a replay down while it would harm serving or the live jobs, and speeds it up again.

It knows two signals: the 99th percentile of lookups over the last moments, from the API's metrics,
and how many records the live jobs have not read yet. It begins slowly and doubles the rate at each
look until one is over its bound for the first time. While one is, the rate is halved at each look,
and raised by a tenth while both are well below: much as TCP does (RFC 5681: slow start, then
congestion avoidance).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import requests
from prometheus_client.parser import text_string_to_metric_families

from observability.queries import DOORS, REQUEST_SECONDS

_SECONDS = 2
_FIRST = 1000.0
"""Records a second, before anything is known of what the machine bears."""


@dataclass(frozen=True)
class Bounds:
    """What a replay must not push serving and live jobs beyond."""

    p99_seconds: float | None = None
    lag_records: int | None = None
    slowest: float = 100.0
    """Records a second it is never held below, so that it comes to an end."""

    @property
    def any(self) -> bool:
        """Whether there is a bound at all."""
        return self.p99_seconds is not None or self.lag_records is not None


@dataclass(frozen=True)
class Seen:
    """What the signals said at one look; None: nothing was to be seen."""

    p99_seconds: float | None
    lag_records: int | None


class Governor:
    """Decides how fast a replay may read."""

    def __init__(self, bounds: Bounds, most: float | None, see: Callable[[], Seen]) -> None:
        self._bounds = bounds
        self._most = most
        self._see = see
        self._rate: float | None = min(_FIRST, most or _FIRST)
        self.slowed = 0
        """How often it has lowered the rate."""

    def look(self, reads: float) -> tuple[float | None, Seen]:
        """The rate from now on, None for no limit; `reads` is what it reads a second just now."""
        seen = self._see()
        load = self._load(seen)
        if load > 1:
            now = min(reads, self._rate) if self._rate is not None else reads
            slower = max(self._bounds.slowest, now / 2)
            self.slowed += self._rate is None or slower < self._rate
            self._rate = slower
        elif load < 0.7 and self._rate is not None and reads > 0:
            faster = self._rate * (1.1 if self.slowed else 2)
            if self._most is not None:
                self._rate = min(self._most, faster)
            else:
                # What it cannot use up any more is no limit.
                self._rate = None if faster > 4 * max(reads, self._bounds.slowest) else faster
        return self._rate, seen

    def _load(self, seen: Seen) -> float:
        """How much of its bound the worse signal uses; over 1 is too much."""
        parts = [0.0]
        if self._bounds.p99_seconds and seen.p99_seconds is not None:
            parts.append(seen.p99_seconds / self._bounds.p99_seconds)
        if self._bounds.lag_records and seen.lag_records is not None:
            parts.append(seen.lag_records / self._bounds.lag_records)
        return max(parts)


class ApiLatency:
    """The 99th percentile of lookups between two looks, by whichever door they come."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/metrics"
        self._before: dict[float, float] = {}

    def p99_seconds(self) -> float | None:
        """Since the last look, up to the width of a bucket; None if nobody asked, or it is away."""
        try:
            reply = requests.get(self._url, timeout=_SECONDS)
            reply.raise_for_status()
        except requests.RequestException:
            return None
        now: dict[float, float] = {}
        for family in text_string_to_metric_families(reply.text):
            if family.name == REQUEST_SECONDS:
                for sample in family.samples:
                    is_lookup = sample.labels.get("route") in DOORS
                    if sample.name.endswith("_bucket") and is_lookup:
                        limit = float(sample.labels["le"])
                        now[limit] = now.get(limit, 0.0) + sample.value
        grown = {limit: count - self._before.get(limit, 0.0) for limit, count in now.items()}
        self._before = now
        return percentile(grown, 0.99)


def percentile(cumulative: dict[float, float], q: float) -> float | None:
    """The value at `q` of a histogram of counts up to each limit; None if it is empty.

    Within a bucket, values are taken as spread evenly; of the last, its lower limit is taken.
    """
    total = max(cumulative.values(), default=0.0)
    if total <= 0:
        return None
    wanted = q * total
    low, below = 0.0, 0.0
    for limit, count in sorted(cumulative.items()):
        if count >= wanted:
            if limit == float("inf"):
                return low
            return low + (limit - low) * (wanted - below) / max(count - below, 1e-9)
        low, below = limit, count
    return low
