"""Fills Redis again from Iceberg with the newest row of every entity, unless Redis is newer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis
from pyiceberg.catalog import Catalog

from connectors.redis_codec import entity_key, feature_field, row_encoder
from iceberg.catalog import NAMESPACE
from iceberg.offline import rows
from iceberg.tables import AVAILABLE_AT
from schemas import EVENT_TIME, FeatureView

_AT_ONCE = 1000
_TIME_ALONE = 2
"""A field and its value, where no feature follows."""

# KEYS: the entity. ARGV: the version's field, its value, the event time in it, how many fields a
# deleted row must lose, those, then fields and values. What the running job has written meanwhile
# is as new or newer, and stays.
_FILL = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
  local epoch, time = string.match(stored, '^(%d+):(-?%d+)$')
  if epoch and (tonumber(epoch) > 0 or tonumber(time) >= tonumber(ARGV[3])) then
    return 0
  end
end
local values = 5 + tonumber(ARGV[4])
if values > 5 then
  redis.call('HDEL', KEYS[1], unpack(ARGV, 5, values - 1))
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], unpack(ARGV, values))
return 1
"""


def rebuild(catalog: Catalog, online: redis.Redis, view: FeatureView, project: str) -> int:
    """Write the newest row of each entity of a view; how many entities got values."""
    fill = online.register_script(_FILL)
    written = 0
    pipeline = online.pipeline(transaction=False)
    for number, (key, arguments) in enumerate(_newest(catalog, view, project), start=1):
        fill(keys=[key], args=arguments, client=pipeline)
        if number % _AT_ONCE == 0:
            written += sum(pipeline.execute())
    return int(written + sum(pipeline.execute()))


def _newest(
    catalog: Catalog, view: FeatureView, project: str
) -> Iterator[tuple[bytes, list[bytes | int]]]:
    table = catalog.load_table(f"{NAMESPACE}.{view.name}")
    names = [column.name for column in view.schema]
    fields = [feature_field(view.name, name) for name in names]
    encode = row_encoder(view)
    found = rows(table, view.keys, names, EVENT_TIME, AVAILABLE_AT, newest_only=True)
    for batch in found.to_batches():
        for row in batch.to_pylist():
            time = round(row[EVENT_TIME].timestamp() * 1000)
            field, version, *values = encode(row, time)
            lost = fields if len(values) == _TIME_ALONE else []
            arguments: list[Any] = [field, version, time, len(lost), *lost, *values]
            yield entity_key(project, view.entities, row), arguments
