"""One trace from a producer through Kafka, the job and Redis to the HTTP answer, span by span."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
import requests

from connectors.producer import produce
from connectors.redis_codec import (
    decode_event_time,
    decode_trace,
    entity_key,
    timestamp_field,
    trace_field,
)
from observability.tracing import (
    API,
    EVENT_TIME,
    JOBS,
    OTLP_ENDPOINT,
    PRODUCER,
    VIEW,
    Sends,
    tracer_provider,
)
from schemas.history import History
from tests.conftest import ROOT, eventually
from tests.ports import free_port
from tests.shop import visit_counts, visits

history = History(
    {
        "visits": lambda: [
            {"event_time": round(time.time() * 1000), "customer": "recorded wanderer"}
        ]
    },
    {},
    {},
    Path("there/is/none.sql"),
)
"""What `headwater produce` sends here."""

CALLER = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


@pytest.fixture(scope="module", autouse=True)
def submitted(shop):
    """Its jobs run, also after a test that loses the cluster."""
    done = shop.headwater("jobs", "submit")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", autouse=True)
def heartbeat(shop):
    """What lets values come while no event follows."""
    process = subprocess.Popen(
        [sys.executable, "-m", "headwater", "heartbeat"], cwd=ROOT, env=shop.environ
    )
    yield
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.fixture(scope="module")
def api(shop, receiver, tmp_path_factory):
    """The shop's API, its traces going to the receiver; its address."""
    log = tmp_path_factory.mktemp("api") / "log"
    port = free_port()
    environ = {
        "PATH": os.environ["PATH"],
        "HEADWATER_REPOSITORY": shop.environ["HEADWATER_REPOSITORY"],
        "HEADWATER_REDIS_URL": shop.settings.redis_url,
        "HEADWATER_API_PORT": str(port),
        "HEADWATER_AUTH": "off",
        OTLP_ENDPOINT: receiver.url,
    }
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.server"], cwd=ROOT, env=environ, stdout=out, stderr=out
        )
    url = f"http://127.0.0.1:{port}"

    def is_up():
        try:
            return requests.get(f"{url}/health/ready", timeout=5).ok
        except requests.ConnectionError:
            return False

    assert eventually(is_up), log.read_text()
    yield url
    process.terminate()
    process.wait(20)


def visit(shop, receiver, customer, share):
    """One event, traced or not, until its value can be read; its time."""
    traces = tracer_provider(PRODUCER, {OTLP_ENDPOINT: receiver.url})
    at = round(time.time() * 1000)
    event = {"event_time": at, "customer": customer}
    sample = Sends(traces.get_tracer("test"), share)
    assert produce(shop.settings.kafka_access, {visits: [event]}, sample=sample).counts["visits"]
    traces.shutdown()
    wait_for(shop, customer, at)
    return at


def wait_for(shop, customer, at):
    """Until the value of that time can be read."""

    def has_come():
        newest = field(shop, customer, timestamp_field)
        return newest is not None and decode_event_time(newest) >= at

    assert eventually(has_come), customer


def ask(api, customer, flags):
    answer = requests.post(
        f"{api}/v1/features",
        json={"features": ["visit_counts:count_20s"], "entities": [{"customer": customer}]},
        headers={"traceparent": f"00-{'-'.join(CALLER)}-{flags}"},
        timeout=10,
    )
    assert answer.ok, answer.text
    return answer


def field(shop, customer, named):
    key = entity_key("shop", visit_counts.entities, {"customer": customer})
    with redis.Redis(port=shop.settings.ports.redis) as online:
        return online.hget(key, named(visit_counts.name))


