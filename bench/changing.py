"""Values that change while they are looked up, as the platform's jobs change them."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_A_SECOND = 5
"""So often they are written: the platform's sink gathers rows for 200 ms."""


@contextmanager
def changing(port: int, writes: Sequence[bytes], rate: int) -> Iterator[None]:
    """Carry out `rate` of `writes` a second, in turns, while the block runs.

    A write is one command as Redis reads it, with a number for its reply.
    """
    some = min(max(1, rate // _A_SECOND), len(writes))
    chosen = random.Random(rate)
    bursts = [b"".join(chosen.sample(writes, some)) for _ in range(100)]
    over = threading.Event()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as redis:
                due = time.monotonic()
                for burst in itertools.cycle(bursts):
                    redis.sendall(burst)
                    answered = 0
                    while answered < some:
                        data = redis.recv(1 << 16)
                        if not data or b"-" in data:
                            raise RuntimeError(f"Redis answered {data[:200]!r}")
                        answered += data.count(b"\n")
                    due += 1 / _A_SECOND
                    if over.wait(max(0.0, due - time.monotonic())):
                        return
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=write, name="changing")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failed:
        raise SystemExit(f"the values did not change throughout: {failed[0]}")
