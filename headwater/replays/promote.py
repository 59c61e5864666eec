"""Puts a replay's values in the place of live ones, and back.

Offline, the rows of the span are replaced in one commit of each table. Online, an entity whose
newest live value is not newer than the replay's gets the replay's. Each step can be done again:
the journal says which way a replay is going, so that a command that was killed is finished by
the same command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa  # type: ignore[import-untyped]
import redis
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from connectors.redis_codec import epoch_field, feature_field, timestamp_field
from headwater.replays.journal import Replay
from iceberg.catalog import NAMESPACE
from iceberg.tables import AVAILABLE_AT
from schemas import FeatureView, HeadwaterError

_MARK = "headwater.replay"
_COMMITS = 20
_AT_ONCE = 5000
_KEEP = "~undo"

# KEYS: live, replayed and undo key of each entity. ARGV: the view's fields, its version first.
# A hash is not copied but its view's fields are: other views of the entity lie in it as well.
_PROMOTE = """
local moved = 0
for i = 1, #KEYS, 3 do
  local live, replayed, undo = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local new = redis.call('HGET', replayed, ARGV[1])
  local old = redis.call('HGET', live, ARGV[1])
  if new and redis.call('HEXISTS', undo, ARGV[1]) == 0 then
    local at = tonumber(string.match(new, ':(-?%d+)$'))
    local before = old and tonumber(string.match(old, ':(-?%d+)$'))
    if not before or before <= at then
      for _, field in ipairs(ARGV) do
        local value = redis.call('HGET', live, field)
        if value then redis.call('HSET', undo, field, value) end
        value = redis.call('HGET', replayed, field)
        if value then redis.call('HSET', live, field, value)
        else redis.call('HDEL', live, field) end
      end
      if not old then redis.call('HSET', undo, ARGV[1], '') end
      moved = moved + 1
    end
  end
end
return moved
"""

# The same KEYS and ARGV. A value that live has made newer since stays.
_ROLL_BACK = """
local moved = 0
for i = 1, #KEYS, 3 do
  local live, replayed, undo = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  if redis.call('HEXISTS', undo, ARGV[1]) == 1 then
    if redis.call('HGET', live, ARGV[1]) == redis.call('HGET', replayed, ARGV[1]) then
      for _, field in ipairs(ARGV) do
        local value = redis.call('HGET', undo, field)
        if value and value ~= '' then redis.call('HSET', live, field, value)
        elseif value and field ~= ARGV[1] then redis.call('HSET', live, field, value)
        else redis.call('HDEL', live, field) end
      end
      moved = moved + 1
    end
    redis.call('HDEL', undo, unpack(ARGV))
  end
end
return moved
"""


class PromotionError(HeadwaterError):
    """A replay cannot be promoted or rolled back; the text says why."""


@dataclass(frozen=True)
class Moved:
    """What a promotion or its undoing has moved, of one view."""

    rows: int
    entities: int


def promote_offline(catalog: Catalog, view: FeatureView, replay: Replay) -> int:
    """Replace the span's rows in the live table by the replay's, in one commit; rows now there."""

    def rows(table: Table) -> pa.Table:
        return table.scan(
            row_filter=replay.within, snapshot_id=table.refs()[replay.branch].snapshot_id
        ).to_arrow()

    return _replace(catalog, view, replay, "promoted", rows)


def roll_back_offline(catalog: Catalog, view: FeatureView, replay: Replay) -> int:
    """Put the rows from before the promotion back, in one commit, and keep what came since."""

    def rows(table: Table) -> pa.Table:
        before = _before_promotion(table, replay)
        promoted_at = table.snapshot_by_id(before.promoted).timestamp_ms  # type: ignore[union-attr]
        old = table.scan(row_filter=replay.within, snapshot_id=before.snapshot).to_arrow()
        since = f"({replay.within}) and {AVAILABLE_AT} > '{replay.iso(promoted_at)}'"
        newer = table.scan(row_filter=since).to_arrow()
        # Files may differ in how wide a string they were written with.
        return pa.concat_tables([old, newer.cast(old.schema)])

    return _replace(catalog, view, replay, "rolled back", rows)


def promote_online(online: redis.Redis, view: FeatureView, replay: Replay, project: str) -> int:
    """Entities that got the replay's values; each at once, and up to 5,000 together."""
    return _run(online, _PROMOTE, view, replay, project)


def roll_back_online(online: redis.Redis, view: FeatureView, replay: Replay, project: str) -> int:
    """Entities that got back the values from before the promotion."""
    return _run(online, _ROLL_BACK, view, replay, project)


@dataclass(frozen=True)
class _Before:
    snapshot: int
    promoted: int


def _replace(
    catalog: Catalog,
    view: FeatureView,
    replay: Replay,
    done: str,
    rows: Callable[[Table], pa.Table],
) -> int:
    mark = f"{replay.id} {done}"
    for attempt in range(_COMMITS):
        table = catalog.load_table(f"{NAMESPACE}.{view.name}")
        if _last_mark(table, replay) == mark:
            return 0  # a command that was killed had come this far
        wanted = rows(table)
        try:
            table.overwrite(wanted, replay.within, snapshot_properties={_MARK: mark})
        except CommitFailedException:  # the live job committed in between
            time.sleep(0.1 * (attempt + 1))
            continue
        return int(wanted.num_rows)
    raise PromotionError(
        f"{view.name}: the table changed {_COMMITS} times while its rows were to be replaced; "
        "try again, or stop the live job for the moment"
    )


def _marks(table: Table, replay: Replay) -> Iterator[tuple[int, str]]:
    """Snapshots of the main branch, newest first, that this replay has made."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        mark = (snapshot.summary or {}).get(_MARK)  # type: ignore[call-overload]
        if mark is not None and str(mark).startswith(f"{replay.id} "):
            yield snapshot.snapshot_id, str(mark)
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)


def _last_mark(table: Table, replay: Replay) -> str | None:
    return next((mark for _, mark in _marks(table, replay)), None)


def _before_promotion(table: Table, replay: Replay) -> _Before:
    """The snapshot that the newest promotion of this replay was made upon."""
    promoted = None
    snapshot = table.current_snapshot()
    while snapshot is not None:
        mark = (snapshot.summary or {}).get(_MARK)  # type: ignore[call-overload]
        if mark == f"{replay.id} promoted":
            promoted = snapshot.snapshot_id
        elif promoted is not None:
            return _Before(snapshot.snapshot_id, promoted)
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)
    raise PromotionError(
        f"{table.name()[-1]}: the snapshot from before replay {replay.id} was promoted is gone"
    )


def _run(online: redis.Redis, script: str, view: FeatureView, replay: Replay, project: str) -> int:
    call = online.register_script(script)
    fields = [epoch_field(view.name), timestamp_field(view.name)]
    fields += [feature_field(view.name, column.name) for column in view.schema]
    version = replay.version(project).encode()
    moved = 0
    for keys in _chunks(online.scan_iter(match=b"*" + version, count=1000), _AT_ONCE):
        triples = []
        for key in keys:
            stem = key.removesuffix(version)
            triples += [stem + project.encode(), key, key + _KEEP.encode()]
        moved += int(call(keys=triples, args=fields))
    return moved


def _chunks(keys: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    iterator = iter(keys)
    while chunk := list(islice(iterator, size)):
        yield chunk
