"""What the API does when Redis fails it, and when it is asked for more than it can do."""

from __future__ import annotations

import signal
import socket
import struct
from threading import Thread

import pytest
from litestar.testing import TestClient

from api import create_app
from api.app import Limits
from api.breaker import Breaker
from api.resp import Redis
from api.store import FAILURES, connect
from schemas import SettingsError
from tests.conftest import eventually
from tests.test_api import BADGE, NOW, SHOP, RedisServer, ask_lean

ASK = {"features": ["badge:member"]}


@pytest.fixture
def server(tmp_path):
    running = RedisServer(tmp_path)
    running.write(BADGE, {"user": 7}, NOW, member=True)
    yield running
    running.client.close()
    running.stop()


def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_try():
    now = [0.0]
    breaker = Breaker(3, 1.0, lambda: now[0])
    for _ in range(2):
        assert breaker.wait() == 0
        breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.wait() == 0
        breaker.failed()
    assert breaker.wait() == 1.0
    now[0] = 0.75
    assert breaker.wait() == 0.25
    now[0] = 1.0
    assert breaker.wait() == 0  # this one tries
    assert breaker.wait() > 0  # the others go on being refused
    breaker.failed()
    assert breaker.wait() == 1.0
    now[0] = 2.0
    assert breaker.wait() == 0
    breaker.abandoned()
    assert breaker.wait() == 0  # who gave up has said nothing
    breaker.succeeded()
    assert breaker.wait() == breaker.wait() == 0


def test_a_redis_that_fails_again_and_again_is_left_alone_and_found_again(server):
    with TestClient(create_app(SHOP, connect(server.url), lambda: NOW)) as client:
        assert ask_lean(client, {"user": 7}, **ASK).json()["rows"] == [[True]]
        server.stop()
        for _ in range(FAILURES):
            answer = ask_lean(client, {"user": 7}, **ASK)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        answer = ask_lean(client, {"user": 7}, **ASK)
        assert answer.status_code == 503
        assert "did not answer the last requests" in answer.json()["detail"]
        server.start()
        server.write(BADGE, {"user": 7}, NOW, member=True)
        assert eventually(lambda: ask_lean(client, {"user": 7}, **ASK).status_code == 200, 10)


def test_more_lookups_than_can_be_answered_are_refused_at_once(server):
    app = create_app(SHOP, connect(server.url, 5.0), lambda: NOW, limits=Limits(at_once=1))
    with TestClient(app) as client:
        assert ask_lean(client, {"user": 7}, **ASK).status_code == 200
        server.process.send_signal(signal.SIGSTOP)
        answers = []
        waiting = Thread(target=lambda: answers.append(ask_lean(client, {"user": 7}, **ASK)))
        waiting.start()
        within = "headwater_api_requests_in_flight 1.0"
        assert eventually(lambda: within in client.get("/metrics").text, 5)
        refused = ask_lean(client, {"user": 7}, **ASK)
        server.process.send_signal(signal.SIGCONT)
        waiting.join(10)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["type"] == "urn:headwater:problem:overloaded"
        assert answers[0].json()["rows"] == [[True]]
        assert ask_lean(client, {"user": 7}, **ASK).status_code == 200
        text = client.get("/metrics").text
    assert 'headwater_api_refused_requests_total{reason="overload"} 1.0' in text


def test_a_redis_that_is_loading_or_wants_a_password_is_a_503_that_says_so(server):
    server.client.config_set("requirepass", "secret")
    with TestClient(create_app(SHOP, connect(server.url), lambda: NOW)) as client:
        answer = ask_lean(client, {"user": 7}, {"user": 8}, **ASK)
        assert answer.status_code == 503
        assert "NOAUTH" in answer.json()["parts"]["redis"] or "EXECABORT" in answer.text
    url = server.url.replace("//", "//:secret@")
    with TestClient(create_app(SHOP, connect(url), lambda: NOW)) as client:
        assert ask_lean(client, {"user": 7}, **ASK).json()["rows"] == [[True]]
    with TestClient(create_app(SHOP, connect(url.replace("secret", "wrong")))) as client:
        answer = ask_lean(client, {"user": 7}, **ASK)
        assert answer.status_code == 503
        assert "wrong" not in answer.text
    server.client.config_set("requirepass", "")


def test_a_server_that_does_not_speak_redis_is_a_503():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def nonsense():
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        Thread(target=nonsense, daemon=True).start()
        url = f"redis://127.0.0.1:{listening.getsockname()[1]}"
        with TestClient(create_app(SHOP, connect(url), lambda: NOW)) as client:
            assert ask_lean(client, {"user": 7}, **ASK).status_code == 503


def test_a_connection_that_redis_cut_is_made_anew_without_a_failure(server):
    with TestClient(create_app(SHOP, connect(server.url), lambda: NOW)) as client:
        for _ in range(5):
            assert ask_lean(client, {"user": 7}, **ASK).status_code == 200
            server.client.client_kill_filter(_type="normal", skipme=True)


def test_a_connection_reset_in_mid_answer_is_tried_once_more(server):
    """A proxy before Redis resets the first connection when it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        resets = []

        def proxy():
            first, _ = listening.accept()
            first.recv(1 << 16)
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            first.close()
            resets.append(1)
            second, _ = listening.accept()
            with second, socket.create_connection(("127.0.0.1", server.port)) as redis:
                while asked := second.recv(1 << 16):
                    redis.sendall(asked)
                    second.sendall(redis.recv(1 << 16))

        Thread(target=proxy, daemon=True).start()
        url = f"redis://127.0.0.1:{listening.getsockname()[1]}"
        with TestClient(create_app(SHOP, connect(url), lambda: NOW)) as client:
            assert ask_lean(client, {"user": 7}, **ASK).json()["rows"] == [[True]]
    assert resets == [1]


@pytest.mark.parametrize("url", ["http://x", "redis://", "redis://h/name"])
def test_a_redis_url_that_is_none_is_refused(url):
    with pytest.raises(SettingsError):
        Redis(url, 1, 1)
