"""Traces: always made, so that every answer has a trace id; exported only where asked for."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Base address of an OTLP/HTTP collector; spans are exported only if it is set."""


def tracer_provider(service: str, environ: Mapping[str, str]) -> TracerProvider:
    """A provider for `service`; whoever takes it calls its `shutdown()`, which flushes."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), shutdown_on_exit=False
    )
    if endpoint := environ.get(OTLP_ENDPOINT):
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
