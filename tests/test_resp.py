"""Replies of Redis in whatever pieces they come, and the beginning that need not be read."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
import uvloop

from api.resp import Preamble, Redis, RedisLost, RedisRefused, command_bytes
from api.watch import Watch

QUEUED = Preamble(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n", 3)
EXEC = b"*2\r\n*1\r\n$1\r\na\r\n*2\r\n$-1\r\n$3\r\nb\r\n\r\n"
FOUND = [[b"a"], [None, b"b\r\n"]]
GOOD = QUEUED.data + EXEC


async def answered(pieces: list[bytes], batches: int) -> list[object]:
    """What `batches` questions, all asked at once, are answered by these pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(batches)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            # Each piece comes alone.
            await asyncio.sleep(0.002)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    redis = Redis(f"redis://127.0.0.1:{port}", 1.0, 2.0)
    try:
        return list(
            await asyncio.gather(
                *(redis.ask(b"?", 4, QUEUED) for _ in range(batches)), return_exceptions=True
            )
        )
    finally:
        await redis.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("cut", range(0, len(GOOD), 3))
def test_two_batches_cut_anywhere_are_read_as_they_are(cut: int):
    both = GOOD + GOOD
    for at in (cut, len(GOOD) + cut):
        pieces = [piece for piece in (both[:at], both[at:]) if piece]
        assert asyncio.run(answered(pieces, 2)) == [FOUND, FOUND]


def test_a_batch_that_is_refused_is_not_taken_for_one_that_is_not():
    refused = b"+OK\r\n+QUEUED\r\n-ERR unknown command\r\n-EXECABORT discarded\r\n"
    first, second = asyncio.run(answered([refused + GOOD[:9], GOOD[9:]], 2))
    assert isinstance(first, RedisRefused) and "EXECABORT" in str(first)
    assert second == FOUND


def test_every_byte_alone():
    assert asyncio.run(answered([GOOD[at : at + 1] for at in range(len(GOOD))], 1)) == [FOUND]


@asynccontextmanager
async def connected(serve, user="", reply_seconds=2.0):
    """A client of a server that does `serve` with each connection."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    redis = Redis(f"redis://{user}127.0.0.1:{port}", 1.0, reply_seconds)
    try:
        yield redis
    finally:
        await redis.close()
        server.close()
        await server.wait_closed()


class Looking(Watch):
    """Counts the looks, and those that were answered."""

    def __init__(self, redis):
        super().__init__(0.005)
        self.redis = redis
        self.looks = self.answered = 0

    async def look(self):
        self.looks += 1
        await self.redis.ask(command_bytes("PING"), 1)
        self.answered += 1


RUNS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
FULL = b"-ERR max number of clients reached\r\n"


@RUNS
@pytest.mark.parametrize("greeting", [b"", FULL], ids=["silent", "full"])
def test_a_server_that_closes_what_it_accepts_is_lost_and_never_anything_else(run, greeting):
    async def close(_, writer):
        writer.write(greeting)
        writer.close()

    async def asked():
        found = []
        async with connected(close) as redis:
            for _ in range(20):
                several = [redis.ask(command_bytes("PING"), 1) for _ in range(3)]
                found += await asyncio.wait_for(
                    asyncio.gather(*several, return_exceptions=True), 1.0
                )
        return found

    assert {type(error) for error in run(asked())} == {RedisLost}


@RUNS
def test_a_reply_is_late_only_while_redis_says_nothing(run):
    """One large question before it may take as long as a reply may."""

    async def slowly(reader, writer):
        for _ in range(4):
            await reader.readuntil(b"PING\r\n")
            await asyncio.sleep(0.2)
            writer.write(b"+PONG\r\n")
        await reader.readuntil(b"PING\r\n")
        await asyncio.sleep(1.0)

    async def asked():
        async with connected(slowly, reply_seconds=0.3) as redis:
            several = [redis.ask(command_bytes("PING"), 1) for _ in range(4)]
            found = await asyncio.gather(*several)
            with pytest.raises(RedisLost, match="no reply in time"):
                await redis.ask(command_bytes("PING"), 1)
        return found

    assert run(asked()) == [b"PONG"] * 4


@RUNS
def test_a_watch_goes_on_whatever_happens_and_notices_that_the_server_is_back(run, caplog):
    well = asyncio.Event()

    async def serve(reader, writer):
        if not well.is_set():
            writer.write(FULL)
        elif await reader.read(100):
            writer.write(b"+PONG\r\n")
        writer.close()

    async def looked():
        async with connected(serve) as redis, asyncio.timeout(5):
            watch = Looking(redis)
            with pytest.raises(RedisLost):
                await watch.start()
            well.set()
            await watch.start()
            well.clear()
            seen = watch.looks
            while watch.looks < seen + 10:
                await asyncio.sleep(0.01)
            well.set()
            seen = watch.answered
            while watch.answered < seen + 3:
                await asyncio.sleep(0.01)
            await watch.stop()

    run(looked())
    assert "Looking could not look" in caplog.text
    assert "RedisLost" in caplog.text


@pytest.mark.parametrize("quoted", ["`api`, `s3cret`, ", "'api' 's3cret' "])
def test_a_redis_that_repeats_what_it_does_not_know_gives_no_password_away(quoted):
    async def serve(reader, writer):
        while await reader.read(100):
            writer.write(
                f"-ERR unknown command `X`, with args beginning with: {quoted}\r\n".encode()
            )
        writer.close()

    async def refused(user):
        async with connected(serve, user) as redis:
            with pytest.raises(RedisRefused) as error:
                await redis.ask(command_bytes("X", "api", "s3cret"), 1)
        return str(error.value)

    for user in ("api:s3cret@", ""):
        assert asyncio.run(refused(user)) == "ERR unknown command `X`"
