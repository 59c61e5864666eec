"""How much is asked of Redis at once, which works on one lookup after the other."""

from __future__ import annotations

from api.errors import Overloaded

AT_ONCE = 200_000
"""Fields of hashes that lookups may have asked for and not got, which take Redis about 0.2 s."""

SMALL = 3_000
"""A lookup of so many fields is always taken: of those there are few enough at once."""


class Work:
    """The fields that are being asked for by all lookups.

    A large lookup keeps Redis as long as hundreds of small ones. Were as many of them let in as of
    those, all would wait until none had its reply in time.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self.asked = 0

    def begin(self, fields: int) -> None:
        """Count a lookup of so many, to be ended by `end`; Overloaded if they are too many beside
        the others."""
        if fields > SMALL and self.asked and self.asked + fields > self._at_once:
            raise Overloaded(self.asked, "values are being read")
        self.asked += fields

    def end(self, fields: int) -> None:
        """Make room for others."""
        self.asked -= fields
