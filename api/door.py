"""The way from a lookup's bytes to its answer's, as short as it can be.

The framework routes a lookup here and knows its documents, and has no more to do with it: what
it would do for each request, such as working out the handler's arguments, takes longer than the
lookup. The errors, headers, metrics and traces are those of every other route.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from api.auth import Gatekeeper, Principal
from api.errors import Overloaded, TooLarge, TooSlow
from api.problems import MEDIA_TYPE, problem_of
from api.telemetry import Trace, Traces, current
from api.together import TOGETHER, WHOLE
from observability.logs import TRACE_ID
from observability.metrics import ApiMetrics

MAX_BODY = 1 << 20
_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", MEDIA_TYPE.encode())

Answer = Callable[[bytes, bytes, Trace, Principal], Awaitable[bytes]]
"""From the body and the query string to the answer's JSON; errors become problem documents."""

_REFUSALS = {401: "unauthenticated", 403: "forbidden", 408: "slow", 413: "size", 429: "rate"}

_log = logging.getLogger(__name__)


class Gate:
    """How many requests may be that far at once, over all doors; `what` says how far.

    More than that are refused at once: they would wait for each other, until all were late.
    """

    def __init__(self, limit: int, what: str) -> None:
        self.limit = limit
        self.within = 0
        self._what = what

    def enter(self) -> None:
        """Overloaded if it is full; else leave it by `leave`."""
        if self.within >= self.limit:
            raise Overloaded(self.limit, self._what)
        self.within += 1

    def leave(self) -> None:
        """Make room for another."""
        self.within -= 1


class Arrivals:
    """Waits for bodies that are still on their way: for `gate.limit` at once, `seconds` for each.

    A body is read before its lookup takes one of the places of those that are answered, or whoever
    sends slowly would have them all.
    """

    def __init__(self, gate: Gate, seconds: float) -> None:
        self._gate = gate
        self._seconds = seconds

    async def body(self, receive: Receive) -> bytes:
        """The whole body; TooSlow, TooLarge or Overloaded if it is not waited for."""
        self._gate.enter()
        try:
            async with asyncio.timeout(self._seconds):
                return await _body(receive)
        except TimeoutError:
            raise TooSlow(self._seconds) from None
        finally:
            self._gate.leave()


class Door:
    """Answers POST on one route by `answer`."""

    def __init__(
        self,
        route: str,
        answer: Answer,
        gatekeeper: Gatekeeper,
        gate: Gate,
        arrivals: Arrivals,
        traces: Traces,
        metrics: ApiMetrics,
    ) -> None:
        self._gatekeeper = gatekeeper
        self.route = route
        self._answer = answer
        self._gate = gate
        self._arrivals = arrivals
        self._traces = traces
        self._good = metrics.requests.labels("POST", route, 200)
        self._seconds = metrics.request_seconds.labels("POST", route)
        self._metrics = metrics

    def __call__(self, app: ASGIApp) -> ASGIApp:
        """As a middleware of the route: it answers, and `app` is asked nothing but its options."""

        async def within(scope: Scope, receive: Receive, send: Send) -> None:
            request: Any = scope
            answers = self.handle if request["method"] == "POST" else app
            await answers(scope, receive, send)

        return within

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        request: Any = scope
        trace = self._traces.begin(request["headers"], "POST", self.route)
        status = 200
        headers = [_JSON, *trace.headers]
        try:
            principal = await self._gatekeeper.principal(request["headers"])
            principal.spend()
            query = request["query_string"]
            data = await (_body(receive) if WHOLE in request else self._arrivals.body(receive))
            self._gate.enter()
            try:
                if trace.span is None:
                    body = await self._answer(data, query, trace, principal)
                else:
                    with current(trace.span):
                        body = await self._answer(data, query, trace, principal)
            finally:
                self._gate.leave()
        except Exception as error:
            if isinstance(error, Overloaded):
                self._metrics.refused.labels("overload").inc()
            problem = problem_of(error)
            status, body = problem.status.value, problem.body
            headers[0] = _PROBLEM
            headers += [(k.encode(), v.encode()) for k, v in problem.headers.items()]
            if reason := _REFUSALS.get(status):
                self._metrics.refused.labels(reason).inc()
            if status == 500:
                _log.error("unexpected error", exc_info=error, extra={TRACE_ID: trace.trace_id})
        headers.append((b"content-length", b"%d" % len(body)))
        self._traces.end(trace, status)
        seconds = time.perf_counter() - started
        if (together := request.get(TOGETHER)) is not None:
            together()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
        # Nobody waits for the books.
        if status == 200:
            self._good.inc()
        else:
            self._metrics.requests.labels("POST", self.route, status).inc()
        self._seconds.observe(seconds)


class Entrance:
    """Before the framework: lookups go to their doors at once, all else goes on.

    A door behind the framework's routes answers the same; it takes a twentieth longer.
    """

    def __init__(self, app: ASGIApp, doors: Mapping[str, Door]) -> None:
        self._app = app
        self._doors = doors
        """By the path of their route."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: Any = scope
        door = self._doors.get(request["path"]) if request["type"] == "http" else None
        if door is not None and request["method"] == "POST":
            await door.handle(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _body(receive: Receive) -> bytes:
    """The whole body; TooLarge as soon as it is."""
    message: Any = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > MAX_BODY:
            raise TooLarge(MAX_BODY)
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        parts.append(part := message.get("body", b""))
        size += len(part)
        if size > MAX_BODY:
            raise TooLarge(MAX_BODY)
    return b"".join(parts)


def decoder(type_: Any) -> Callable[[bytes], Any]:
    """A decoder of one type, made once; what it cannot read is a msgspec.DecodeError."""
    decode = msgspec.json.Decoder(type_).decode

    def decoded(data: bytes) -> Any:
        try:
            return decode(data)
        except UnicodeDecodeError:
            raise msgspec.DecodeError("a text that is not UTF-8") from None
        except RecursionError:
            raise msgspec.DecodeError("it is nested too deeply") from None

    return decoded
