"""The gRPC door, asked by real clients, with the same answers as over HTTP."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from litestar.testing import TestClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from api import create_app
from api.auth import Guarded, PrincipalDocument, key_hash, new_key
from api.grpc_door import SERVICE, GrpcAddress
from api.protocol import features_pb2 as pb
from api.store import connect
from connectors.redis_codec import entity_key, feature_field
from tests.conftest import eventually
from tests.ports import free_port
from tests.test_api import BADGE, NAMED, NOW, ROW, SPEND, USER, VISITS, RedisServer, told_of
from tests.test_api import MIXED as SHOP

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    running.write(SPEND, ROW, NOW - 10, count_1h=3, price_mean_1h=12.5)
    running.write(SPEND, {"user": 8}, NOW, count_1h=0, price_mean_1h=None)
    running.write(BADGE, ROW, NOW - 61, member=True)
    running.write(NAMED, ROW, NOW, page="home")
    running.write(VISITS, ROW, NOW, count_1h=2)
    key = entity_key("shop", (USER,), {"user": 9})
    running.client.hset(key, feature_field("badge", "member"), b"\xff")
    yield running
    running.client.close()
    running.stop()


@pytest.fixture(scope="module")
def running(redis_server):
    address = f"127.0.0.1:{free_port()}"
    app = create_app(SHOP, connect(redis_server.url), lambda: NOW, grpc=GrpcAddress(address))
    with TestClient(app) as client, grpc.insecure_channel(address) as channel:
        yield client, channel


def look_up(channel, request, **metadata):
    call = channel.unary_unary(
        f"/{SERVICE}/LookUp",
        request_serializer=None
        if isinstance(request, bytes)
        else pb.LookUpRequest.SerializeToString,
        response_deserializer=pb.LookUpReply.FromString,
    )
    pairs = tuple((k.replace("_", "-"), v) for k, v in metadata.items())
    return call(request, timeout=10, metadata=pairs)


def users(*values):
    return pb.KeyColumn(key="user", integers=pb.Integers(values=values))


NAMES = ["spend:price_mean_1h", "badge:member", "named:page", "spend:count_1h"]


def test_the_values_are_those_of_http(running):
    client, channel = running
    reply = look_up(channel, pb.LookUpRequest(features=NAMES, keys=[users(7, 8, 10, 7)]))
    body = {"features": NAMES, "entities": [{"user": user} for user in (7, 8, 10, 7)]}
    known = client.post("/v1/features?orient=columns", json=body).json()
    assert [column.feature for column in reply.columns] == known["features"]
    for column, values in zip(reply.columns, known["columns"], strict=True):
        found = list(getattr(column, column.WhichOneof("values")).values)
        for place in column.nulls:
            found[place] = None
        assert found == values
    assert reply.columns[0].WhichOneof("values") == "doubles"
    assert reply.columns[1].WhichOneof("values") == "flags"
    assert not reply.columns[0].statuses


def test_metadata_tells_event_times_and_statuses(running):
    _, channel = running
    request = pb.LookUpRequest(
        features=["spend:price_mean_1h", "badge:member"],
        keys=[users(7, 8, 9)],
        include_metadata=True,
    )
    reply = look_up(channel, request)
    assert reply.answered_at_ms == NOW * 1000
    spend, badge = reply.columns
    assert list(spend.statuses) == [pb.STATUS_PRESENT, pb.STATUS_PRESENT, pb.STATUS_MISSING]
    assert list(spend.event_times_ms) == [(NOW - 10) * 1000, NOW * 1000, 0]
    assert list(badge.statuses) == [pb.STATUS_STALE, pb.STATUS_MISSING, pb.STATUS_UNREADABLE]


def test_a_service_takes_keys_of_two_types(running):
    _, channel = running
    pages = pb.KeyColumn(key="page", texts=pb.Texts(values=["home", "cart"]))
    request = pb.LookUpRequest(features=["visits:count_1h"], keys=[users(7, 7), pages])
    (column,) = look_up(channel, request).columns
    assert (list(column.integers.values), list(column.nulls)) == ([2, 0], [1])


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (pb.LookUpRequest(service="buy"), "$.service"),
        (pb.LookUpRequest(), "needs one of service and features"),
        (pb.LookUpRequest(features=["badge:membr"]), "did you mean 'badge:member'"),
        (
            pb.LookUpRequest(
                features=["badge:member"],
                keys=[pb.KeyColumn(key="user", texts=pb.Texts(values=["7"]))],
            ),
            "expected `int64`",
        ),
        (pb.LookUpRequest(features=["badge:member"], keys=[users(1), users(1)]), "twice"),
        (
            pb.LookUpRequest(features=["badge:member"], keys=[pb.KeyColumn(key="user")]),
            "$.keys[0].values",
        ),
        (pb.LookUpRequest(features=["badge:member"], keys=[users(*range(1001))]), "at most 1000"),
        (b"\xff\xff\xff", "not a LookUpRequest"),
    ],
)
def test_an_error_is_the_callers_and_says_what(running, request_, told):
    with pytest.raises(grpc.RpcError) as refused:
        look_up(running[1], request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in refused.value.details()


def test_the_trace_goes_on_and_comes_back(running):
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    call = running[1].unary_unary(f"/{SERVICE}/LookUp")
    request = pb.LookUpRequest(features=["badge:member"]).SerializeToString()
    _, done = call.with_call(request, metadata=(("traceparent", caller),), timeout=10)
    assert ("x-trace-id", caller[3:35]) in [(k, v) for k, v in done.trailing_metadata()]


def test_no_span_of_an_error_says_whom_it_was_of(redis_server):
    address, spans = f"127.0.0.1:{free_port()}", InMemorySpanExporter()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(spans))
    app = create_app(
        SHOP, connect(redis_server.url), lambda: NOW, traces, grpc=GrpcAddress(address)
    )
    whose = pb.KeyColumn(key="user", texts=pb.Texts(values=["whose"]))
    with TestClient(app), grpc.insecure_channel(address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            look_up(channel, pb.LookUpRequest(features=["badge:member"], keys=[whose]))
        assert "whose" in refused.value.details()
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.UNSET
    assert (span.events, "whose" in told_of(span)) == ((), False)


@pytest.mark.parametrize(
    ("seconds", "code", "status"), [(0.2, "DEADLINE_EXCEEDED", 504), (None, "CANCELLED", 200)]
)
def test_a_lookup_that_nobody_waits_for_any_more_is_counted(tmp_path, seconds, code, status):
    """With its time and its span: Redis stands still until the deadline, or the caller, is gone."""
    server, address = RedisServer(tmp_path), f"127.0.0.1:{free_port()}"
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(exporter := InMemorySpanExporter()))
    app = create_app(SHOP, connect(server.url, 5), lambda: NOW, traces, grpc=GrpcAddress(address))
    request = pb.LookUpRequest(features=["badge:member"], keys=[users(7)]).SerializeToString()
    labels = f'method="gRPC",route="/{SERVICE}/LookUp"'
    with TestClient(app) as client, grpc.insecure_channel(address) as channel:
        server.process.send_signal(signal.SIGSTOP)
        call = channel.unary_unary(f"/{SERVICE}/LookUp").future(request, timeout=seconds)
        if seconds is None:
            time.sleep(0.2)
            call.cancel()
        else:
            assert call.code().name == code

        def told():
            text = client.get("/metrics").text
            return f'headwater_api_requests_total{{{labels},status="{code}"}} 1.0' in text and text

        assert f"headwater_api_request_seconds_count{{{labels}}} 1.0" in eventually(told, 5)
        spans = [one for one in exporter.get_finished_spans() if one.name.startswith("gRPC")]
    server.stop()
    server.client.close()
    assert [one.attributes["http.response.status_code"] for one in spans] == [status]


def test_health_and_reflection_are_the_standard_ones(running):
    channel = running[1]
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as refused:
        stub.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=10)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    database = ProtoReflectionDescriptorDatabase(channel)
    assert SERVICE in database.get_services()
    described = DescriptorPool(database).FindServiceByName(SERVICE)
    assert [method.name for method in described.methods] == ["LookUp"]


def test_random_bytes_and_mutated_requests_are_never_our_error(running):
    """Bounded fuzz: each is an answer or the caller's mistake, and the door stays open."""
    channel = running[1]
    rng = random.Random(6)
    good = pb.LookUpRequest(
        features=NAMES, keys=[users(7, 8)], include_metadata=True
    ).SerializeToString()
    fine = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
    call = channel.unary_unary(f"/{SERVICE}/LookUp")
    seen = set()
    for _ in range(1500):
        data = bytearray(good if rng.random() < 0.7 else rng.randbytes(rng.randrange(200)))
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data) + 1) :]
        try:
            call(bytes(data), timeout=10)
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()
        seen.add(code)
        assert code in fine, (code, bytes(data))
    assert seen == fine
    assert look_up(channel, pb.LookUpRequest(features=NAMES, keys=[users(7)])).columns


