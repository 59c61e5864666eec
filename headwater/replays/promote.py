"""Puts a replay's values in the place of live ones, and back, as one switch each.

Offline, the rows of the span are replaced in all tables by one commit; the replay's files are
taken over as they are. Online, all values change at one instant (`headwater.replays.values`). Each
step can be done again: the journal says which way a replay is going and a property of each table
whether its rows are in place, so that a command that was killed is finished by the same command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import redis
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import And, GreaterThan
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table, Transaction
from pyiceberg.table.update.snapshot import ManageSnapshots

from headwater.replays.journal import Journal, Replay
from headwater.replays.values import PromotionError, Values
from iceberg.bounds import bounds
from iceberg.catalog import NAMESPACE
from iceberg.commits import commit_beside_others
from iceberg.filters import instant, where
from iceberg.promotions import MARK, PROMOTED, ROLLED_BACK, Promotion, TakenBack, promotions
from iceberg.tables import AVAILABLE_AT
from iceberg.together import check_together, commit_together
from iceberg.writing import copied
from schemas import EVENT_TIME, FeatureView


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
    values = Values(online, project, views, replay)
    _check_free(journal, catalog, values, replay)
    for view in views:
        _check_branch(_table(catalog, view), view.name, replay)
    with _begun(journal, catalog, views, replay, ("done", "promoting"), PROMOTED):
        rows = _switch_tables(catalog, views, replay, PROMOTED, _promoted)
    entities = values.promote(catalog)
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
    values = Values(online, project, views, replay)
    _check_free(journal, catalog, values, replay)
    beside = _promoted_beside(journal, catalog, views, replay)
    with _begun(journal, catalog, views, replay, ("promoted", "rolling back"), ROLLED_BACK):
        rows = _switch_tables(catalog, views, replay, ROLLED_BACK, partial(_rolled_back, {}))
    entities = values.roll_back()
    for other in beside:
        its = [view for view in views if view.name in other.views]
        Values(online, project, its, other).promote(catalog)
    journal.set_state(replay, "rolled back")
    return {view.name: Moved(rows[view.name], entities[view.name]) for view in views}


@contextmanager
def _begun(
    journal: Journal,
    catalog: Catalog,
    views: Sequence[FeatureView],
    replay: Replay,
    states: tuple[str, str],
    done: str,
) -> Iterator[None]:
    """A replay is in the second of the states; where the tables refuse it, in the one before again.

    It would be in the way of all others of its views, and could not be dropped.
    """
    before, during = states
    journal.set_state(replay, during)
    try:
        yield
    except Exception:
        if not any(_state(_table(catalog, view), replay).startswith(done) for view in views):
            journal.set_state(replay, before if replay.state == during else replay.state)
        raise


def mark(replay: Replay) -> str:
    """The property of a table that says what of the replay is in place."""
    return f"{MARK}{replay.id}"


def _table(catalog: Catalog, view: FeatureView) -> Table:
    return catalog.load_table(f"{NAMESPACE}.{view.name}")


def _state(table: Table, replay: Replay) -> str:
    return table.properties.get(mark(replay), "")


def _check_branch(table: Table, view: str, replay: Replay) -> None:
    if replay.branch not in table.refs():
        raise PromotionError(f"{view}: the rows of replay {replay.id} are gone")
    if _state(table, replay).startswith(PROMOTED):
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
    assert end is not None
    told = Promotion(
        before.snapshot_id,
        promoted,
        placed.sequence_number,
        replay.start,
        end,
        placed.timestamp_ms,
    )
    transaction.set_properties({mark(replay): told.text()})
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
        written_since = where(GreaterThan, AVAILABLE_AT, instant(placed.timestamp_ms))
        newer = table.scan(row_filter=And(replay.within(view), written_since))
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
    undone = transaction.table_metadata.current_snapshot_id
    assert undone is not None
    told = TakenBack(there.order, promoted, undone)
    transaction.set_properties({mark(replay): told.text()})
    return transaction, rows


def _promotion(table: Table, view: str, replay: Replay) -> Promotion:
    """Where a replay is in place; PromotionError unless it is, and what was before is there."""
    found = Promotion.read(table, _state(table, replay))
    if found is None:
        raise PromotionError(f"{view}: replay {replay.id} is not in the table")
    for snapshot in (found.before, found.promoted):
        if table.snapshot_by_id(snapshot) is None:
            raise PromotionError(
                f"{view}: the rows from before replay {replay.id} was promoted are gone"
            )
    return found


def _promoted_beside(
    journal: Journal, catalog: Catalog, views: Sequence[FeatureView], replay: Replay
) -> list[Replay]:
    """Those of earlier spans that were promoted later, oldest first.

    Of an entity whose newest values were those of `replay`, theirs were not put online, as they
    are to be once these are taken away. PromotionError if another one was promoted on top: its span
    ends after this one's start, so that what it replaced, and would put back, may be of this one.
    """
    known = journal.there()
    found: dict[str, int] = {}
    for view in views:
        table = _table(catalog, view)
        done, *rest = _state(table, replay).split() or [""]
        if done == ROLLED_BACK:  # a command that was killed had come this far
            order, start = int(rest[0]) if rest else sys.maxsize, sys.maxsize
        else:
            mine = _promotion(table, view.name, replay)
            order, start = mine.order, mine.start
        later = {id_: one for id_, one in promotions(table).items() if one.order > order}
        for id_, one in sorted(later.items(), key=lambda item: -item[1].order):
            if one.end > start:
                told = f"{view.name}: replay {id_} was promoted on top of {replay.id}"
                if id_ in known:
                    raise PromotionError(f"{told}: roll it back first")
                raise PromotionError(
                    f"{told} and has been dropped: its values stay, and {replay.id} can no longer"
                    " be rolled back"
                )
            if id_ in known:
                found[id_] = one.order
    return [known[id_] for id_ in sorted(found, key=lambda id_: found[id_])]


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


def _check_free(journal: Journal, catalog: Catalog, values: Values, replay: Replay) -> None:
    """Raise where the views cannot be switched at all, or another replay is in the middle of it."""
    check_together(catalog)
    _check_finished(journal, replay)
    values.check_free()


def _check_finished(journal: Journal, replay: Replay) -> None:
    """PromotionError if the switch of another replay of the same views was begun, and broke off."""
    for other in journal.all():
        begun = other.state in ("promoting", "rolling back")
        if begun and other.id != replay.id and set(other.views) & set(replay.views):
            raise PromotionError(
                f"replay {other.id} of {', '.join(other.views)} is {other.state}: finish that first"
            )
