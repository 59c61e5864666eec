"""Puts a replay's values in the place of live ones, and back, as one switch each.

Offline, the rows of the span are replaced in all tables by one commit; the replay's files are
taken over as they are. Online, a switch in Redis gives readers the replay's values of all views
at one instant (`connectors.promotion`); then they are moved, entity by entity, and the switch is
taken away. Each step can be done again: the journal says which way a replay is going and a
property of each table whether its rows are in place, so that a command that was killed is
finished by the same command.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import redis
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table, Transaction
from pyiceberg.table.update.snapshot import ManageSnapshots

from connectors.promotion import NOTICE_SECONDS, switch_key, until_field
from connectors.redis_codec import epoch_field, feature_field, timestamp_field
from headwater.replays.journal import Journal, Replay
from iceberg.bounds import bounds
from iceberg.catalog import NAMESPACE
from iceberg.commits import commit_beside_others
from iceberg.tables import AVAILABLE_AT
from iceberg.together import check_together, commit_together
from iceberg.writing import copied
from schemas import EVENT_TIME, FeatureView, HeadwaterError

_AT_ONCE = 500
"""Entities that move in one step of Redis, which answers nobody else meanwhile."""

_UNDO = "~undo"
_ROLLED_BACK = "rolled-back"
_MARK = "headwater.replay."

# KEYS: live, replayed and undo key of each entity. ARGV: how many fields of ours a view has, its
# fields of ours (version, timestamp), its features; the next view. `until` is the third of ours.
# A hash is not copied but its views' fields are: other views of the entity lie in it as well.
_PROMOTE = """
local moved = {}
for i = 1, #KEYS, 3 do
  local live, replayed, undo = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local at = 1
  local view = 0
  while at <= #ARGV do
    local size, till = tonumber(ARGV[at]), ARGV[at + 1]
    local fields = {unpack(ARGV, at + 2, at + 1 + size)}
    at, view = at + 2 + size, view + 1
    moved[view] = moved[view] or 0
    local new = redis.call('HMGET', replayed, unpack(fields))
    if new[1] and redis.call('HEXISTS', undo, till) == 0 then
      local old = redis.call('HMGET', live, unpack(fields))
      local time = string.match(new[1], ':(-?%d+)$')
      local before = old[1] and tonumber(string.match(old[1], ':(-?%d+)$'))
      if not before or before <= tonumber(time) then
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
    local size, till = tonumber(ARGV[at]), ARGV[at + 1]
    local fields = {unpack(ARGV, at + 2, at + 1 + size)}
    at, view = at + 2 + size, view + 1
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


class PromotionError(HeadwaterError):
    """A replay cannot be promoted or rolled back; the text says why."""

    exit_code = 1


@dataclass(frozen=True)
class Moved:
    """What a promotion or its undoing has moved, of one view."""

    rows: int
    """Rows that came into the table; none if a command that was killed had moved them."""

    entities: int


def promote(
    journal: Journal,
    catalog: Catalog,
    online: redis.Redis,
    project: str,
    views: Sequence[FeatureView],
    replay: Replay,
) -> dict[str, Moved]:
    """Switch to the replay's values; what moved, by view. Where it is refused, nothing changes."""
    _check_free(journal, catalog, online, project, views, replay)
    for view in views:
        _check_branch(_table(catalog, view), view.name, replay)
    journal.set_state(replay, "promoting")
    rows = _switch_tables(catalog, views, replay, "promoted", _promoted)
    entities = _switch_values(online, project, views, replay, _PROMOTE, "")
    journal.set_state(replay, "promoted")
    return {view.name: Moved(rows[view.name], entities[view.name]) for view in views}


