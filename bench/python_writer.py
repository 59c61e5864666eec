"""What one would write in Python: columns encoded by numpy, pipelines sent by redis-py.

The same format, batches and script as the kernel's writer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import redis

from connectors.redis_codec import (
    encode_event_time,
    encode_value,
    entity_key,
    epoch_field,
    feature_field,
    timestamp_field,
)
from schemas import Entity, Type

_BATCH = 1000
_AT_ONCE = 100
_SET = b"\xc3"
_SHORT = [bytes([0xA0 | length]) for length in range(32)]
_ENTITY = Entity("aircraft", "tailnum")


def write(
    port: int, script: str, rows: Path, view: str, features: Sequence[str], limit: int
) -> float:
    """Rows a second of the first `limit` rows; reading them is not counted."""
    names = ["tailnum", "event_time", *features]
    frame = pd.read_csv(rows, names=names, nrows=limit, dtype={"tailnum": str})
    header = [epoch_field(view), b"0:", timestamp_field(view)]
    header += [feature_field(view, name) for name in features]
    with redis.Redis(port=port) as server:
        sha = server.script_load(script)
        began = time.perf_counter()
        for start in range(0, len(frame), _BATCH):
            batch = frame.iloc[start : start + _BATCH].drop_duplicates("tailnum", keep="last")
            keys = [entity_key("bench", (_ENTITY,), {"tailnum": t}) for t in batch["tailnum"]]
            times = batch["event_time"].tolist()
            columns = [_column(batch[name]) for name in features]
            arguments = [
                [b"0:%d" % t, _SET, encode_event_time(t), *values]
                for t, *values in zip(times, *columns, strict=True)
            ]
            pipeline = server.pipeline(transaction=False)
            for at in range(0, len(keys), _AT_ONCE):
                some = keys[at : at + _AT_ONCE]
                given = _packed([a for row in arguments[at : at + _AT_ONCE] for a in row])
                pipeline.evalsha(sha, len(some), *some, *header, given)
            pipeline.execute()
        return len(frame) / (time.perf_counter() - began)


def _packed(values: list[bytes]) -> bytes:
    """MessagePack strings, all of which are shorter than 32 bytes, and what is to be done."""
    return b"".join([v if v is _SET else _SHORT[len(v)] + v for v in values])


def _column(values: pd.Series) -> list[bytes]:
    if values.dtype != np.float64:
        return [encode_value(Type.INT64, value) for value in values.tolist()]
    encoded = np.empty((len(values), 9), np.uint8)
    encoded[:, 0] = 0x29
    encoded[:, 1:] = values.to_numpy("<f8").view(np.uint8).reshape(-1, 8)
    data = encoded.tobytes()
    return [data[at : at + 9] for at in range(0, len(data), 9)]
