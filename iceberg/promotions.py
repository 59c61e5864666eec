"""What a table says of the replays that were put in the place of its rows."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from pyiceberg.table import Table

MARK = "headwater.replay."
"""What the properties begin with that say so, followed by the replay."""

PROMOTED = "promoted"
ROLLED_BACK = "rolled-back"


@dataclass(frozen=True)
class Promotion:
    """A replay that is in place, by a property of the table."""

    before: int
    """The snapshot of before."""

    promoted: int
    order: int
    """Higher than that of all promotions before it."""

    start: int
    end: int
    """Its span, milliseconds since 1970 UTC."""

    at: int | None
    """When it was put there, milliseconds since 1970 UTC; None if nothing tells."""

    def text(self) -> str:
        """What the property says."""
        told = (self.before, self.promoted, self.order, self.start, self.end, self.at)
        return " ".join((PROMOTED, *map(str, told)))

    @staticmethod
    def read(table: Table, text: str) -> Promotion | None:
        """Of what a property says; None if the replay is not in place."""
        done, *numbers = text.split() or [""]
        if done != PROMOTED:
            return None
        before, promoted, *rest = map(int, numbers)
        # Tables that were promoted to by an older version do not tell all of the rest.
        snapshot = table.snapshot_by_id(promoted)
        at = None if snapshot is None else snapshot.timestamp_ms
        order = 0 if snapshot is None else snapshot.sequence_number or 0
        order, start, end = (*rest, *(order, 0, sys.maxsize)[len(rest) :])[:3]
        return Promotion(before, promoted, order, start, end, rest[3] if len(rest) > 3 else at)


@dataclass(frozen=True)
class TakenBack:
    """A replay that was in place, by a property of the table."""

    order: int
    promoted: int
    undone: int
    """The snapshot since which it is not."""

    def text(self) -> str:
        """What the property says."""
        return f"{ROLLED_BACK} {self.order} {self.promoted} {self.undone}"


def taken_back(table: Table) -> dict[str, TakenBack]:
    """The replays that were in place and are not any more, by their ids.

    As far as the table tells: it does not of what an older version took back.
    """
    found = {}
    for id_, text in _marks(table).items():
        done, *numbers = text.split() or [""]
        if done == ROLLED_BACK and len(numbers) == 3:
            found[id_] = TakenBack(*map(int, numbers))
    return found


def branch_of(id_: str) -> str:
    """The branch of each table that a replay writes to."""
    return f"replay_{id_}"


def come_to_an_end(table: Table) -> set[str]:
    """The branches of replays that were put in place, be it that they were taken back since."""
    return set(map(branch_of, _marks(table)))


def promotions(table: Table) -> dict[str, Promotion]:
    """The replays that are in place, by their ids."""
    found = {id_: Promotion.read(table, text) for id_, text in _marks(table).items()}
    return {id_: one for id_, one in found.items() if one is not None}


def _marks(table: Table) -> dict[str, str]:
    """What a table says of replays, by their ids."""
    return {
        key.removeprefix(MARK): text
        for key, text in table.properties.items()
        if key.startswith(MARK)
    }
