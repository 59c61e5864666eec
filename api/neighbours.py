"""The parts that lookups do not need and features do: asked, so that their loss has a name.

A lookup goes on without them, with values that grow old. So they never make the API unready.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

TIMEOUT_SECONDS = 0.5
# ApiVersions request, version 0, correlation id 1, client id "headwater".
_KAFKA_HELLO = bytes.fromhex("0000001300120000000000010009") + b"headwater"
# SSLRequest; the answer is one byte and the server logs nothing.
_POSTGRES_HELLO = bytes.fromhex("0000000804d2162f")


@dataclass(frozen=True)
class Neighbour:
    """A server at `address` (host:port) that answers `hello` with at least one byte."""

    name: str
    address: str
    hello: bytes

    async def state(self) -> str:
        """`up`, or why it is not."""
        host, _, port = self.address.rpartition(":")
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    writer.write(self.hello)
                    await reader.readexactly(1)
                finally:
                    writer.close()
        except (OSError, TimeoutError, EOFError) as error:
            return f"{self.address} does not answer: {str(error) or type(error).__name__}"
        return "up"


def kafka(address: str) -> Neighbour:
    """A Kafka broker."""
    return Neighbour("kafka", address, _KAFKA_HELLO)


def postgres(address: str) -> Neighbour:
    """A PostgreSQL server."""
    return Neighbour("postgres", address, _POSTGRES_HELLO)


async def states(neighbours: tuple[Neighbour, ...]) -> dict[str, str]:
    """The state of each, asked at once."""
    found = await asyncio.gather(*(neighbour.state() for neighbour in neighbours))
    return {n.name: state for n, state in zip(neighbours, found, strict=True)}
