"""Free ports for the servers of tests, of which several processes may run side by side."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import fields
from itertools import cycle

from headwater.settings import Ports

# Below those that Linux lends to whoever connects to somebody (32768 and more), so that none is
# taken between being found free and being listened to, and above those that a platform has where
# it is told nothing; a range for each process of tests.
_FIRST, _RANGE, _PROCESSES = 20_000, 2_400, 5


def _candidates() -> Iterator[int]:
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
    first = _FIRST + process * _RANGE
    begin = os.getpid() * len(fields(Ports)) % _RANGE
    return cycle([*range(first + begin, first + _RANGE), *range(first, first + begin)])


_LEFT = _candidates()


def free_port() -> int:
    """A port on loopback that nobody listens to, and that was given to no other test for long."""
    for port in _LEFT:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a cycle has no end")


def free_ports() -> dict[str, str]:
    """A free port for each of the platform's, as environment variables."""
    return {f"HEADWATER_{port.name.upper()}_PORT": str(free_port()) for port in fields(Ports)}
