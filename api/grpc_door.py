"""The gRPC door: the same lookups, limits and callers as over HTTP, on a port of its own."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from api.auth import Gatekeeper, Principal
from api.door import MAX_BODY, Gate
from api.errors import (
    Forbidden,
    Overloaded,
    RequestError,
    StoreUnavailable,
    TooMany,
    Unauthenticated,
)
from api.lookup import FeatureLookup, Found, rows_of
from api.messages import FeatureValue
from api.plan import Key
from api.protocol import features_pb2 as pb
from api.store import OnlineStore
from api.telemetry import Trace, Traces, current
from connectors.redis_codec import Value
from observability.logs import TRACE_ID
from observability.metrics import ApiMetrics
from schemas import Type

SERVICE = pb.DESCRIPTOR.services_by_name["Features"].full_name
_METHOD = f"/{SERVICE}/LookUp"
_GRACE_SECONDS = 5.0
_WATCH_SECONDS = 1.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUSES = {
    "present": pb.STATUS_PRESENT,
    "missing": pb.STATUS_MISSING,
    "stale": pb.STATUS_STALE,
    "unreadable": pb.STATUS_UNREADABLE,
    "replaying": pb.STATUS_REPLAYING,
}
_FILLING: dict[Type, Value] = {
    Type.FLOAT64: 0.0,
    Type.INT64: 0,
    Type.TIMESTAMP: 0,
    Type.STRING: "",
    Type.BOOL: False,
}

_AS_HTTP = {
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""Of the codes that are our fault: the status that a span of the other doors has."""

_log = logging.getLogger(__name__)

Context = Any  # grpc.aio.ServicerContext, which has no types


@dataclass(frozen=True)
class GrpcAddress:
    """Where to listen, as host:port; without `credentials` in plain text."""

    listen: str
    credentials: grpc.ServerCredentials | None = None


class GrpcDoor:
    """A server that answers `headwater.v1.Features`, health checks and reflection."""

    def __init__(
        self,
        lookup: FeatureLookup,
        store: OnlineStore,
        gatekeeper: Gatekeeper,
        gate: Gate,
        traces: Traces,
        metrics: ApiMetrics,
        address: GrpcAddress,
    ) -> None:
        self._lookup = lookup
        self._store = store
        self._gatekeeper = gatekeeper
        self._gate = gate
        self._traces = traces
        self._metrics = metrics
        self._address = address
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen; on the event loop that calls it."""
        server = grpc.aio.server(options=(("grpc.max_receive_message_length", MAX_BODY),))
        # Bytes come in as they are, so that foreign ones are the caller's error and not ours.
        method = grpc.unary_unary_rpc_method_handler(self._look_up)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"LookUp": method}),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(_Health(self._store), server)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
        if self._address.credentials is None:
            server.add_insecure_port(self._address.listen)
        else:
            server.add_secure_port(self._address.listen, self._address.credentials)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Take no more, and answer what is being answered."""
        if self._server is not None:
            await self._server.stop(_GRACE_SECONDS)

    async def _look_up(self, data: bytes, context: Context) -> bytes:
        started = time.perf_counter()
        headers = [
            (k.encode(), v if isinstance(v, bytes) else v.encode())
            for k, v in context.invocation_metadata() or ()
        ]
        trace = self._traces.begin(headers, "gRPC", _METHOD)
        code, text, trailing = grpc.StatusCode.OK, "", [("x-trace-id", trace.trace_id)]
        reply = b""
        try:
            principal = await self._gatekeeper.principal(headers)
            principal.spend()
            self._gate.enter()
            try:
                if trace.span is None:
                    reply = await self._answer(data, trace, principal)
                else:
                    with current(trace.span):
                        reply = await self._answer(data, trace, principal)
            finally:
                self._gate.leave()
        except Exception as error:
            code, text, retry = _status(error)
            if retry:
                trailing.append(("retry-after", str(math.ceil(retry))))
            if code is grpc.StatusCode.INTERNAL:
                _log.error("unexpected error", exc_info=error, extra={TRACE_ID: trace.trace_id})
        except asyncio.CancelledError:
            code = _given_up(context)
            raise
        finally:
            seconds = time.perf_counter() - started
            self._metrics.requests.labels("gRPC", _METHOD, code.name).inc()
            self._metrics.request_seconds.labels("gRPC", _METHOD).observe(seconds)
            self._traces.end(trace, _AS_HTTP.get(code, 200))
        context.set_trailing_metadata(tuple(trailing))
        if code is not grpc.StatusCode.OK:
            await context.abort(code, text, tuple(trailing))
        return reply

    async def _answer(self, data: bytes, trace: Trace, principal: Principal) -> bytes:
        try:
            request = pb.LookUpRequest.FromString(data)
        except DecodeError:
            raise RequestError("$", "not a LookUpRequest", len(data)) from None
        service = request.service or None
        selection = self._lookup.stored(service, list(request.features) or None, principal)
        rows = _rows(request.keys)
        found = await self._lookup.find(selection, rows, trace)
        columns = _described(found) if request.include_metadata else _lean(found)
        reply = pb.LookUpReply(columns=columns, answered_at_ms=round(found.now * 1000))
        return bytes(reply.SerializeToString())


