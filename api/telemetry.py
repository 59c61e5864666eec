"""Measures and traces each request; its trace id goes back in the headers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, cast

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, get_current_span, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from connectors.redis_codec import CodecError, decode_trace
from observability.metrics import ApiMetrics
from observability.tracing import EVENT_TIME, VIEW

_PROPAGATOR = TraceContextTextMapPropagator()
_random = random.Random()
_LINKS = 32
"""At most so many to a span; a lookup of a thousand entities tells enough with them."""


class Trace:
    """One request's place in its trace; `span` is None where it is not recorded."""

    __slots__ = ("headers", "span", "trace_id")

    def __init__(self, trace_id: str, span_id: str, span: Span | None) -> None:
        self.trace_id = trace_id
        self.span = span
        flags = "00" if span is None else "01"
        self.headers = [
            (b"x-trace-id", trace_id.encode()),
            (b"traceparent", f"00-{trace_id}-{span_id}-{flags}".encode()),
        ]


def current(span: Span) -> AbstractContextManager[Span]:
    """Makes a request's span the current one; no exception leaves its text in it.

    The text says which value was wrong, and that may be an entity's key. Whether it is an error is
    for `Traces.end` to say: what the caller did wrong is none.
    """
    return use_span(span, record_exception=False, set_status_on_exception=False)


class Traces:
    """Begins a trace for each request, or goes on with the caller's.

    A caller's own decision to record holds; of the other requests the share `ratio` is recorded.
    What is not recorded costs a random number, so every answer has a trace id.
    """

    def __init__(self, tracer: Tracer, ratio: float) -> None:
        self._tracer = tracer
        self._ratio = ratio

    def begin(self, headers: Iterable[tuple[bytes, bytes]], method: str, route: str) -> Trace:
        """The trace of a request with those headers; who records a span ends it by `end`."""
        caller = None
        for name, value in headers:
            if name == b"traceparent":
                caller = value.decode("latin-1")
                break
        known = caller is not None and _is_traceparent(caller)
        recorded = (
            int(cast(str, caller)[53:55], 16) & 1 and self._ratio > 0
            if known
            else self._ratio > 0 and _random.random() < self._ratio
        )
        if not recorded:
            trace_id = cast(str, caller)[3:35] if known else f"{_random.getrandbits(128):032x}"
            return Trace(trace_id, f"{_random.getrandbits(64):016x}", None)
        parent = _PROPAGATOR.extract({"traceparent": caller} if known else {})
        span = self._tracer.start_span(
            f"{method} {route}",
            context=parent,
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
        )
        context = span.get_span_context()
        return Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", span)

    @staticmethod
    def end(trace: Trace, status: int) -> None:
        """End the request's span, if it has one."""
        if trace.span is not None:
            trace.span.set_attribute("http.response.status_code", status)
            if status >= 500:
                trace.span.set_status(StatusCode.ERROR)
            trace.span.end()


def link(span: Span, stored: Iterable[tuple[str, bytes]]) -> None:
    """Link a lookup's span to the traces that wrote what it found, by view and trace field."""
    for view, data in islice(stored, _LINKS):
        try:
            traceparent, time = decode_trace(data)
        except CodecError:
            continue
        if _is_traceparent(traceparent):
            context = _PROPAGATOR.extract({"traceparent": traceparent})
            span.add_link(
                get_current_span(context).get_span_context(), {VIEW: view, EVENT_TIME: time}
            )


def _is_traceparent(text: str) -> bool:
    parts = text.split("-")
    if len(text) != 55 or [len(part) for part in parts] != [2, 32, 16, 2]:
        return False
    try:
        numbers = [int(part, 16) for part in parts]
    except ValueError:
        return False
    return parts[0] == "00" and numbers[1] != 0 and numbers[2] != 0


class Telemetry(ASGIMiddleware):
    """A server span and two metrics for each request that goes through the framework."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, traces: Traces, metrics: ApiMetrics) -> None:
        self._traces = traces
        self._metrics = metrics

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Wrap `next_app`; the answer's start is what is timed."""
        request = cast(HTTPScope, scope)
        method, route = str(request["method"]), scope["path_template"] or "/"
        started = time.perf_counter()
        trace = self._traces.begin(request["headers"], method, route)
        answered = 500

        async def send_traced(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                headers: Any = MutableScopeHeaders.from_message(message)
                for name, value in trace.headers:
                    headers[name.decode()] = value.decode()
                self._metrics.requests.labels(method, route, answered).inc()
                self._metrics.request_seconds.labels(method, route).observe(
                    time.perf_counter() - started
                )
            await send(message)

        try:
            await next_app(scope, receive, send_traced)
        finally:
            self._traces.end(trace, answered)
