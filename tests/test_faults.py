"""What the API does when Redis fails it, and when it is asked for more than it can do."""

from __future__ import annotations

import select
import signal
import socket
import struct
import time
from contextlib import contextmanager
from threading import Thread

import pytest
import uvicorn
from litestar.testing import TestClient

from api import create_app
from api.app import Limits, entrance
from api.breaker import Breaker
from api.resp import Redis
from api.store import FAILURES, connect
from api.together import Protocol
from schemas import SettingsError
from tests.conftest import eventually
from tests.test_api import BADGE, NOW, SHOP, RedisServer, ask_lean
from tests.test_together import question, whole

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


@contextmanager
def listening(app):
    """`app` behind the server that it has in production; the port it listens on."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        config = uvicorn.Config(
            entrance(app), http=Protocol, log_config=None, timeout_graceful_shutdown=1
        )
        running = uvicorn.Server(config)
        thread = Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            assert eventually(lambda: running.started, 10)
            yield bound.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join(10)


def answered(*pieces, port, seconds=0.0):
    """The status of the answer to a request that is sent in pieces, so long after each other."""
    with socket.create_connection(("127.0.0.1", port), 10) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            one.sendall(piece)
            time.sleep(seconds)
        ((status, _),), _ = whole(one.recv(1 << 16))
    return status


def test_bodies_that_do_not_come_keep_nobody_else_from_an_answer(server):
    """There are more of them than are waited for; those that are end with 408."""
    limits = Limits(at_once=2, body_seconds=3.0)
    head, _, body = question().partition(b"{")
    with listening(create_app(SHOP, connect(server.url), lambda: NOW, limits=limits)) as port:
        slow = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(8)]
        for place, one in enumerate(slow):
            one.sendall(head + b"{" * (place % 2))
        assert eventually(lambda: len(select.select(slow, [], [], 0)[0]) == 4, 2.5)
        assert answered(head + b"{" + body, port=port) == 200
        statuses = []
        for one in slow:
            with one:
                ((status, told),), left = whole(one.recv(1 << 16))
                statuses.append(status)
                if status == 408:
                    assert (left, one.recv(1)) == (b"", b""), "and its connection ends"
                    assert b"too-slow" in told and b'"limit":3.0' in told
        assert sorted(statuses) == [408] * 4 + [503] * 4
        assert answered(head, b"{" + body, port=port, seconds=0.05) == 200


def test_a_body_that_is_still_coming_is_put_together(server):
    with listening(create_app(SHOP, connect(server.url), lambda: NOW)) as port:
        asked = question()
        for cut in (10, len(asked) - 5):
            assert answered(asked[:cut], asked[cut:], port=port, seconds=0.05) == 200
        size = len(asked.partition(b"{")[2]) + 1
        large = asked.replace(b"content-length: %d" % size, b"content-length: 2000000")
        assert answered(large, b" " * 1_100_000, port=port) == 413


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
