"""uvicorn's HTTP protocol, with answers that leave in one piece, and word of what has come in one.

uvicorn writes the head of an answer and its body one after the other, and uvloop sends each at
once: two calls of the system and two packets, of which the first wakes the client for nothing.

It waits for a head for ever, and where a client offers another protocol it loses the body, which is
then read as the next request. Here a head has its time, and an offer is passed over, as RFC 9110
(7.8) allows: Java's client makes one with every request in plain text.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TOGETHER = "headwater.together"
"""Of a request's scope, where the server can: call it before the first of two messages of an
answer, and they leave together."""

WHOLE = "headwater.whole"
"""In a request's scope once the server has all of its body: whoever reads it need not wait."""


class _Transport:
    """A transport that keeps a write for the next one when it is told to."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._kept: bytes | None = None
        self._keeping = False

    def keep(self) -> None:
        """Send the next write with the one that follows it."""
        self._keeping = True

    def write(self, data: bytes) -> None:
        """Send it, after what was kept."""
        if self._keeping:
            self._keeping = False
            self._kept = data
        elif self._kept is not None:
            kept, self._kept = self._kept, None
            self._transport.writelines((kept, data))
        else:
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


HEAD_SECONDS = 10.0
"""How long a connection may stand without a whole head, before its first request or between two."""

_OFFER = re.compile(rb"(?im)^upgrade:[^\r\n]*\r\n")


class Protocol(HttpToolsProtocol):
    """What uvicorn speaks with one client."""

    _expected: asyncio.TimerHandle | None = None
    _within = False

    def connection_made(self, transport: Any) -> None:
        """Begin to speak over a transport."""
        super().connection_made(_Transport(transport))  # type: ignore[arg-type]
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what the client has sent."""
        super().data_received(data if self._within else _without_offer(data))
        if self.cycle is None or self.cycle.response_complete:
            self._expect()
        elif self._expected is not None:
            self._expect_nothing()

    def _expect(self) -> None:
        if self._expected is None:
            self._expected = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _expect_nothing(self) -> None:
        if self._expected is not None:
            self._expected.cancel()
            self._expected = None

    def _unsupported_upgrade_warning(self) -> None:
        """An offer that was not seen in time, as in a head of two packets: its body is lost."""
        self.cycle.disconnected = True
        self.send_400_response("This server takes no upgrade.")

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._within = True
        self.scope[TOGETHER] = self.transport.keep  # type: ignore[attr-defined, literal-required]

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self._within = False
        self.scope[WHOLE] = True  # type: ignore[literal-required]


def _without_offer(data: bytes) -> bytes:
    """What begins with a request, without its offer of another protocol."""
    if b"pgrade" not in data and b"PGRADE" not in data:
        return data
    head, end, rest = data.partition(b"\r\n\r\n")
    return _OFFER.sub(b"", head + b"\r\n")[:-2] + end + rest
