"""What the API reads while Redis fails over behind one address, with a real primary and replica."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from threading import Thread
from time import sleep

import pytest
from litestar.testing import TestClient

from api import create_app
from api.app import Limits
from api.store import connect
from tests.conftest import eventually
from tests.test_api import BADGE, NOW, SHOP, RedisServer, ask_lean

ASK = {"features": ["badge:member"]}
ANSWERS = "headwater_api_redis_answers"
NOBODY = 1
"""A port on which no primary is."""


class Address:
    """One address; connections go to where it leads when they are made, and stay there."""

    def __init__(self, port):
        self.leads_to = port
        self.door = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.door.getsockname()[1]}"
        self.sockets = [self.door]
        Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                near, _ = self.door.accept()
                far = socket.create_connection(("127.0.0.1", self.leads_to))
                self.sockets += (near, far)
                for ends in ((near, far), (far, near)):
                    Thread(target=self.carry, args=ends, daemon=True).start()

    def carry(self, source, sink):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def close(self):
        for one in self.sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def pair(tmp_path):
    """A primary and its replica, which has what the primary has."""
    servers = []
    for name in ("primary", "replica"):
        (tmp_path / name).mkdir()
        servers.append(RedisServer(tmp_path / name))
    primary, replica = servers
    primary.client.config_set("repl-diskless-sync-delay", 0)
    primary.write(BADGE, {"user": 7}, NOW, member=True)
    follow(replica, primary.port)
    assert eventually(lambda: replica.client.dbsize() == 1 and is_linked(replica), 10)
    yield primary, replica
    for server in servers:
        server.client.close()
        server.stop()


@pytest.fixture
def address(pair):
    address = Address(pair[0].port)
    yield address
    address.close()


def follow(server, port):
    server.client.execute_command("REPLICAOF", "127.0.0.1", port)


def is_linked(server):
    return server.client.info("replication")["master_link_status"] == "up"


def answers(client):
    """The gauge, and whether a lookup is answered."""
    (value,) = re.findall(rf"^{ANSWERS} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(value), ask_lean(client, {"user": 7}, **ASK).status_code


def test_lookups_follow_a_failover_and_none_fails(pair, address):
    """The old primary lives on as a replica that hears of nobody; the connection to it is open."""
    old, new = pair
    with TestClient(create_app(SHOP, connect(address.url), lambda: NOW)) as client:
        assert ask_lean(client, {"user": 7}, **ASK).json()["rows"] == [[True]]
        address.leads_to = new.port
        new.client.execute_command("REPLICAOF", "NO", "ONE")
        follow(old, NOBODY)
        new.write(BADGE, {"user": 7}, NOW + 1, member=False)
        statuses = set()

        def is_new():
            answer = ask_lean(client, {"user": 7}, **ASK)
            statuses.add(answer.status_code)
            return answer.json()["rows"] == [[False]]

        assert eventually(is_new, 5)
        assert statuses == {200}
        assert "headwater_api_redis_behind_seconds 0.0" in client.get("/metrics").text


def test_a_replica_is_not_read_until_it_is_the_primary(pair, caplog):
    _, replica = pair
    with TestClient(create_app(SHOP, connect(replica.url), lambda: NOW)) as client:
        for answer in (ask_lean(client, {"user": 7}, **ASK), client.get("/health/ready")):
            assert answer.status_code == 503
            assert "leads to a replica" in answer.text
        assert answers(client) == (0, 503)
        sleep(1.2)  # two more looks find what the first had found
        replica.client.execute_command("REPLICAOF", "NO", "ONE")
        assert eventually(lambda: ask_lean(client, {"user": 7}, **ASK).status_code == 200, 5)
        assert client.get("/health/ready").status_code == 200
        assert answers(client) == (1, 200)
    told = [record.getMessage() for record in caplog.records if record.name == "api.failover"]
    assert [text.partition(":")[0] for text in told] == [
        "redis is a replica now",
        "lookups are refused",
        "lookups are answered again",
    ]


def test_a_replica_is_read_as_long_as_it_hears_of_its_primary(pair):
    primary, replica = pair
    limits = Limits(behind_seconds=12)
    with TestClient(create_app(SHOP, connect(replica.url), lambda: NOW, limits=limits)) as client:
        assert ask_lean(client, {"user": 7}, **ASK).json()["rows"] == [[True]]
        assert "headwater_api_redis_behind_seconds 0.0" not in client.get("/metrics").text
    limits = Limits(behind_seconds=2)
    primary.stop()
    with TestClient(create_app(SHOP, connect(replica.url), lambda: NOW, limits=limits)) as client:
        assert eventually(lambda: ask_lean(client, {"user": 7}, **ASK).status_code == 503, 10)
        assert "s after it heard of its primary" in ask_lean(client, {"user": 7}, **ASK).text


def test_a_redis_that_does_not_say_what_it_is_is_read(pair):
    primary, _ = pair
    primary.client.execute_command(
        *("ACL", "SETUSER", "api", "on", "nopass", "~*", "-@all", "+hmget", "+hgetall"),
        *("+multi", "+exec", "+ping"),
    )
    url = primary.url.replace("//", "//api:any@")
    with TestClient(create_app(SHOP, connect(url), lambda: NOW)) as client:
        assert ask_lean(client, {"user": 7}, **ASK).json()["rows"] == [[True]]
        assert answers(client) == (1, 200)


def test_a_redis_that_is_away_does_not_answer_for_as_long_as_it_is(pair):
    """Nobody asks meanwhile, as where no instance is ready."""
    primary, _ = pair
    with TestClient(create_app(SHOP, connect(primary.url), lambda: NOW)) as client:
        assert answers(client) == (1, 200)
        primary.stop()
        assert eventually(lambda: answers(client)[0] == 0, 5)
        sleep(1.2)
        assert f"{ANSWERS} 0.0" in client.get("/metrics").text
        primary.start()
        assert eventually(lambda: answers(client)[0] == 1, 5)


def test_a_redis_that_knows_another_password_does_not_answer(pair):
    primary, _ = pair
    url = primary.url.replace("//", "//:yesterdays@")
    primary.client.config_set("requirepass", "todays")
    with TestClient(create_app(SHOP, connect(url), lambda: NOW)) as client:
        assert answers(client) == (0, 503)