def roll_back(
    journal: Journal,
    catalog: Catalog,
    online: redis.Redis,
    project: str,
    views: Sequence[FeatureView],
    replay: Replay,
) -> dict[str, Moved]:
    """Switch back to the values from before the promotion, and keep what live wrote since.

    Where it is refused, nothing changes.
    """
    _check_free(journal, catalog, online, project, views, replay)
    for view in views:
        table = _table(catalog, view)
        if _state(table, replay) != _ROLLED_BACK:  # a command that was killed had come this far
            _check_newest(journal, table, view.name, replay)
    journal.set_state(replay, "rolling back")
    rows = _switch_tables(catalog, views, replay, _ROLLED_BACK, partial(_rolled_back, {}))
    entities = _switch_values(online, project, views, replay, _ROLL_BACK, _UNDO)
    journal.set_state(replay, "rolled back")
    return {view.name: Moved(rows[view.name], entities[view.name]) for view in views}


def mark(replay: Replay) -> str:
    """The property of a table that says what of the replay is in place."""
    return f"{_MARK}{replay.id}"


def _table(catalog: Catalog, view: FeatureView) -> Table:
    return catalog.load_table(f"{NAMESPACE}.{view.name}")


def _state(table: Table, replay: Replay) -> str:
    return table.properties.get(mark(replay), "")


def _check_branch(table: Table, view: str, replay: Replay) -> None:
    if replay.branch not in table.refs():
        raise PromotionError(f"{view}: the rows of replay {replay.id} are gone")
    if _state(table, replay).startswith("promoted"):
        return  # a command that was killed had come this far
    if _files(table, table.refs()[replay.branch].snapshot_id):
        return
    if (live := table.scan(row_filter=replay.within(view)).count()) > 0:
        raise PromotionError(
            f"{view}: replay {replay.id} has no rows, and live has {live:,} in its span, which"
            f" would be gone; `headwater replay show {replay.id}` says how many records it read"
        )


def _switch_tables(
    catalog: Catalog,
    views: Sequence[FeatureView],
    replay: Replay,
    done: str,
    change: Callable[[Table, str, Replay], tuple[Transaction, int]],
) -> dict[str, int]:
    """Change all tables in one commit, unless that has been done; rows that came in, by view."""

    def switch() -> dict[str, int]:
        tables = {view.name: _table(catalog, view) for view in views}
        if all(_state(table, replay).startswith(done) for table in tables.values()):
            return dict.fromkeys(tables, 0)  # a command that was killed had come this far
        changed = {name: change(table, name, replay) for name, table in tables.items()}
        commit_together(catalog, [transaction for transaction, _ in changed.values()])
        return {name: rows for name, (_, rows) in changed.items()}

    return commit_beside_others(f"the tables of replay {replay.id}", switch)


def _promoted(table: Table, view: str, replay: Replay) -> tuple[Transaction, int]:
    """The span's rows out, the files of the replay's branch in; what was there has a tag."""
    before = table.current_snapshot()
    assert before is not None
    branch = table.refs()[replay.branch].snapshot_id
    files = _files(table, branch)
    transaction = table.transaction()
    transaction.delete(replay.within(view))
    with transaction.update_snapshot().fast_append() as append:
        for file in files.values():
            append.append_data_file(file)
        promoted = append.snapshot_id
    assert transaction.table_metadata.current_snapshot_id == promoted
    for snapshot, tag in ((before.snapshot_id, replay.kept), (promoted, replay.placed)):
        if tag not in table.refs():
            ManageSnapshots(transaction).create_tag(snapshot, tag).commit()
    placed = transaction.table_metadata.snapshot_by_id(promoted)
    assert placed is not None and placed.sequence_number is not None
    end = replay.end_of(view)
    told = (before.snapshot_id, promoted, placed.sequence_number, replay.start, end)
    transaction.set_properties({mark(replay): f"promoted {' '.join(map(str, told))}"})
    return transaction, sum(file.record_count for file in files.values())