def test_redis_down_is_unavailable_and_not_serving(tmp_path):
    server = RedisServer(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    app = create_app(SHOP, connect(server.url), lambda: NOW, grpc=GrpcAddress(address))
    request = pb.LookUpRequest(features=["badge:member"], keys=[users(7)])
    with TestClient(app), grpc.insecure_channel(address) as channel:
        assert look_up(channel, request).columns
        server.stop()
        with pytest.raises(grpc.RpcError) as refused:
            look_up(channel, request)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "retry-after" in dict(refused.value.trailing_metadata())
        check = health_pb2_grpc.HealthStub(channel).Check
        answer = check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.start()
        assert look_up(channel, request).columns
    server.client.close()
    server.stop()


def test_the_same_callers_may_ask_for_the_same(redis_server):
    key = new_key()
    gatekeeper = Guarded([PrincipalDocument("model", ["badge"], key_hash(key))])
    address = f"127.0.0.1:{free_port()}"
    app = create_app(
        SHOP,
        connect(redis_server.url),
        lambda: NOW,
        gatekeeper=gatekeeper,
        grpc=GrpcAddress(address),
    )
    mine = pb.LookUpRequest(features=["badge:member"], keys=[users(7)])
    other = pb.LookUpRequest(features=["spend:count_1h"], keys=[users(7)])
    with TestClient(app), grpc.insecure_channel(address) as channel:
        assert look_up(channel, mine, x_api_key=key).columns[0].flags.values == [True]
        for request, metadata, code in (
            (mine, {}, grpc.StatusCode.UNAUTHENTICATED),
            (mine, {"x_api_key": new_key()}, grpc.StatusCode.UNAUTHENTICATED),
            (other, {"x_api_key": key}, grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                look_up(channel, request, **metadata)
            assert refused.value.code() is code


def test_the_protocols_python_is_what_protoc_makes(tmp_path):
    source = "api/protocol/features.proto"
    where = ["-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", source]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *where], cwd=ROOT, check=True)
    for name in ("features_pb2.py", "features_pb2.pyi"):
        made = (tmp_path / "api" / "protocol" / name).read_text("utf-8")
        assert made == (ROOT / "api" / "protocol" / name).read_text("utf-8"), name
