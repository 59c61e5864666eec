"""Load on a server from a process of its own, open-loop or closed.

    python -m bench.load SPEC.json

Open-loop means that requests are due by the clock whether or not earlier ones are answered, and
that a request's latency counts from when it was due: a server that stalls pays for everyone who
waited. The clock is a timerfd, since an event loop's own timers are a millisecond coarse. Closed
means that each connection asks again as soon as it is answered: it finds the capacity.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import hiredis
import msgspec
import numpy as np
import uvloop

_MONOTONIC, _ABSOLUTE = 1, 1


class Spec(msgspec.Struct, frozen=True):
    """What to send where; requests are taken in turn from `requests`."""

    kind: str
    """`http`, or `redis`: then a request ends with the reply to its EXEC or its last command."""

    host: str
    port: int
    requests: list[bytes]
    replies: list[int]
    """Redis replies to await of each request; empty for http."""

    seconds: float
    output: str
    """Where the latencies go, a .npy of seconds."""

    connections: int = 16
    rate: float = 0.0
    """Requests a second, by the clock; 0 for a closed loop."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.due = 0.0
        self.buffer = bytearray()
        self.left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def ask(self, place: int, due: float) -> None:
        self.due = due
        self.begin(place)
        self.transport.write(self.load.spec.requests[place])

    def begin(self, place: int) -> None:
        raise NotImplementedError

    def done(self, good: bool) -> None:
        self.load.answered(self, good)

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.lost(self)


class Http(Connection):
    """Reads just as much of HTTP/1.1 as says when an answer is whole."""

    def begin(self, place: int) -> None:
        self.left = -1
        self.buffer.clear()

    def data_received(self, data: bytes) -> None:
        if self.left > 0:
            self.left -= len(data)
        else:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            self.good = head.startswith(b"http/1.1 200")
            at = head.index(b"content-length:") + 15
            length = int(head[at : head.find(b"\r", at) if b"\r" in head[at:] else None])
            self.left = length - (len(self.buffer) - end - 4)
        if self.left <= 0:
            self.done(self.good)


class Resp(Connection):
    """The bare client: hiredis' reader, and every value made a Python object."""

    def begin(self, place: int) -> None:
        self.left = self.load.spec.replies[place]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.reader = hiredis.Reader()

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.left -= 1
            self.good = not isinstance(reply, Exception)
        if self.left == 0:
            self.done(self.good)


class Load:
    """One run."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.free: deque[Connection] = deque()
        self.waiting: deque[tuple[int, float]] = deque()
        self.renewing: set[asyncio.Task[None]] = set()
        self.latencies: list[float] = []
        self.failures = 0
        self.asked = 0
        self.end = 0.0
        self.open = 0

    async def run(self) -> dict[str, Any]:
        """Send it all; counts and the seconds it took."""
        loop = asyncio.get_running_loop()
        for _ in range(self.spec.connections):
            self.free.append(await self._connected())
        self.over = asyncio.Event()
        began = time.perf_counter()
        self.end = began + self.spec.seconds
        if self.spec.rate:
            await self._by_the_clock(loop, began)
        else:
            while self.free:
                self._next(self.free.popleft(), time.perf_counter())
            await asyncio.wait_for(self.over.wait(), self.spec.seconds + 30)
        took = time.perf_counter() - began
        np.save(self.spec.output, np.array(self.latencies))
        return {
            "done": len(self.latencies),
            "failures": self.failures,
            "seconds": took,
            "unanswered": self.asked - len(self.latencies) - self.failures,
        }

    async def _by_the_clock(self, loop: asyncio.AbstractEventLoop, began: float) -> None:
        period = 1 / self.spec.rate
        count = int(self.spec.seconds * self.spec.rate)
        first = time.perf_counter() + 0.1
        timer = _timer(first, period)
        due = 0

        def tick() -> None:
            nonlocal due
            for _ in range(int.from_bytes(os.read(timer, 8), "little")):
                if due < count:
                    self._send(first + due * period)
                    due += 1

        loop.add_reader(timer, tick)
        limit = began + self.spec.seconds + 20
        while time.perf_counter() < limit and (
            due < count or self.open or (self.waiting and self.free)
        ):
            await asyncio.sleep(0.05)
        loop.remove_reader(timer)
        os.close(timer)

    def _send(self, due: float) -> None:
        place = self.asked % len(self.spec.requests)
        self.asked += 1
        if self.free:
            self.open += 1
            self.free.popleft().ask(place, due)
        else:
            self.waiting.append((place, due))

    def _next(self, one: Connection, now: float) -> None:
        place = self.asked % len(self.spec.requests)
        self.asked += 1
        self.open += 1
        one.ask(place, now)

    def answered(self, one: Connection, good: bool) -> None:
        now = time.perf_counter()
        self.open -= 1
        if good:
            self.latencies.append(now - one.due)
        else:
            self.failures += 1
        self._go_on(one, now)

    def _go_on(self, one: Connection, now: float) -> None:
        """A connection is free: ask the next on it, if there is one."""
        if not self.spec.rate:
            if now < self.end:
                self._next(one, now)
            self._end_if_answered()
        elif self.waiting:
            self.open += 1
            one.ask(*self.waiting.popleft())
        else:
            self.free.append(one)

    def lost(self, one: Connection) -> None:
        if one in self.free:  # nobody had asked on it for as long as the server keeps one
            self.free.remove(one)
        else:  # such as a worker of Feast's, which ends after a thousand requests
            self.failures += 1
            self.open -= 1
        if time.perf_counter() < self.end:
            self.renewing.add(task := asyncio.create_task(self._renew()))
            task.add_done_callback(self.renewing.discard)
        else:
            self._end_if_answered()

    def _end_if_answered(self) -> None:
        """A closed loop is over when all are answered that were asked in time."""
        if self.open == 0 and time.perf_counter() >= self.end:
            self.over.set()

    async def _renew(self) -> None:
        while time.perf_counter() < self.end:
            try:
                one = await self._connected()
            except OSError:  # it is starting again
                await asyncio.sleep(0.05)
                continue
            self._go_on(one, time.perf_counter())
            return
        self._end_if_answered()

    async def _connected(self) -> Connection:
        make = Http if self.spec.kind == "http" else Resp
        loop = asyncio.get_running_loop()
        _, one = await loop.create_connection(lambda: make(self), self.spec.host, self.spec.port)
        return one


def _timer(first: float, period: float) -> int:
    """A file that becomes readable at `first` and every `period` seconds from then on.

    `first` is a time of `time.perf_counter`, which is the same clock; reading the file counts the
    times. A timer that began when it was set would be late by what setting it takes.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    file: int = libc.timerfd_create(_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    setting = (ctypes.c_long * 4)(
        *divmod(round(period * 1e9), 10**9), *divmod(round(first * 1e9), 10**9)
    )
    if file < 0 or libc.timerfd_settime(file, _ABSOLUTE, ctypes.byref(setting), None):
        raise OSError(ctypes.get_errno(), "timerfd")
    return file


def main() -> None:
    """Run the load a file describes and print what came of it."""
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Spec)
    print(json.dumps(uvloop.run(Load(spec).run())))


if __name__ == "__main__":
    main()
