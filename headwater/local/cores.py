"""One core of the machine for lookups alone, for as long as a governed replay is followed.

A lookup waits behind what gives way to it where the kernel is at work for that, or where it is
woken on a core that is held. On a core that the others may not use it does not. Linux alone knows
of this; elsewhere, and with a single core, nothing changes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from headwater.local.process import Process

_KNOWN = sys.platform == "linux"
_ANSWER = ("api", "redis")
"""The parts that a lookup goes through."""


class Cores:
    """The cores that the parts of one platform run on."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._all: Set[int] = os.sched_getaffinity(0) if _KNOWN else set()

    def keep_one(self) -> None:
        """Whatever answers no lookups runs on every core but the first from now on."""
        if others := self._others():
            self._run_on(others)

    def share(self) -> None:
        """All parts may run on all cores again."""
        if self._all:
            self._run_on(self._all)

    @contextmanager
    def one_kept(self) -> Iterator[None]:
        """One core is kept meanwhile, also of the thread that asks for it.

        A command that is killed meanwhile leaves the parts confined; the next that follows a
        governed replay, and `headwater up`, let them go.
        """
        others = self._others()
        self.keep_one()
        try:
            if others:
                os.sched_setaffinity(0, others)
            yield
        finally:
            if others:
                os.sched_setaffinity(0, self._all)
            self.share()

    def _others(self) -> Set[int]:
        return set(sorted(self._all)[1:])

    def _run_on(self, cores: Set[int]) -> None:
        for pid_file in (self._state / "pids").glob("*.json"):
            found = None if pid_file.stem in _ANSWER else Process(pid_file, Path()).find()
            if found is not None:
                with suppress(psutil.NoSuchProcess):
                    for one in (found, *found.children(recursive=True)):
                        _threads_run_on(one.pid, cores)


def _threads_run_on(pid: int, cores: Set[int]) -> None:
    """Each thread has cores of its own; a new one gets those of the thread that starts it."""
    told: set[int] = set()
    while True:
        try:
            threads = {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()} - told
        except OSError:  # it has ended
            return
        if not threads:
            return
        for thread in threads:
            with suppress(OSError):  # it has ended, or is not ours to move
                os.sched_setaffinity(thread, cores)
        told |= threads
