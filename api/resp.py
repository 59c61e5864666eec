"""Redis' protocol over one connection: what is asked in one write is answered in one future.

A client library sends a command at a time through layers made for every use there is. A lookup
is some bytes that were mostly known at start-up, and its reply is read by hiredis; nothing lies
between. Requests of many callers follow each other on the same connection: Redis works on one
at a time anyway.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import hiredis

from schemas import HeadwaterError, SettingsError

_TICK = 0.05


class RedisLost(HeadwaterError):
    """The connection could not be made, broke, or had no reply in time."""


class RedisRefused(HeadwaterError):
    """Redis answered with an error."""


class Preamble(NamedTuple):
    """How the replies to a batch begin if all is well, which then need not be read."""

    data: bytes
    replies: int


_NONE = Preamble(b"", 0)


class _Batch:
    __slots__ = ("asked", "future", "left", "preamble", "replies", "seconds")

    def __init__(
        self,
        future: asyncio.Future[Any],
        replies: int,
        asked: float,
        seconds: float,
        preamble: Preamble,
    ) -> None:
        self.future = future
        self.replies = replies
        self.left = replies
        self.asked = asked
        self.seconds = seconds
        self.preamble = preamble


class _Link(asyncio.Protocol):
    """One connection and the batches whose replies are due, oldest first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = hiredis.Reader()
        self._due: deque[_Batch] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._late: _Batch | None = None
        self._why = "the connection broke"
        self._heard = 0.0
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(
        self, data: bytes, replies: int, seconds: float, preamble: Preamble = _NONE
    ) -> asyncio.Future[Any]:
        """The last of `replies` to `data`; RedisLost at once if the connection is gone.

        Whoever waited for it finds it gone where the server closed it as soon as it was made.
        """
        if not self.open:
            raise RedisLost(self._why)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._due.append(_Batch(future, replies, self._loop.time(), seconds, preamble))
        if self._watch is None:
            self._watch = self._loop.call_later(_TICK, self._look)
        self._transport.write(data)
        return future

    def data_received(self, data: bytes) -> None:
        reader, due = self._reader, self._due
        self._heard = self._loop.time()
        try:
            reader.feed(data, self._skip(data))
            while (reply := reader.gets()) is not False:
                batch = due[0]
                batch.left -= 1
                if batch.left == 0:
                    due.popleft()
                    if not batch.future.done():  # its caller may have gone
                        batch.future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.close("it does not speak Redis' protocol")

    def _skip(self, data: bytes) -> int:
        """How much of `data` is the preamble of the batch that is due, if it begins there."""
        first = self._due[0]
        known, replies = first.preamble
        if (
            not replies
            or first.left < first.replies
            or self._reader.has_data()
            or not data.startswith(known)
        ):
            return 0
        first.left -= replies
        return len(known)

    def _look(self) -> None:
        """Replies come in order, so one that is late makes all after it late.

        It has its time from when it was asked for or Redis was last heard of: while the replies
        before it come, Redis is at work. One that is seen to be late gets another tick: it may lie
        there already, unread since this process itself stood still.
        """
        self._watch = None
        if not self._due:
            self._late = None
            return
        first = self._due[0]
        if max(first.asked, self._heard) + first.seconds < self._loop.time():
            if self._late is first:
                self.close("no reply in time")
                return
            self._late = first
        self._watch = self._loop.call_later(_TICK, self._look)

    def close(self, why: str) -> None:
        """Break off; whoever waits gets RedisLost with `why`."""
        self._why = why
        self.open = False
        self._transport.abort()
        self._fail()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if exc is not None:
            self._why = f"the connection broke: {exc}"
        self._fail()

    def _fail(self) -> None:
        while self._due:
            batch = self._due.popleft()
            if not batch.future.done():
                batch.future.set_exception(RedisLost(self._why))
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


class Redis:
    """A Redis server, connected to when it is first asked and again whenever it was lost."""

    def __init__(self, url: str, connect_seconds: float, reply_seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise SettingsError(
                f"expected redis:// or rediss:// and a host, got {parts.scheme}://{parts.hostname}"
            )
        database = parts.path.strip("/")
        if database and not database.isdigit():
            raise SettingsError(f"expected the number of a database, got {database!r}")
        self._host, self._port = parts.hostname, parts.port or 6379
        self._tls = ssl.create_default_context() if parts.scheme == "rediss" else None
        self._hello: list[tuple[str, ...]] = []
        if parts.password:
            user = (unquote(parts.username),) if parts.username else ()
            self._hello.append(("AUTH", *user, unquote(parts.password)))
        if database and database != "0":
            self._hello.append(("SELECT", database))
        self._connect_seconds = connect_seconds
        self._reply_seconds = reply_seconds
        self._link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None

    async def ask(self, data: bytes, replies: int, preamble: Preamble = _NONE) -> Any:
        """The last of the `replies` that `data` will have; RedisLost or RedisRefused.

        What the reply is made of may be errors too. A connection that breaks under it, as a
        restart of Redis breaks it, is tried once more: only ever ask what may be asked twice.
        """
        link = self._link
        if link is None or not link.open:
            link = await self._connected()
        try:
            reply = await link.ask(data, replies, self._reply_seconds, preamble)
        except RedisLost as error:
            if str(error) == "no reply in time":
                raise
            link = await self._connected()
            reply = await link.ask(data, replies, self._reply_seconds, preamble)
        if isinstance(reply, hiredis.ReplyError):
            raise RedisRefused(_without_arguments(reply))
        return reply

    def leave(self) -> None:
        """Break the connection off; what is due on it is asked again on the next one."""
        if self._link is not None:
            self._link.close("left for another")

    async def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.close("closed")
            self._link = None

    async def _connected(self) -> _Link:
        if self._link is not None and self._link.open:
            return self._link
        if self._connecting is None:  # all who wait for a connection wait for the same
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._forget)
        return await asyncio.shield(self._connecting)

    def _forget(self, task: asyncio.Task[_Link]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # whoever waits has it

    async def _connect(self) -> _Link:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, link = await loop.create_connection(
                    lambda: _Link(loop), self._host, self._port, ssl=self._tls
                )
                for command in self._hello:
                    reply = await link.ask(command_bytes(*command), 1, self._connect_seconds)
                    if isinstance(reply, hiredis.ReplyError):
                        link.close("refused")
                        raise RedisRefused(_without_arguments(reply))
        except TimeoutError:
            raise RedisLost("no connection in time") from None
        except OSError as error:
            raise RedisLost(error.strerror or str(error)) from error
        self._link = link
        return link


def _without_arguments(error: hiredis.ReplyError) -> str:
    """What Redis said, but for the arguments of a command it does not know: a password or keys."""
    return str(error).partition(", with args")[0]


def command_bytes(*words: str | bytes) -> bytes:
    """A command as Redis reads it."""
    encoded = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded)


PING = command_bytes("PING")
