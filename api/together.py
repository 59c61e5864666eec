"""uvicorn's HTTP protocol, with answers that leave in one piece, and word of what has come in one.

uvicorn writes the head of an answer and its body one after the other, and uvloop sends each at
once: two calls of the system and two packets, of which the first wakes the client for nothing.
"""

from __future__ import annotations

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


class Protocol(HttpToolsProtocol):
    """What uvicorn speaks with one client."""

    def connection_made(self, transport: Any) -> None:
        """Begin to speak over a transport."""
        super().connection_made(_Transport(transport))  # type: ignore[arg-type]

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope[TOGETHER] = self.transport.keep  # type: ignore[attr-defined, literal-required]

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self.scope[WHOLE] = True  # type: ignore[literal-required]
