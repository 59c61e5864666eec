"""What a benchmark does when it is told to end."""

from __future__ import annotations

import signal
import sys


def stop_when_told() -> None:
    """Have SIGTERM unwind the program, so that what it started is stopped with it."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
