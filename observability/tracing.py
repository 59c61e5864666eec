"""Traces: always made, so that every answer has a trace id; exported only where asked for.

A sampled event's trace goes from its producer by Kafka's headers through the job to the online
store, and a lookup that is traced itself is linked to it. No span says which entity it is of.

| span | service | kind | child of |
|---|---|---|---|
| `send <topic>` | `headwater-producer` | producer | |
| `process <view>` | `headwater-jobs` | consumer | `send` |
| `write <view>` | `headwater-jobs` | client | `process` |
| `POST <route>` | `headwater-api` | server | the caller's; linked to `write` |
| `redis HMGET` | `headwater-api` | client | `POST` |

The jobs' are made in the kernel, by `io.headwater.kernel.traces.OtlpSpans`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Base address of an OTLP/HTTP collector; spans are exported only if it is set."""

PRODUCER, JOBS, API = "headwater-producer", "headwater-jobs", "headwater-api"
"""The services' names."""

VIEW = "headwater.view"
"""Attribute: the feature view that a span or a link is about."""

EVENT_TIME = "headwater.event_time_ms"
"""Attribute: the event time of the row, milliseconds since 1970 UTC."""

SUPERSEDED = "headwater.superseded"
"""Attribute of a `write`: true if a newer row took its place before it was written."""

_random = random.Random()


def tracer_provider(service: str, environ: Mapping[str, str]) -> TracerProvider:
    """A provider for `service`; whoever takes it calls its `shutdown()`, which flushes."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), shutdown_on_exit=False
    )
    if endpoint := environ.get(OTLP_ENDPOINT):
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class SampledSend:
    """The span of one event, from when it is given to the producer until Kafka has it."""

    def __init__(self, span: Span) -> None:
        context = span.get_span_context()
        traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
        self._span = span
        self.headers: list[tuple[str, str | bytes | None]] = [("traceparent", traceparent)]

    def ended(self, partition: int | None, offset: int | None, error: str | None) -> None:
        """End the span, with the record's place in the log or the error."""
        if error is not None:
            self._span.set_status(StatusCode.ERROR, error)
        elif partition is not None and offset is not None:
            self._span.set_attribute("messaging.destination.partition.id", str(partition))
            self._span.set_attribute("messaging.kafka.offset", offset)
        self._span.end()


class Sends:
    """Begins a trace for the share `share`, 0 to 1, of the events that are sent."""

    def __init__(self, tracer: Tracer, share: float) -> None:
        self._tracer = tracer
        self._share = share

    def __call__(self, topic: str) -> SampledSend | None:
        """The span of an event for `topic`; None if it is not sampled."""
        if _random.random() >= self._share:
            return None
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
        }
        return SampledSend(
            self._tracer.start_span(f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes)
        )
