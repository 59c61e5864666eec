"""Measures and traces each request; its trace id goes back in the headers."""

from __future__ import annotations

import time
from typing import cast

from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from observability.metrics import ApiMetrics

_PROPAGATOR = TraceContextTextMapPropagator()


class Telemetry(ASGIMiddleware):
    """A server span and two metrics for each request; goes on with a caller's `traceparent`."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, tracer: Tracer, metrics: ApiMetrics) -> None:
        self._tracer = tracer
        self._metrics = metrics

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Wrap `next_app`; the answer's start is what is timed."""
        method = str(cast(HTTPScope, scope)["method"])
        route = scope["path_template"] or "/"
        parent = _PROPAGATOR.extract(dict(Headers.from_scope(scope).items()))
        started = time.perf_counter()
        attributes = {"http.request.method": method, "http.route": route}
        with self._tracer.start_as_current_span(
            f"{method} {route}", context=parent, kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier)
            trace_id = f"{span.get_span_context().trace_id:032x}"

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    headers = MutableScopeHeaders.from_message(message)
                    headers["x-trace-id"] = trace_id
                    headers["traceparent"] = carrier["traceparent"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_status(StatusCode.ERROR)
                    self._metrics.requests.labels(method, route, status).inc()
                    self._metrics.request_seconds.labels(method, route).observe(
                        time.perf_counter() - started
                    )
                await send(message)

            await next_app(scope, receive, send_traced)