def test_a_sampled_event_is_followed_to_the_answer(shop, receiver, api):
    # The one before it leaves nothing, and the one after it does not take its place.
    visit(shop, receiver, "plain wanderer", 0)
    assert field(shop, "plain wanderer", trace_field) is None
    at = visit(shop, receiver, "sampled wanderer", 1)
    assert eventually(lambda: len(receiver.of(JOBS)) == 2), receiver.of(JOBS)
    stored = field(shop, "sampled wanderer", trace_field)
    ask(api, "sampled wanderer", "00")  # decided by its caller: nothing of it is recorded
    ask(api, "sampled wanderer", "01")
    ask(api, "plain wanderer", "01")

    def answered():
        return len([span for span in receiver.of(API) if span.trace_id == CALLER[0]]) == 4

    assert eventually(answered), receiver.of(API)
    (send,) = receiver.of(PRODUCER)
    process, write = receiver.of(JOBS)
    asked = [span for span in receiver.of(API) if span.trace_id == CALLER[0]]
    requests_ = [span for span in asked if span.name == "POST /v1/features"]
    linked, other = sorted(requests_, key=lambda span: span.start)
    reads = {span.parent_id: span for span in asked if span.name == "redis HMGET"}

    assert (send.name, send.kind, send.parent_id) == ("send shop.visits", "PRODUCER", "")
    assert send.attributes.pop("messaging.kafka.offset") >= 0
    assert send.attributes.pop("messaging.destination.partition.id") in ("0", "1")
    assert send.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.destination.name": visits.topic,
    }

    assert (process.name, process.kind) == ("process visit_counts", "CONSUMER")
    assert (process.trace_id, process.parent_id) == (send.trace_id, send.span_id)
    assert process.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        VIEW: "visit_counts",
        EVENT_TIME: at,
    }

    assert (write.name, write.kind) == ("write visit_counts", "CLIENT")
    assert (write.trace_id, write.parent_id) == (send.trace_id, process.span_id)
    assert write.attributes.pop("db.operation.batch.size") >= 1
    assert write.attributes == {"db.system.name": "redis", VIEW: "visit_counts", EVENT_TIME: at}
    assert decode_trace(stored) == (f"00-{write.trace_id}-{write.span_id}-01", at)

    for request in (linked, other):
        assert (request.trace_id, request.parent_id, request.kind) == (*CALLER, "SERVER")
        assert request.attributes == {
            "http.request.method": "POST",
            "http.route": "/v1/features",
            "http.response.status_code": 200,
        }
        read = reads.pop(request.span_id)
        assert (read.trace_id, read.kind) == (CALLER[0], "CLIENT")
        assert read.links == ()
    assert linked.links == (
        (write.trace_id, write.span_id, {VIEW: "visit_counts", EVENT_TIME: at}),
    )
    assert other.links == ()
    assert not reads

    spans = (send, process, write, linked)
    moments = [send.start, process.start, process.end, write.start, write.end, linked.start]
    assert moments == sorted(moments), moments
    assert all(span.start <= span.end for span in spans)


def test_a_newer_event_that_is_not_sampled_leaves_the_trace(shop, receiver):
    before = field(shop, "sampled wanderer", trace_field)
    visit(shop, receiver, "sampled wanderer", 0)
    assert field(shop, "sampled wanderer", trace_field) == before
    assert len(receiver.of(JOBS)) == 2
    assert len(receiver.of(PRODUCER)) == 1


def test_a_job_whose_view_is_summed_up_does_not_go_on_untraced(shop):
    untraced = {"HEADWATER_REPOSITORY": "tests.shop:untraced"}
    shop.must("jobs", "stop", "shop-visits")
    done = shop.headwater("jobs", "submit", "shop-visits", **untraced)
    assert done.returncode == 2, done.stdout
    assert "what it reads or how has changed" in done.stderr
    shop.must("jobs", "submit", "shop-visits")


def test_the_command_sends_traces_when_it_is_told_where_to(shop, receiver):
    jobs, producers, at = len(receiver.of(JOBS)), len(receiver.of(PRODUCER)), time.time() * 1000
    recorded = {"HEADWATER_HISTORY": "tests.test_trace:history", "HEADWATER_TRACED_EVENTS": "1"}
    shop.must("produce", "visits", **recorded)
    wait_for(shop, "recorded wanderer", at)
    assert field(shop, "recorded wanderer", trace_field) is not None
    assert eventually(lambda: len(receiver.of(JOBS)) == jobs + 2)
    assert len(receiver.of(PRODUCER)) == producers + 1


def test_no_span_says_whom_it_is_of(receiver):
    lines = receiver.file.read_text("utf-8").splitlines()
    assert all(json.loads(line)["resourceSpans"] for line in lines)
    assert not [line for line in lines if "wanderer" in line]