def _rolled_back(
    kept: dict[str, list[DataFile]], table: Table, view: str, replay: Replay
) -> tuple[Transaction, int]:
    """The promotion's change of files undone; rows, where files were rewritten since.

    `kept` has the rows of before, by view: what took long is not done again where it must be tried
    again, since a job has committed in between.
    """
    there = _promotion(table, view, replay)
    before, promoted = there.before, there.promoted
    old, new, now = (_files(table, snapshot) for snapshot in (before, promoted, None))
    transaction = table.transaction()
    if all(path in now for path in new.keys() - old.keys()):
        with transaction.update_snapshot().overwrite() as change:
            for path in new.keys() - old.keys():
                change.delete_data_file(now[path])
            for path in old.keys() - new.keys():
                change.append_data_file(old[path])
        rows = sum(old[path].record_count for path in old.keys() - new.keys())
    else:
        placed = table.snapshot_by_id(promoted)
        assert placed is not None
        since = f"{replay.within(view)} and {AVAILABLE_AT} > '{replay.iso(placed.timestamp_ms)}'"
        newer = table.scan(row_filter=since)
        if view not in kept:
            kept[view] = _rows_before(table, view, replay, before)
        back = kept[view] + copied(table, newer, newer.plan_files())
        transaction.delete(replay.within(view))
        with transaction.update_snapshot().fast_append() as append:
            for file in back:
                append.append_data_file(file)
        rows = sum(file.record_count for file in back)
    for tag in replay.tags:
        if tag in table.refs():
            ManageSnapshots(transaction).remove_tag(tag).commit()
    transaction.set_properties({mark(replay): _ROLLED_BACK})
    return transaction, rows


@dataclass(frozen=True)
class _Promotion:
    """What a table says of a replay that is in place."""

    before: int
    """Its snapshot before the promotion."""

    promoted: int
    order: int
    """Higher than that of all promotions before it."""

    start: int
    end: int

    @staticmethod
    def read(table: Table, text: str) -> _Promotion | None:
        """Of the text of its property; None if the replay is not in place."""
        done, *numbers = text.split() or [""]
        if done != "promoted":
            return None
        before, promoted, *rest = map(int, numbers)
        if rest:
            return _Promotion(before, promoted, *rest)
        # Tables that were promoted to by an older version do not tell the rest.
        snapshot = table.snapshot_by_id(promoted)
        order = 0 if snapshot is None else snapshot.sequence_number or 0
        return _Promotion(before, promoted, order, 0, sys.maxsize)


def _promotion(table: Table, view: str, replay: Replay) -> _Promotion:
    """Where a replay is in place; PromotionError unless it is, and what was before is there."""
    found = _Promotion.read(table, _state(table, replay))
    if found is None:
        raise PromotionError(f"{view}: replay {replay.id} is not in the table")
    for snapshot in (found.before, found.promoted):
        if table.snapshot_by_id(snapshot) is None:
            raise PromotionError(
                f"{view}: the rows from before replay {replay.id} was promoted are gone"
            )
    return found


def _check_newest(journal: Journal, table: Table, view: str, replay: Replay) -> None:
    """PromotionError if another replay was promoted on top of this one.

    Its span ends after this one's start: what it replaced, and would put back, may be of this one.
    """
    mine = _promotion(table, view, replay)
    others = {
        key.removeprefix(_MARK): _Promotion.read(table, text)
        for key, text in table.properties.items()
        if key.startswith(_MARK)
    }
    later = {
        id_: other.order
        for id_, other in others.items()
        if other is not None and other.order > mine.order and other.end > mine.start
    }
    if not later:
        return
    newest = max(later, key=lambda id_: later[id_])
    if newest in [one.id for one in journal.all()]:
        raise PromotionError(
            f"{view}: replay {newest} was promoted on top of {replay.id}: roll it back first"
        )
    raise PromotionError(
        f"{view}: replay {newest} was promoted on top of {replay.id} and has been dropped: its"
        f" values stay, and {replay.id} can no longer be rolled back"
    )


def _rows_before(table: Table, view: str, replay: Replay, before: int) -> list[DataFile]:
    """What the span held before the promotion: files as they were, and what it takes of others."""
    whole: list[DataFile] = []
    partly: list[FileScanTask] = []
    scan = table.scan(row_filter=replay.within(view), snapshot_id=before)
    for task in scan.plan_files():
        if _lies_within(table, task.file, view, replay):
            whole.append(task.file)
        else:
            partly.append(task)
    return whole + copied(table, scan, partly)


