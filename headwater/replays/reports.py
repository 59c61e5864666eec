"""What a comparison of a replay with live says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Difference:
    """One of the largest differences of a feature."""

    keys: dict[str, str | int]
    event_time: str
    live: str | int | float | bool | None
    replayed: str | int | float | bool | None


@dataclass(frozen=True)
class FeatureReport:
    """How one feature compares over the rows that both have."""

    equal: int
    changed: int
    largest: list[Difference] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)
    """Numbers that differ, counted by the power of ten of the difference."""


@dataclass(frozen=True)
class Slice:
    """How the rows of a part of the span compare."""

    start: str
    """ISO 8601, UTC."""

    equal: int
    changed: int
    """Rows of which some feature differs."""

    missing: int
    extra: int


@dataclass(frozen=True)
class Thresholds:
    """The shares of a view's rows that may differ, 0 to 1; none by default."""

    changed: float = 0.0
    missing: float = 0.0
    extra: float = 0.0


@dataclass(frozen=True)
class ViewReport:
    """How one view compares; a row is a value of every feature for a key at an event time."""

    live: int
    replayed: int
    missing: int
    """Rows that live wrote and the replay did not."""

    extra: int
    """Rows that the replay wrote and live did not."""

    features: dict[str, FeatureReport]
    timeline: list[Slice] = field(default_factory=list)
    until: str = ""
    """The last event time that is compared of a replay that follows, ISO 8601 UTC."""

    def within(self, allowed: Thresholds) -> bool:
        """Whether no feature differs, and no rows are missing or extra, in more than that."""
        rows = max(self.live, self.replayed, 1)
        changed = max((f.changed for f in self.features.values()), default=0)
        return (
            changed <= allowed.changed * rows
            and self.missing <= allowed.missing * rows
            and self.extra <= allowed.extra * rows
        )

    @property
    def compared(self) -> bool:
        """Whether there was a row on either side."""
        return bool(self.live or self.replayed)

    @property
    def told(self) -> str:
        """What it comes to, in words."""
        if not self.compared:
            return "nothing to compare"
        return "equal in every row" if self.equal else "differs"

    @property
    def equal(self) -> bool:
        """Whether the replay gave what live gave, row for row."""
        return not (self.missing or self.extra or any(f.changed for f in self.features.values()))


def passed(reports: Collection[ViewReport], allowed: Thresholds) -> bool:
    """Whether rows were compared, and in no view more differs than is allowed."""
    return any(one.compared for one in reports) and all(one.within(allowed) for one in reports)
