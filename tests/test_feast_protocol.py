"""Feast's own SDK against our API, and against Redis: the same answers either way."""

from __future__ import annotations

from datetime import timedelta

import feast
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from feast.feature_server_utils import convert_response_to_dict
from feast.types import Bool, Float64, Int64

from connectors.redis_codec import entity_key, feature_field, timestamp_field
from tests.served import served
from tests.test_api import BADGE, NOW, SPEND, VISITS, RedisServer

TYPES = {"int64": Int64, "float64": Float64, "bool": Bool}


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    yield running
    running.client.close()
    running.stop()


@pytest.fixture(scope="module")
def api_url(redis_server, tmp_path_factory):
    """A server of its own: Feast's client makes real connections."""
    with served(tmp_path_factory.mktemp("api"), redis_server.url) as running:
        yield running.url


@pytest.fixture(scope="module")
def stores(redis_server, api_url, tmp_path_factory):
    """Two of Feast's stores over one registry: one asks us, the other Redis."""
    folder = tmp_path_factory.mktemp("feast")
    user = feast.Entity(name="user", join_keys=["user"], value_type=feast.ValueType.INT64)
    page = feast.Entity(name="page", join_keys=["page"], value_type=feast.ValueType.STRING)
    path = folder / "nothing.parquet"
    pq.write_table(
        pa.table({"user": [1], "page": ["x"], "t": pa.array([0], pa.timestamp("ms", "UTC"))}), path
    )
    views = [
        feast.FeatureView(
            name=view.name,
            entities=[e for e in (user, page) if e.name in [x.key for x in view.entities]],
            schema=[feast.Field(name=c.name, dtype=TYPES[c.type.value]) for c in view.schema],
            source=feast.FileSource(name=f"{view.name}_s", path=str(path), timestamp_field="t"),
            ttl=timedelta(0),
        )
        for view in (SPEND, BADGE, VISITS)
    ]
    buys = feast.FeatureService(name="buys", features=[views[0], views[2]])
    made = {}
    for name, online in (
        ("redis", {"type": "redis", "connection_string": redis_server.url.split("//")[1]}),
        ("remote", {"type": "remote", "path": api_url}),
    ):
        made[name] = feast.FeatureStore(
            config=feast.RepoConfig(
                project="shop",
                provider="local",
                registry=str(folder / "registry.db"),
                entity_key_serialization_version=3,
                online_store=online,
                offline_store={"type": "file"},
            )
        )
    made["redis"].apply([user, page, *views, buys])
    redis_server.write(SPEND, {"user": 7}, NOW, count_1h=3, price_mean_1h=12.5)
    redis_server.write(SPEND, {"user": 8}, NOW + 0.25, count_1h=0, price_mean_1h=None)
    redis_server.write(BADGE, {"user": 7}, NOW, member=False)
    redis_server.write(VISITS, {"user": 7, "page": "home"}, NOW, count_1h=2)
    return made


def answers(stores, features, rows, **more):
    return {
        name: store.get_online_features(features, rows, **more).to_dict()
        for name, store in stores.items()
    }


def test_the_sdk_gets_from_us_what_it_gets_from_redis(stores):
    names = ["spend:price_mean_1h", "spend:count_1h", "badge:member"]
    found = answers(stores, names, [{"user": 7}, {"user": 9}, {"user": 8}, {"user": 7}])
    assert found["remote"] == found["redis"]
    assert found["remote"]["price_mean_1h"] == [12.5, None, None, 12.5]
    assert found["remote"]["user"] == [7, 9, 8, 7]


def test_the_sdk_gets_a_service_of_several_entities(stores):
    service = stores["redis"].get_feature_service("buys")
    rows = [{"user": 7, "page": "home"}, {"user": 7, "page": "cart"}]
    found = answers(stores, service, rows, full_feature_names=True)
    assert found["remote"] == found["redis"]
    assert found["remote"]["visits__count_1h"] == [2, None]


def test_what_we_answer_is_what_feasts_server_would(stores, api_url):
    """Names, values, statuses and event times, in Feast's own words."""
    names = ["spend:count_1h", "badge:member"]
    entities = {"user": [7, 8, 9]}
    theirs = convert_response_to_dict(stores["redis"].get_online_features(names, entities).proto)
    reply = requests.post(
        f"{api_url}/get-online-features", json={"features": names, "entities": entities}, timeout=5
    )
    ours = reply.json()
    assert ours["metadata"] == theirs["metadata"]
    for told in ("values", "event_timestamps"):
        assert [r[told] for r in ours["results"]] == [r[told] for r in theirs["results"]]
    # Over Redis, Feast calls present even what is not there; the protocol has a word for it.
    statuses = [result["statuses"] for result in ours["results"]]
    assert statuses == [
        ["PRESENT", "PRESENT", "PRESENT"],
        ["PRESENT", "PRESENT", "NOT_FOUND"],
        ["PRESENT", "NOT_FOUND", "NOT_FOUND"],
    ]


def test_a_feature_that_is_not_there_is_not_found_whatever_its_view_has(redis_server, api_url):
    """As after a delete, which keeps the view's time, or of a feature that was just declared."""
    key = entity_key("shop", SPEND.entities, {"user": 20})
    redis_server.write(SPEND, {"user": 20}, NOW, price_mean_1h=None)
    assert redis_server.client.hget(key, feature_field("spend", "price_mean_1h")) == b""
    redis_server.write(SPEND, {"user": 21}, NOW)
    redis_server.write(SPEND, {"user": 22}, NOW, count_1h=3)
    timeless = entity_key("shop", SPEND.entities, {"user": 22})
    redis_server.client.hdel(timeless, timestamp_field("spend"))
    names = ["spend:price_mean_1h", "spend:count_1h"]
    users = [20, 21, 22, 20]
    asked = {"features": names, "entities": {"user": users}}
    _, *results = requests.post(f"{api_url}/get-online-features", json=asked, timeout=5).json()[
        "results"
    ]
    found = [list(zip(r["statuses"], r["values"], strict=True)) for r in results]
    there, absent = ("PRESENT", None), ("NOT_FOUND", None)
    assert found == [[there, absent, absent, there], [absent] * 4]
    rows = requests.post(
        f"{api_url}/v1/features?include=metadata&orient=columns",
        json={"features": names, "entities": [{"user": user} for user in users]},
        timeout=5,
    ).json()["columns"]
    missing = [[status == "missing" for status in column["statuses"]] for column in rows]
    assert missing == [[one == absent for one in column] for column in found]


def test_names_that_collide_are_refused_as_feast_refuses_them(api_url):
    body = {
        "features": ["spend:count_1h", "visits:count_1h"],
        "entities": {"user": [7], "page": ["home"]},
    }
    reply = requests.post(f"{api_url}/get-online-features", json=body, timeout=5)
    assert reply.status_code == 400, reply.text
    assert reply.json()["path"] == "$.full_feature_names"
    assert "count_1h" in reply.json()["detail"]


def test_an_unknown_feature_is_a_problem_with_its_choices(api_url):
    reply = requests.post(
        f"{api_url}/get-online-features",
        json={"features": ["spend:cnt"], "entities": {"user": [1]}},
        timeout=5,
    )
    assert (reply.status_code, reply.json()["path"]) == (400, "$.features[0]")
    assert "spend:count_1h" in reply.json()["choices"]