def _lies_within(table: Table, file: DataFile, view: str, replay: Replay) -> bool:
    if replay.keys:
        return False
    try:
        first, last = bounds(table.schema(), file, EVENT_TIME)
    except ValueError:
        return False
    end = replay.end_of(view)
    return first >= replay.start * 1000 and (end is None or last < end * 1000)


def _files(table: Table, snapshot: int | None) -> dict[str, DataFile]:
    """The data files of a snapshot, the current one for None, by path."""
    scan = table.scan() if snapshot is None else table.scan(snapshot_id=snapshot)
    return {task.file.file_path: task.file for task in scan.plan_files()}


def _check_free(
    journal: Journal,
    catalog: Catalog,
    online: redis.Redis,
    project: str,
    views: Sequence[FeatureView],
    replay: Replay,
) -> None:
    """Raise where the views cannot be switched at all, or another replay is in the middle of it."""
    check_together(catalog)
    _check_finished(journal, replay)
    _check_switch(online, project, views, replay)


def _check_finished(journal: Journal, replay: Replay) -> None:
    """PromotionError if the switch of another replay of the same views was begun, and broke off."""
    for other in journal.all():
        begun = other.state in ("promoting", "rolling back")
        if begun and other.id != replay.id and set(other.views) & set(replay.views):
            raise PromotionError(
                f"replay {other.id} of {', '.join(other.views)} is {other.state}: finish that first"
            )


def _check_switch(
    online: redis.Redis, project: str, views: Sequence[FeatureView], replay: Replay
) -> dict[str, str]:
    """What is being switched, by view; PromotionError if one of ours is, of another replay."""
    told: Any = online.hgetall(switch_key(project))
    there = {name.decode(): found.decode() for name, found in told.items()}
    busy = {
        name: found
        for name, found in there.items()
        if found != project and not found.startswith(replay.version(project))
    }
    if taken := sorted(view.name for view in views if view.name in busy):
        raise PromotionError(
            f"{', '.join(taken)}: another replay is being switched ({busy[taken[0]]}); finish that"
        )
    return there


def _switch_values(
    online: redis.Redis,
    project: str,
    views: Sequence[FeatureView],
    replay: Replay,
    script: str,
    other: str,
) -> dict[str, int]:
    """Switch readers to the other keys, move their values, switch off; entities, by view."""
    version = replay.version(project)
    key = switch_key(project)
    there = _check_switch(online, project, views, replay)
    if not all(there.get(view.name) == f"{version}{other}" for view in views):
        online.hset(key, mapping=dict.fromkeys((view.name for view in views), project))
        time.sleep(NOTICE_SECONDS)
        online.hset(key, mapping={view.name: f"{version}{other}" for view in views})
    call = online.register_script(script)
    arguments: list[bytes] = []
    for view in views:
        fields = [epoch_field(view.name), timestamp_field(view.name)]
        fields += [feature_field(view.name, column.name) for column in view.schema]
        arguments += [str(len(fields)).encode(), until_field(view.name), *fields]
    moved = [0] * len(views)
    ending = version.encode()
    for keys in chunks(online.scan_iter(match=b"*" + ending, count=1000), _AT_ONCE):
        triples = []
        for replayed in keys:
            live = replayed.removesuffix(ending) + project.encode()
            triples += [live, replayed, replayed + _UNDO.encode()]
        for place, count in enumerate(call(keys=triples, args=arguments)):
            moved[place] += int(count)
    online.hdel(key, *(view.name for view in views))
    return {view.name: count for view, count in zip(views, moved, strict=True)}


def chunks(keys: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """Keys as they come, so many at once."""
    iterator = iter(keys)
    while chunk := list(islice(iterator, size)):
        yield chunk