def _rows(keys: Sequence[pb.KeyColumn]) -> list[dict[str, Key]]:
    columns: dict[str, Sequence[Key]] = {}
    for place, column in enumerate(keys):
        path = f"$.keys[{place}]"
        if column.key in columns:
            raise RequestError(f"{path}.key", "is there twice", column.key)
        which = column.WhichOneof("values")
        if which is None:
            raise RequestError(f"{path}.values", "missing", None, ("texts", "integers"))
        columns[column.key] = getattr(column, which).values
    return rows_of(columns, "$.keys")


def _lean(found: Found) -> list[pb.Column]:
    return [
        _column(column.name, column.type, values)
        for column, values in zip(found.selection.columns, found.columns(), strict=True)
    ]


def _described(found: Found) -> list[pb.Column]:
    result = []
    described: list[list[FeatureValue]] = found.with_metadata()
    for column, values in zip(found.selection.columns, described, strict=True):
        made = _column(column.name, column.type, [one.value for one in values])
        made.event_times_ms.extend(
            0 if t is None else round((t - _EPOCH).total_seconds() * 1000)
            for t in (one.event_time for one in values)
        )
        made.statuses.extend(_STATUSES[one.status] for one in values)
        result.append(made)
    return result


def _column(name: str, type_: Type, values: Sequence[Value]) -> pb.Column:
    nulls = [place for place, value in enumerate(values) if value is None]
    if nulls:
        filling = _FILLING[type_]
        values = [filling if value is None else value for value in values]
    column = pb.Column(feature=name, nulls=nulls)
    known: Any = values
    match type_:
        case Type.FLOAT64:
            column.doubles.CopyFrom(pb.Doubles(values=known))
        case Type.STRING:
            column.texts.CopyFrom(pb.Texts(values=known))
        case Type.BOOL:
            column.flags.CopyFrom(pb.Flags(values=known))
        case _:
            column.integers.CopyFrom(pb.Integers(values=known))
    return column


def _given_up(context: Context) -> grpc.StatusCode:
    """Why nobody waits for an answer any more: it was late, or its caller has gone."""
    left = context.time_remaining()
    is_late = left is not None and left <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED


def _status(error: Exception) -> tuple[grpc.StatusCode, str, float]:
    """The status of an error, what is told of it, and when to try again, in seconds."""
    match error:
        case RequestError():
            return grpc.StatusCode.INVALID_ARGUMENT, str(error), 0.0
        case Unauthenticated():
            return grpc.StatusCode.UNAUTHENTICATED, str(error), 0.0
        case Forbidden():
            return grpc.StatusCode.PERMISSION_DENIED, str(error), 0.0
        case TooMany():
            return grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), error.retry_seconds
        case Overloaded():
            return grpc.StatusCode.UNAVAILABLE, str(error), 1.0
        case StoreUnavailable():
            return grpc.StatusCode.UNAVAILABLE, str(error), error.retry_seconds
    text = "an unexpected error; the log has it under this answer's trace id"
    return grpc.StatusCode.INTERNAL, text, 0.0


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Serving while Redis answers."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    async def Check(self, request: Any, context: Context) -> Any:
        """The state of the whole, or of the service; NOT_FOUND of any other."""
        if request.service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"choices: {SERVICE}")
        return await self._state()

    async def Watch(self, request: Any, context: Context) -> AsyncIterator[Any]:
        """The state, and again whenever it is another."""
        known = None
        while True:
            state = await self._state()
            if request.service not in ("", SERVICE):
                state.status = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if state != known:
                known = state
                yield state
            await asyncio.sleep(_WATCH_SECONDS)

    async def _state(self) -> Any:
        try:
            await self._store.ping()
        except StoreUnavailable:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
