"""Moves a replay's values in Redis to where live ones are, and back.

A switch gives readers the replay's values of all views at one instant (`connectors.promotion`);
then they are moved, entity by entity, and the switch is taken away. Each step can be done again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import redis
from pyiceberg.catalog import Catalog

from connectors.promotion import NOTICE_SECONDS, switch_key, until_field
from connectors.redis_codec import (
    decode_entity_key,
    epoch_field,
    feature_field,
    row_encoder,
    timestamp_field,
)
from headwater.replays.journal import Replay
from iceberg.catalog import NAMESPACE
from iceberg.tables import AVAILABLE_AT
from schemas import EVENT_TIME, FeatureView, HeadwaterError

_AT_ONCE = 50
"""Entities that move in one step of Redis, which answers nobody else meanwhile."""

_LOOKED_UP = 10_000
"""Entities whose rows are looked up at once: each time the table is read."""

_UNDO = "~undo"

# KEYS: live, replayed and undo key of each entity. ARGV: how many fields of ours a view has, the
# last instant of its span, its fields of ours (`until`, version, timestamp), its features; the next
# view. A hash is not copied but its views' fields are: other views of the entity lie in it as well.
#
# In the span the replay decides, also where live has a newer row: that is what `until` of a
# replayed hash says. That of the undo hash says which values are taken back: the replay's, but not
# those from after the span, as one that was ahead of live has them, which live writes too.
_PROMOTE = """
local moved = {}
for i = 1, #KEYS, 3 do
  local live, replayed, undo = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local at = 1
  local view = 0
  while at <= #ARGV do
    local size, last, till = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
    local fields = {unpack(ARGV, at + 3, at + 2 + size)}
    at, view = at + 3 + size, view + 1
    moved[view] = moved[view] or 0
    local new = redis.call('HMGET', replayed, unpack(fields))
    if new[1] and redis.call('HEXISTS', undo, till) == 0 then
      local old = redis.call('HMGET', live, unpack(fields))
      local time = string.match(new[1], ':(-?%d+)$')
      local limit = redis.call('HGET', replayed, till) or time
      local before = old[1] and tonumber(string.match(old[1], ':(-?%d+)$'))
      if not before or before <= tonumber(limit) then
        if tonumber(time) > tonumber(last) then time = last end
        local keep, set, del = {till, time}, {}, {}
        for j, field in ipairs(fields) do
          if old[j] then keep[#keep + 1] = field; keep[#keep + 1] = old[j] end
          if new[j] then set[#set + 1] = field; set[#set + 1] = new[j]
          else del[#del + 1] = field end
        end
        if not old[1] then keep[#keep + 1] = fields[1]; keep[#keep + 1] = '' end
        redis.call('HSET', undo, unpack(keep))
        redis.call('HSET', live, unpack(set))
        if #del > 0 then redis.call('HDEL', live, unpack(del)) end
        moved[view] = moved[view] + 1
      end
    end
  end
end
return moved
"""

# The same KEYS and ARGV. A value that live has made newer since stays.
_ROLL_BACK = """
local moved = {}
for i = 1, #KEYS, 3 do
  local live, replayed, undo = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local at = 1
  local view = 0
  while at <= #ARGV do
    local size, till = tonumber(ARGV[at]), ARGV[at + 2]
    local fields = {unpack(ARGV, at + 3, at + 2 + size)}
    at, view = at + 3 + size, view + 1
    moved[view] = moved[view] or 0
    local time = redis.call('HGET', undo, till)
    if time then
      local now = redis.call('HGET', live, fields[1])
      local since = now and tonumber(string.match(now, ':(-?%d+)$'))
      if not since or since <= tonumber(time) then
        local old = redis.call('HMGET', undo, unpack(fields))
        local set, del = {}, {}
        for j, field in ipairs(fields) do
          if old[j] and old[j] ~= '' or old[j] and j > 1 then
            set[#set + 1] = field; set[#set + 1] = old[j]
          else del[#del + 1] = field end
        end
        if #set > 0 then redis.call('HSET', live, unpack(set)) end
        if #del > 0 then redis.call('HDEL', live, unpack(del)) end
        moved[view] = moved[view] + 1
      end
      redis.call('HDEL', undo, till, unpack(fields))
    end
  end
end
return moved
"""

# KEYS: live and replayed key of each entity. ARGV: where the span starts; for each view whether it
# is of a captured table, its last instant, `until` and version. Where live has a row of the span
# that is newer than the replay's, the replayed hash says that it wins up to the last instant.
# Returns the entities of which the tables tell what to serve: place among the keys, and view, each
# from 1 on. Of those live has a row in the span and the replay none, or one from before, which was
# given to it; or a newer one of a captured table, which may have come since the tables changed.
_CLAIM = """
local found = {}
local start = tonumber(ARGV[1])
for i = 1, #KEYS, 2 do
  local live, replayed = KEYS[i], KEYS[i + 1]
  for at = 2, #ARGV, 4 do
    local captured, last = ARGV[at] == '1', ARGV[at + 1]
    local till, version = ARGV[at + 2], ARGV[at + 3]
    local old = redis.call('HGET', live, version)
    local before = old and tonumber(string.match(old, ':(-?%d+)$'))
    if before and before >= start and before <= tonumber(last) then
      local new = redis.call('HGET', replayed, version)
      local time = new and tonumber(string.match(new, ':(-?%d+)$'))
      if not time or time < start or captured and time < before then
        found[#found + 1] = (i + 1) / 2
        found[#found + 1] = (at + 2) / 4
      elseif time < before then
        redis.call('HSET', replayed, till, last)
      end
    end
  end
end
return found
"""

# The same KEYS. ARGV: an instant; the version of each view. Returns the entities of which live has
# a row of that instant or a later one: place among the keys, and view, each from 1 on.
_SINCE = """
local found = {}
local since = tonumber(ARGV[1])
for i = 1, #KEYS, 2 do
  for at = 2, #ARGV do
    local old = redis.call('HGET', KEYS[i], ARGV[at])
    local time = old and tonumber(string.match(old, ':(-?%d+)$'))
    if time and time >= since then
      found[#found + 1] = (i + 1) / 2
      found[#found + 1] = at - 1
    end
  end
end
return found
"""

_NEVER = "0:-9007199254740991"
"""The version of an entity that has no row: anybody's is newer, and Lua's numbers hold it."""


class PromotionError(HeadwaterError):
    """A replay cannot be promoted or rolled back; the text says why."""

    exit_code = 1


class Values:
    """The values of a replay's views in Redis."""

    def __init__(
        self, online: redis.Redis, project: str, views: Sequence[FeatureView], replay: Replay
    ) -> None:
        self._online = online
        self._project = project
        self._views = views
        self._replay = replay
        self._version = replay.version(project)

    def check_free(self) -> dict[str, str]:
        """What is being switched, by view; PromotionError if one of ours is, of another replay."""
        told: Any = self._online.hgetall(switch_key(self._project))
        there = {name.decode(): found.decode() for name, found in told.items()}
        busy = {
            name: found
            for name, found in there.items()
            if found != self._project and not found.startswith(self._version)
        }
        if taken := sorted(view.name for view in self._views if view.name in busy):
            raise PromotionError(
                f"{', '.join(taken)}: another replay is being switched ({busy[taken[0]]});"
                " finish that"
            )
        return there

    def promote(self, catalog: Catalog) -> dict[str, int]:
        """Put the replay's in the place of live ones, once the tables have its rows; entities.

        An entity of which live has a row of the span, and the replay none, gets the values of the
        newest row that the tables have of it then, and none if there is no such row.
        """
        self._claim(catalog)
        return self._switch(_PROMOTE, "")

    def roll_back(self) -> dict[str, int]:
        """Put live's back, but for those that live has made newer since; entities, by view."""
        return self._switch(_ROLL_BACK, _UNDO)

    def forget(self, catalog: Catalog, since: int) -> None:
        """Let entities have what the tables have of them from before an instant, and nothing newer.

        No job may write meanwhile. The next that does is newer than all there is.
        """
        project = self._project.encode()
        arguments: list[bytes | int] = [since, *(epoch_field(view.name) for view in self._views)]
        for view, keys in self._found(_SINCE, arguments):
            self._give(catalog, view, self._entities(view, keys), since - 1, project, ())

    def _last(self, view: FeatureView) -> int:
        """The last instant of a view's span."""
        end = self._replay.end_of(view.name)
        assert end is not None
        return end - 1

    def _switch(self, script: str, other: str) -> dict[str, int]:
        """Switch readers to the other keys, move their values, switch off."""
        key = switch_key(self._project)
        views, version = self._views, self._version
        there = self.check_free()
        if not all(there.get(view.name) == f"{version}{other}" for view in views):
            self._online.hset(key, mapping=dict.fromkeys((v.name for v in views), self._project))
            time.sleep(NOTICE_SECONDS)
            self._online.hset(key, mapping={view.name: f"{version}{other}" for view in views})
        call = self._online.register_script(script)
        arguments: list[bytes | int] = []
        for view in views:
            fields = [epoch_field(view.name), *_values_of(view)]
            arguments += [len(fields), self._last(view), until_field(view.name), *fields]
        moved = [0] * len(views)
        ending = version.encode()
        for keys in chunks(self._keys(ending), _AT_ONCE):
            triples = []
            for replayed in keys:
                live = replayed.removesuffix(ending) + self._project.encode()
                triples += [live, replayed, replayed + _UNDO.encode()]
            for place, count in enumerate(call(keys=triples, args=arguments)):
                moved[place] += int(count)
        self._online.hdel(key, *(view.name for view in views))
        return {view.name: count for view, count in zip(views, moved, strict=True)}

    def _claim(self, catalog: Catalog) -> None:
        """Let the replay decide of all entities that live has a row of the span of."""
        arguments: list[bytes | int] = [self._replay.start]
        for view in self._views:
            arguments += [int(view.stream is None), self._last(view)]
            arguments += [until_field(view.name), epoch_field(view.name)]
        for view, keys in self._found(_CLAIM, arguments):
            wanted = {
                key: row
                for key, row in self._entities(view, keys).items()
                if all(row[column] in values for column, values in self._replay.keys.items())
            }
            last = self._last(view)
            until = (until_field(view.name), last)
            self._give(catalog, view, wanted, last, self._version.encode(), until)

    def _found(
        self, script: str, arguments: Sequence[bytes | int]
    ) -> Iterator[tuple[FeatureView, list[bytes]]]:
        """The live keys that a script finds in a pass through all, some thousand at once."""
        call = self._online.register_script(script)
        project, version = self._project.encode(), self._version.encode()
        without: list[list[bytes]] = [[] for _ in self._views]
        for keys in chunks(self._keys(project), _AT_ONCE):
            pairs = []
            for live in keys:
                pairs += [live, live.removesuffix(project) + version]
            found = iter(call(keys=pairs, args=arguments))
            for place, number in zip(found, found, strict=True):
                without[number - 1].append(keys[place - 1])
            for view, its in zip(self._views, without, strict=True):
                if len(its) >= _LOOKED_UP:
                    yield view, its
                    its.clear()
        for view, its in zip(self._views, without, strict=True):
            yield view, its

    def _entities(
        self, view: FeatureView, keys: Iterable[bytes]
    ) -> dict[bytes, dict[str, str | int]]:
        """The entity of each key that is one of ours."""
        rows = ((key, decode_entity_key(self._project, view.entities, key)) for key in keys)
        return {key: row for key, row in rows if row is not None}

    def _give(
        self,
        catalog: Catalog,
        view: FeatureView,
        entities: dict[bytes, dict[str, str | int]],
        last: int,
        ending: bytes,
        more: tuple[bytes | int, ...],
    ) -> None:
        """Write what the tables have at an instant, and `more` fields, to keys of that ending."""
        if not entities:
            return
        project = self._project.encode()
        encode = row_encoder(view)
        pipeline: Any = self._online.pipeline()  # any, as it takes bytes for a name
        fields = _values_of(view)
        newest = _newest(catalog, view, last, entities.values())
        for key, row in zip(entities, newest, strict=True):
            values: list[Any] = [epoch_field(view.name), _NEVER]
            if row is not None:
                values = encode(row, int(row[EVENT_TIME]))
            written = key.removesuffix(project) + ending
            pipeline.hdel(written, *fields)
            pipeline.hset(written, items=[*values, *more])
            pipeline.execute()

    def _keys(self, ending: bytes) -> Iterator[bytes]:
        return iter(self._online.scan_iter(match=b"*" + ending, count=1000))


def _values_of(view: FeatureView) -> list[bytes]:
    """The fields of a view but its version: Feast's timestamp, and the features."""
    features = (feature_field(view.name, column.name) for column in view.schema)
    return [timestamp_field(view.name), *features]


def _newest(
    catalog: Catalog, view: FeatureView, last: int, entities: Collection[dict[str, str | int]]
) -> list[dict[str, Any] | None]:
    """The newest row of each entity up to an instant, None where there is none within the ttl."""
    import pyarrow as pa  # type: ignore[import-untyped]  # and what follows takes DuckDB with it

    from iceberg.offline import Lookup, join

    table = catalog.load_table(f"{NAMESPACE}.{view.name}")
    there = {field.name for field in table.schema().fields}
    features = [column.name for column in view.schema]
    names = {name: f"found {name}" for name in (EVENT_TIME, *features) if name in there}
    at = datetime.fromtimestamp(last / 1000, UTC)
    asked = pa.Table.from_pylist([row | {"asked at": at} for row in entities])
    ttl = timedelta(seconds=view.ttl.seconds)
    look_up = Lookup(table, {k: k for k in view.keys}, names, ttl, EVENT_TIME, AVAILABLE_AT)
    found = join(asked, "asked at", [look_up]).select(list(names.values()))
    keyed = zip(entities, found.rename_columns(list(names)).to_pylist(), strict=True)
    # A feature that is new may have no column yet.
    empty = dict.fromkeys(features)
    return [None if row[EVENT_TIME] is None else empty | entity | row for entity, row in keyed]


def chunks(keys: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """Keys as they come, so many at once."""
    iterator = iter(keys)
    while chunk := list(islice(iterator, size)):
        yield chunk
