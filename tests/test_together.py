"""How an answer leaves the server: in one piece, also where one connection asks ahead."""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from tests.served import served
from tests.test_api import BADGE, NOW, RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.write(BADGE, {"user": 7}, NOW, member=True)
    yield server
    server.client.close()
    server.stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory, server):
    with served(tmp_path_factory.mktemp("api"), server.url) as running:
        yield running


def question(path="/v1/features", user=7):
    asked = {"features": ["badge:member"], "entities": [{"user": user}]}
    body = json.dumps(asked).encode() if path.startswith("/v1") else b""
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nhost: api\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def posted(body, *headers):
    """A lookup with more headers."""
    lines = ["POST /v1/features HTTP/1.1", "Host: api", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def connected(running):
    address = urlsplit(running.url)
    return socket.create_connection((address.hostname, address.port), 10)


def whole(data):
    """The answers in `data`, each a status and a body, and what is left."""
    found = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        size = int(sizes[0].partition(b":")[2])
        if len(rest) < size:
            break
        found.append((int(head.split()[1]), rest[:size]))
        data = rest[size:]
    return found, data


@pytest.mark.parametrize("user", [7, "no number"])
def test_a_lookups_answer_is_read_at_once(running, user):
    with connected(running) as one:
        for _ in range(20):
            one.sendall(question(user=user))
            answers, left = whole(one.recv(1 << 16))
            assert len(answers) == 1 and not left


def test_questions_asked_ahead_are_answered_in_their_order(running):
    with connected(running) as one:
        asked = [question(), question(path="/health/live"), question(user="x"), question()]
        one.sendall(b"".join(asked))
        data = b""
        while len(whole(data)[0]) < len(asked):
            received = one.recv(1 << 16)
            assert received
            data += received
    answers, left = whole(data)
    assert [status for status, _ in answers] == [200, 200, 400, 200]
    assert not left
    assert json.loads(answers[0][1])["rows"] == json.loads(answers[3][1])["rows"] == [[True]]


ASKED = b'{"features": ["badge:member"], "entities": [{"user": 7}]}'
OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")


def test_an_offer_of_another_protocol_is_passed_over(running):
    """As Java's HttpClient makes it with every request in plain text."""
    asked = posted(ASKED, *OFFER)
    with connected(running) as one:
        for pieces in ([asked], [asked[:-10], asked[-10:]], [asked, question()]):
            for piece in pieces:
                one.sendall(piece)
                time.sleep(0.05)
            wanted = 1 + pieces.count(question())
            data = b""
            while len(whole(data)[0]) < wanted:
                received = one.recv(1 << 16)
                assert received
                data += received
            answers, left = whole(data)
            assert [json.loads(body)["rows"] for _, body in answers] == [[[True]]] * wanted
            assert not left


def test_an_offer_that_is_seen_too_late_is_refused_and_nothing_after_it_is_read(running):
    asked = posted(ASKED, *OFFER)
    cut = asked.index(b"pgrade: h2c")
    with connected(running) as one:
        one.sendall(asked[:cut])
        time.sleep(0.1)
        one.sendall(asked[cut:] + question(path="/health/live"))
        data = b""
        while received := one.recv(1 << 16):
            data += received
    answers, left = whole(data)
    assert [status for status, _ in answers] == [400] and not left


def test_a_connection_without_a_head_is_closed(tmp_path, server):
    """Whoever sends none holds no place, and a slow body has its own limit."""
    program = "import api.together as t; t.HEAD_SECONDS = 0.5; from api.server import main; main()"
    with served(tmp_path, server.url, program=program) as running:
        for beginning in (b"", b"\r\n", b"POST /v1/fea", question() + b"\r\n"):
            with connected(running) as one:
                one.sendall(beginning)
                one.settimeout(10)
                while one.recv(1 << 16):
                    pass
        with connected(running) as one:
            for _ in range(4):  # kept alive, and asked again well after the limit
                one.sendall(question())
                assert whole(one.recv(1 << 16))[0][0][0] == 200
                time.sleep(0.2)


def test_a_client_that_goes_while_it_is_answered_leaves_the_others_alone(running):
    for _ in range(20):
        with connected(running) as gone:
            gone.sendall(question())
    with connected(running) as one:
        one.sendall(question())
        assert whole(one.recv(1 << 16))[0][0][0] == 200
    assert "Traceback" not in running.log
