"""Replies of Redis in whatever pieces they come, and the beginning that need not be read."""

from __future__ import annotations

import asyncio

import pytest

from api.resp import Preamble, Redis, RedisRefused

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
