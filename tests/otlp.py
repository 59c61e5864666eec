"""An OTLP/HTTP receiver within the test's process, which keeps what it gets in a file as well."""

from __future__ import annotations

from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def _attributes(pairs) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@dataclass(frozen=True)
class Received:
    """A span, its ids as hexadecimal, its times as nanoseconds since 1970."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    attributes: dict[str, object]
    links: tuple[tuple[str, str, dict[str, object]], ...]
    """Trace, span and attributes of each."""

    @classmethod
    def of(cls, service: str, span: Span) -> Received:
        """The span of the protocol."""
        links = ((x.trace_id.hex(), x.span_id.hex(), _attributes(x.attributes)) for x in span.links)
        return cls(
            service,
            span.name,
            Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            _attributes(span.attributes),
            tuple(links),
        )


class Receiver:
    """Listens on a free port of the loopback; each request is a line of `file`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._spans: list[Received] = []
        self._lock = Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path != "/v1/traces":
                    self.send_error(404)
                    return
                receiver.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request."""
        found = [
            Received.of(str(_attributes(of.resource.attributes)["service.name"]), span)
            for of in request.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += found
            with self.file.open("a", encoding="utf-8") as out:
                out.write(MessageToJson(request, indent=None) + "\n")

    def of(self, *services: str) -> list[Received]:
        """The spans of those services, as they came."""
        with self._lock:
            return [span for span in self._spans if span.service in services]

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
