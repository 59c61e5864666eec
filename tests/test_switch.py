"""What the API answers while a replay's values are put in the place of live ones."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from threading import Thread

import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.store import connect
from connectors.promotion import NOTICE_SECONDS, switch_key, until_field
from connectors.redis_codec import (
    encode_event_time,
    encode_value,
    entity_key,
    epoch_field,
    feature_field,
    timestamp_field,
)
from tests.test_api import BADGE, NOW, SHOP, SPEND, server  # noqa: F401

USERS = range(300)
FEATURES = ["spend:count_1h", "badge:member"]
OLD, NEW = (1, False), (2, True)


def write(server, project, values, at=NOW, users=USERS):  # noqa: F811
    """Both views of each user, as the sink writes them."""
    pipeline = server.client.pipeline(transaction=False)
    for user in users:
        for view, name, value in ((SPEND, "count_1h", values[0]), (BADGE, "member", values[1])):
            column = next(c for c in view.schema if c.name == name)
            pipeline.hset(
                entity_key(project, view.entities, {"user": user}),
                mapping={
                    epoch_field(view.name): f"0:{at * 1000}",
                    timestamp_field(view.name): encode_event_time(at * 1000),
                    feature_field(view.name, name): encode_value(column.type, value),
                },
            )
    pipeline.execute()


def switch(server, *views, to):  # noqa: F811
    server.client.hset(switch_key("shop"), mapping={view.name: to for view in views})


@pytest.fixture
def client(server):  # noqa: F811
    write(server, "shop", OLD)
    write(server, "shop~0001", NEW)
    with TestClient(create_app(SHOP, connect(server.url), clock=lambda: NOW)) as running:
        yield running


def answers(client, users=USERS, features=FEATURES):
    reply = client.post(
        "/v1/features", json={"features": features, "entities": [{"user": u} for u in users]}
    )
    assert reply.status_code == 200, reply.text
    return {tuple(row) for row in reply.json()["rows"]}


def test_a_read_that_comes_to_redis_late_is_not_taken_for_one_of_before_the_switch(server):  # noqa: F811
    """As one does that was asked again on another connection, which took its time."""
    write(server, "shop", OLD)
    write(server, "shop~0001", NEW)
    redis = connect(server.url)
    at_once, late = redis.ask, []

    async def ask(data, replies, *more):
        if late and data.startswith(b"*1\r\n$5\r\nMULTI"):
            late.pop()
            switch(server, SPEND, BADGE, to="shop")
            await asyncio.sleep(NOTICE_SECONDS)
            switch(server, SPEND, BADGE, to="shop~0001")
            write(server, "shop", NEW, users=USERS[:100])
        return await at_once(data, replies, *more)

    redis.ask = ask
    with TestClient(create_app(SHOP, redis, clock=lambda: NOW)) as client:
        assert answers(client) == {OLD}
        late.append(True)
        assert answers(client) == {NEW}
    assert not late


def test_a_key_that_holds_no_hash_spoils_no_other_in_a_switch(server, client):  # noqa: F811
    server.client.set(entity_key("shop", BADGE.entities, {"user": 7}), "text")
    server.client.hset(
        entity_key("shop~0001", BADGE.entities, {"user": 8}), until_field("badge"), "never"
    )
    switch(server, SPEND, BADGE, to="shop~0001")
    time.sleep(NOTICE_SECONDS)
    assert answers(client, users=[6, 8]) == {NEW}
    assert answers(client, users=[6, 7]) == {NEW, (None, None)}


def test_an_announced_switch_changes_nothing_and_a_set_one_all_values(server, client):  # noqa: F811
    assert answers(client) == {OLD}
    switch(server, SPEND, BADGE, to="shop")
    time.sleep(NOTICE_SECONDS)
    assert answers(client) == {OLD}
    switch(server, SPEND, BADGE, to="shop~0001")
    assert answers(client) == {NEW}
    write(server, "shop", NEW)
    server.client.delete(switch_key("shop"))
    assert answers(client) == {NEW}


def test_a_value_says_that_it_is_being_switched(server, client):  # noqa: F811
    def statuses():
        reply = client.post(
            "/v1/features?include=metadata", json={"features": FEATURES, "entities": [{"user": 1}]}
        )
        found = reply.json()["rows"][0]["features"]
        return [found[name]["status"] for name in FEATURES]

    assert statuses() == ["present", "present"]
    switch(server, SPEND, to="shop")
    time.sleep(NOTICE_SECONDS)
    assert statuses() == ["replaying", "present"]
    server.client.delete(switch_key("shop"))
    time.sleep(NOTICE_SECONDS)
    assert statuses() == ["present", "present"]


def test_only_the_views_that_are_switched_change_and_a_newer_live_value_counts(server, client):  # noqa: F811
    switch(server, SPEND, to="shop~0001")
    time.sleep(NOTICE_SECONDS)
    assert answers(client) == {(2, False)}
    write(server, "shop", (7, False), at=NOW + 5, users=[3])
    assert answers(client, [3]) == {(7, False)}
    assert answers(client, [4]) == {(2, False)}


def test_what_is_put_back_counts_until_live_is_newer_than_what_it_replaces(server, client):  # noqa: F811
    write(server, "shop~0001~undo", (9, True), at=NOW - 60, users=[1])
    key = entity_key("shop~0001~undo", SPEND.entities, {"user": 1})
    switch(server, SPEND, to="shop~0001~undo")
    time.sleep(NOTICE_SECONDS)
    assert answers(client, [1, 2]) == {OLD}  # it is older than live
    server.client.hset(key, until_field(SPEND.name), str(NOW * 1000))
    assert answers(client, [1]) == {(9, False)}
    # There was no value before.
    server.client.delete(key)
    mapping = {epoch_field(SPEND.name): "", until_field(SPEND.name): str(NOW * 1000)}
    server.client.hset(key, mapping=mapping)
    assert answers(client, [1]) == {(None, False)}


def test_no_answer_shows_a_mix_while_values_move_one_by_one(server, client):  # noqa: F811
    def promote():
        switch(server, SPEND, BADGE, to="shop")
        time.sleep(NOTICE_SECONDS)
        switch(server, SPEND, BADGE, to="shop~0001")
        for user in USERS:
            write(server, "shop", NEW, users=[user])
            time.sleep(0.001)
        server.client.delete(switch_key("shop"))

    mover = Thread(target=promote)
    mover.start()
    seen = []
    while mover.is_alive():
        seen.append(answers(client))
    seen.append(answers(client))
    mover.join()
    assert all(len(found) == 1 for found in seen)
    assert seen[0] == {OLD} and seen[-1] == {NEW}
    changes = sum(a != b for a, b in pairwise(seen))
    assert changes == 1
