"""A change of what is registered is served within seconds, whole, and without a failed lookup."""

from __future__ import annotations

import json
import logging
from threading import Event, Thread

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from connectors.registered import (
    DIGEST,
    DOCUMENT,
    RegisteredError,
    decode,
    encode,
    registered_key,
    served,
)
from feature_repo.flights.repository import repository as flights
from observability.logs import TRACE_ID, JsonLines
from schemas import FeatureService, Repository
from tests.conftest import eventually
from tests.served import served as running_api
from tests.test_api import BADGE, NAMED, NOW, SHOP, SPEND, RedisServer

BIGGER = Repository("shop", (SPEND, BADGE, NAMED), (FeatureService("buys", (SPEND, NAMED)),))


@pytest.fixture
def server(tmp_path):
    running = RedisServer(tmp_path)
    yield running
    running.client.close()
    running.stop()


def register(server, repository):
    digest, document = encode(served(repository))
    key = registered_key("shop")
    server.client.hset(key, mapping={DIGEST: digest, DOCUMENT: document})


def services(url):
    (found,) = requests.get(f"{url}/v1/feature-services", timeout=5).json()
    return found["features"]


@pytest.mark.parametrize("repository", [SHOP, BIGGER, flights])
def test_a_document_comes_back_as_it_was(repository):
    digest, document = encode(served(repository))
    assert decode(document) == served(repository)
    assert encode(decode(document)) == (digest, document)


@given(st.binary())
def test_any_other_document_is_refused(data):
    with pytest.raises(RegisteredError):
        decode(data)


def test_what_is_registered_is_served_within_seconds_and_never_mixed(server, tmp_path):
    server.write(SPEND, {"user": 7}, NOW, count_1h=3, price_mean_1h=12.5)
    server.write(NAMED, {"user": 7}, NOW, page="home")
    with running_api(tmp_path, server.url) as api:
        seen, stop = [], Event()

        def ask_on():
            body = {"service": "buys", "entities": [{"user": 7}]}
            both = {"service": "buys", "entities": [{"user": 7, "page": "home"}]}
            with requests.Session() as session:
                while not stop.is_set():
                    for one in (body, both):
                        answer = session.post(f"{api.url}/v1/features", json=one, timeout=5)
                        seen.append((answer.status_code, answer.text))

        asking = Thread(target=ask_on)
        asking.start()
        try:
            assert "visits:count_1h" in services(api.url)
            for repository, name in ((BIGGER, "named:page"), (SHOP, "visits:count_1h")) * 2:
                register(server, repository)
                assert eventually(lambda name=name: name in services(api.url), 20)
        finally:
            stop.set()
            asking.join(10)
        good = {text for status, text in seen if status == 200}
        assert {status for status, _ in seen} == {200, 400}  # each service wants its own keys
        assert good == {
            '{"features":["spend:count_1h","spend:price_mean_1h","visits:count_1h"],'
            '"rows":[[3,12.5,null]]}',
            '{"features":["spend:count_1h","spend:price_mean_1h","named:page"],'
            '"rows":[[3,12.5,"home"]]}',
        }
        server.client.hset(registered_key("shop"), mapping={DIGEST: "x", DOCUMENT: "{}"})
        refused = 'headwater_api_reloads_total{result="refused"} 1.0'
        assert eventually(lambda: refused in requests.get(f"{api.url}/metrics", timeout=5).text, 20)
        assert "visits:count_1h" in services(api.url)
        lines = [json.loads(line) for line in api.log.splitlines() if line[:1] == "{"]
        (told,) = [line for line in lines if line["level"] == "error"]
        assert (told["service"], told["logger"]) == ("headwater-api", "api.serving")
        assert "does not hold" in told["message"]


def test_a_line_of_the_log_has_its_trace():
    record = logging.makeLogRecord({"msg": "gone: %s", "args": ("x",), TRACE_ID: "0af7"})
    line = json.loads(JsonLines("test").format(record))
    assert (line["message"], line["trace_id"]) == ("gone: x", "0af7")


def test_a_server_that_starts_later_serves_what_is_registered(server, tmp_path):
    register(server, BIGGER)
    with running_api(tmp_path, server.url) as api:
        assert "named:page" in services(api.url)


def test_a_stop_lets_what_is_being_answered_be_answered(server, tmp_path):
    """Redis answers only after the server was told to stop; the lookup gets its answer."""
    server.write(BADGE, {"user": 7}, NOW, member=True)
    with running_api(tmp_path, server.url) as api:
        body = {"features": ["badge:member"], "entities": [{"user": 7}]}
        assert requests.post(f"{api.url}/v1/features", json=body, timeout=5).status_code == 200
        server.client.execute_command("CLIENT", "PAUSE", "400")
        answers = []

        def ask():
            answers.append(requests.post(f"{api.url}/v1/features", json=body, timeout=5))

        asking = Thread(target=ask)
        asking.start()
        within = "headwater_api_requests_in_flight 1.0"
        assert eventually(lambda: within in requests.get(f"{api.url}/metrics", timeout=5).text, 5)
        api.process.terminate()
        asking.join(10)
        assert api.process.wait(15) in (0, -15)
        assert [answer.status_code for answer in answers] == [200]
