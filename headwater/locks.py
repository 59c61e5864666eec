"""One command at a time: a file that is locked while a command works, and says which it is."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from platform import node
from typing import TextIO

from schemas import HeadwaterError


class Busy(HeadwaterError):
    """Another command is at work; the text says which, and on what."""

    exit_code = 1


@contextmanager
def locked(path: Path, name: str, command: str, seconds: float) -> Iterator[int]:
    """Nobody else works on what is called `name` meanwhile; the open file that is locked.

    Whoever does is waited for, so many seconds, and named by Busy then. A process that inherits
    the file keeps the lock, should this one be killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        _await(lock, name, seconds)
        lock.truncate(0)
        lock.write(f"`{command}`, process {os.getpid()} of {node()}")
        lock.flush()
        yield lock.fileno()


def _await(lock: TextIO, name: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                lock.seek(0)
                raise Busy(
                    f"{name}: {lock.read() or 'another command'} is at work; try again when it"
                    " has ended"
                ) from None
        time.sleep(0.1)
