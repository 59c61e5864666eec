"""Makes redis.json with Feast itself: `python tests/vectors/make.py` from the project's root."""

from __future__ import annotations

import json
from pathlib import Path

from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

PROTO_FIELDS = {
    "string": "string_val",
    "int64": "int64_val",
    "float64": "double_val",
    "bool": "bool_val",
    "timestamp": "int64_val",  # milliseconds, see connectors/redis_codec.py
}
KEYS = [
    {"origin": "JFK"},
    {"origin": ""},
    {"stadt": "Zürich"},
    {"user_id": -7},
    {"origin": "JFK", "dest": "LAX"},
    {"tailnum": "N14228", "flight": 1545},
]
FIELDS = [("origin_delays", "count_1h"), ("v", "f"), ("aircraft_facts", "seats")]
VALUES = [
    ("string", ""),
    ("string", "N14228"),
    ("string", "Zürich ✈"),
    ("string", "x" * 200),
    ("int64", 0),
    ("int64", 300),
    ("int64", -1),
    ("int64", 2**63 - 1),
    ("int64", -(2**63)),
    ("float64", 0.0),
    ("float64", -0.5),
    ("float64", 12.75),
    ("bool", True),
    ("bool", False),
    ("timestamp", 1_357_035_420_123),
    ("string", None),
    ("float64", None),
]
TIMES = [0, 1, 1_357_035_420_000, 1_357_035_420_123, -1]


def vectors() -> dict[str, list[dict[str, object]]]:
    """Every case with the bytes Feast makes of it, in hexadecimal."""
    return {
        "keys": [
            {"project": "flights", "entity": key, "hex": _redis_key("flights", _entity(key)).hex()}
            for key in KEYS
        ],
        "fields": [
            {"view": view, "feature": feature, "hex": _mmh3(f"{view}:{feature}").hex()}
            for view, feature in FIELDS
        ],
        "values": [
            {"type": type_, "value": value, "hex": _value(type_, value)} for type_, value in VALUES
        ],
        "event_times": [{"milliseconds": time, "hex": _time(time)} for time in TIMES],
    }


def _entity(key: dict[str, str | int]) -> EntityKey:
    values = [
        Value(string_val=v) if isinstance(v, str) else Value(int64_val=v) for v in key.values()
    ]
    return EntityKey(join_keys=list(key), entity_values=values)


def _value(type_: str, value: str | int | float | bool | None) -> str:
    proto = Value() if value is None else Value(**{PROTO_FIELDS[type_]: value})
    return proto.SerializeToString().hex()


def _time(milliseconds: int) -> str:
    proto = Timestamp()
    proto.FromMilliseconds(milliseconds)
    return proto.SerializeToString().hex()


if __name__ == "__main__":
    text = json.dumps(vectors(), indent=1, ensure_ascii=False)
    Path(__file__).with_name("redis.json").write_text(text + "\n", encoding="utf-8")
