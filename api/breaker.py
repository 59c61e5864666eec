"""A circuit breaker: after failures in a row nobody waits for the next one."""

from __future__ import annotations

from collections.abc import Callable


class Breaker:
    """Opens for `seconds` after `failures` in a row; then one call tries, and its end decides.

    `clock` gives seconds and never goes back.
    """

    def __init__(self, failures: int, seconds: float, clock: Callable[[], float]) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._failed = 0
        self._until = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether the next call is refused, short of the one that tries."""
        return self._failed >= self._limit

    def wait(self) -> float:
        """0 if a call may go on; else the seconds after which it is worth trying again."""
        if self._failed < self._limit:
            return 0.0
        left = self._until - self._clock()
        if left <= 0 and not self._trying:
            self._trying = True
            return 0.0
        return max(left, 0.1)

    def succeeded(self) -> None:
        """A call had its answer."""
        self._failed = 0
        self._trying = False

    def abandoned(self) -> None:
        """A call ended without saying anything of the server."""
        self._trying = False

    def failed(self) -> None:
        """A call had none."""
        self._failed += 1
        self._trying = False
        if self._failed >= self._limit:
            self._until = self._clock() + self._seconds
