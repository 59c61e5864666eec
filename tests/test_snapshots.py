"""`headwater snapshots`: back to where a table was, along the line it came; no servers."""

from __future__ import annotations

import os
import struct
import time
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyiceberg.exceptions import CommitFailedException

from headwater.cli import headwater
from headwater.replays.journal import Journal, Replay
from headwater.savepoints import OldSavepoint, RolledBack, check_savepoint
from iceberg.catalog import create_tables, empty_branch, open_catalog
from iceberg.commits import expire_snapshots
from iceberg.lineage import CHECKPOINT, JOB
from iceberg.maintenance import Care, expire
from iceberg.promotions import MARK, Promotion, TakenBack
from tests.shop import customer_facts, last_purchase

LATER = datetime.now(UTC) + timedelta(days=1)
AT_ONCE = Care(keep_snapshots=timedelta(0))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Place:
    """The table of a view, which the command finds by its settings."""

    def __init__(self, catalog, folder) -> None:
        self.catalog, self.folder, self.made = catalog, folder, 0
        create_tables(catalog, [last_purchase])
        self.table = catalog.load_table("features.last_purchase")

    def append(self, job=None, checkpoint=0):
        """One row more; the snapshot that has it, none other of its millisecond.

        Committed by a checkpoint of a job, or by nobody's.
        """
        row = {"customer": "ada", "event_time": NOON, "available_at": NOON}
        by = {} if job is None else {JOB: f"{job:0<32}", CHECKPOINT: str(checkpoint)}
        rows = pa.Table.from_pylist([row], self.table.schema().as_arrow())
        self.table.refresh().append(rows, snapshot_properties=by)
        time.sleep(0.002)
        return self.table.current_snapshot()

    def savepoint(self, job, number):
        """The path of one that is made now."""
        self.made += 1
        folder = self.folder / f"savepoint-{job}-{self.made:012x}"
        folder.mkdir()
        (folder / "_metadata").write_bytes(struct.pack(">iiq", 0x4960672D, 0, number))
        time.sleep(0.002)
        return f"file:{folder}"

    def says(self, *arguments):
        """What a command says, its code, and what it failed of."""
        done = CliRunner().invoke(headwater, ["snapshots", *arguments])
        return done.exit_code, done.output, done.exception

    def rollback(self, before):
        return self.says("rollback", "last_purchase", "--before", before)

    def replay(self, dropped=False):
        """The journal has a replay, or has it no more."""
        state = "dropping" if dropped else "promoted"
        Journal(self.folder / "state" / "replays").write(
            Replay("0001", ("last_purchase",), 0, 9, state=state)
        )

    def expire(self, now, care=AT_ONCE):
        return expire(self.catalog, "features.last_purchase", care, now)

    def check(self, savepoint, is_last=False):
        check_savepoint(self.catalog, ["features.last_purchase"], savepoint, is_last=is_last)

    @property
    def current(self):
        return self.table.refresh().current_snapshot().snapshot_id


@pytest.fixture
def place(tmp_path, monkeypatch):
    uri, warehouse = f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse"
    monkeypatch.setenv("HEADWATER_CATALOG_URI", uri)
    monkeypatch.setenv("HEADWATER_WAREHOUSE", warehouse)
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")
    monkeypatch.setenv("HEADWATER_STATE", str(tmp_path / "state"))
    return Place(open_catalog(uri, warehouse), tmp_path)


def at(snapshot, later=0):
    moment = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
    return (moment + timedelta(milliseconds=later)).isoformat()


def test_a_table_goes_back_to_its_last_snapshot_before_a_time(place):
    first, second = place.append(), place.append()
    code, said, _ = place.rollback(at(second))
    assert (code, place.current) == (0, first.snapshot_id)
    assert f"snapshot {first.snapshot_id}" in said


def test_what_was_rolled_back_before_is_not_gone_back_to(place):
    first, dropped = place.append(), place.append()
    assert place.rollback(at(dropped))[0] == 0
    third = place.append()
    assert third.parent_snapshot_id == first.snapshot_id
    # It was the current one then.
    code, said, _ = place.rollback(at(dropped, later=1))
    assert (code, place.current) == (0, first.snapshot_id), said


def test_a_table_that_is_older_than_the_time_stays_as_it_is(place):
    place.append()
    second = place.append()
    code, said, _ = place.rollback(at(second, later=1))
    assert (code, place.current) == (0, second.snapshot_id), said


def test_where_there_is_none_to_go_back_to_it_says_so(place):
    before = place.current
    code, _, error = place.rollback("2026-01-01")
    assert (code, place.current) == (1, before)
    assert "no snapshot is left from before 2026-01-01T00:00:00.000Z" in str(error)
    assert "the oldest of those is of" in str(error)


def test_what_has_expired_is_not_gone_back_to(place):
    made, first, second = place.current, place.append(), place.append()
    expire_snapshots(place.table.refresh(), [made, first.snapshot_id])
    _, _, error = place.rollback(at(second))
    assert f"no snapshot is left from before {at(second)[:23]}Z" in str(error)
    assert place.current == second.snapshot_id


def test_a_table_goes_back_to_where_a_savepoint_left_it(place):
    """With what the savepoint itself was to commit, and what was committed beside jobs then."""
    place.append("aaaaaa", 1)
    older = place.savepoint("aaaaaa", 2)
    place.append("aaaaaa", 2)  # once it is made
    promoted = place.append()
    place.append("aaaaaa", 3)
    newer = place.savepoint("aaaaaa", 3)
    place.append("bbbbbb", 1)
    newest = place.append()
    with pytest.raises(OldSavepoint, match=f"snapshots rollback --savepoint {older}"):
        place.check(older)
    assert place.says("rollback", "--savepoint", older)[0] == 0
    assert place.current == promoted.snapshot_id
    place.check(older)
    with pytest.raises(RolledBack, match=f"snapshots set last_purchase {newest.snapshot_id}`"):
        place.check(newer)
    code, said, _ = place.says("set", "last_purchase", str(newest.snapshot_id))
    assert (code, place.current) == (0, newest.snapshot_id), said
    with pytest.raises(OldSavepoint):
        place.check(newer)
    place.append("cccccc", 1)
    place.check(place.savepoint("cccccc", 1))


def test_a_savepoint_of_after_a_rollback_is_not_behind_it(place):
    """What was rolled back before the job began is not of what it counts on."""
    place.append("aaaaaa", 1)
    first = place.savepoint("aaaaaa", 1)
    place.append("aaaaaa", 2)
    last = place.savepoint("aaaaaa", 2)
    assert place.says("rollback", "--savepoint", first)[0] == 0
    place.check(place.savepoint("bbbbbb", 1))  # of a job that went on from the first, without rows
    place.append("bbbbbb", 2)
    place.check(place.savepoint("bbbbbb", 2))
    with pytest.raises(OldSavepoint, match="a later job"):
        place.check(last)


def test_a_clock_that_was_set_back_makes_no_job_a_later_one(place):
    """It went on from the one before, and was stopped before it wrote anything."""
    place.append("aaaaaa", 1)
    silent = place.savepoint("bbbbbb", 1)
    os.utime(f"{silent.removeprefix('file:')}/_metadata", (9, 9))
    with pytest.raises(OldSavepoint, match="a later job"):
        place.check(silent)
    place.check(silent, is_last=True)
    place.append("bbbbbb", 2)
    with pytest.raises(OldSavepoint, match="checkpoint 2"):
        place.check(silent, is_last=True)


def test_a_savepoint_whose_job_wrote_nothing_goes_by_its_time(place):
    kept = place.append("aaaaaa", 9)
    silent = place.savepoint("bbbbbb", 1)
    after = place.append("cccccc", 1)
    code, _, error = place.says("rollback", "--savepoint", silent)
    assert code != 0 and "no view's table has a snapshot of its job any more" in str(error)
    assert place.says("rollback", "last_purchase", "--savepoint", silent)[0] == 0
    assert place.current == kept.snapshot_id
    place.check(silent)
    assert place.says("set", "last_purchase", str(after.snapshot_id))[0] == 0
    with pytest.raises(OldSavepoint, match="a later job"):
        place.check(silent)


def test_an_unknown_snapshot_or_no_choice_changes_nothing(place):
    now = place.append("aaaaaa", 1).snapshot_id
    for arguments, said in (
        (("set", "last_purchase", "5"), "was never at a snapshot 5, or it has expired"),
        (("rollback", "last_purchase"), "choose one"),
        (("rollback", "--before", "2026-01-01"), "name the views"),
        (("rollback", "--savepoint", f"file:{place.folder}/savepoint-aaaaaa-00"), "no savepoint"),
    ):
        code, _, error = place.says(*arguments)
        assert code != 0 and said in str(error), arguments
    assert place.current == now


def test_neither_a_branch_nor_another_jobs_table_goes_anywhere(place):
    now = place.append("aaaaaa", 1).snapshot_id
    older = place.savepoint("bbbbbb", 1)
    empty_branch(place.table.refresh(), "replay_0001")
    row = {"customer": "ada", "event_time": NOON, "available_at": NOON}
    rows = pa.Table.from_pylist([row], place.table.schema().as_arrow())
    place.table.refresh().append(rows, branch="replay_0001")
    branch = place.table.refresh().refs()["replay_0001"].snapshot_id
    code, _, error = place.says("set", "last_purchase", str(branch))
    assert code != 0 and "was never at" in str(error)
    create_tables(place.catalog, [customer_facts])
    other = place.catalog.load_table("features.customer_facts")
    other.append(other.schema().as_arrow().empty_table(), snapshot_properties={JOB: "bbbbbb"})
    code, _, error = place.says("rollback", "last_purchase", "--savepoint", older)
    assert code != 0 and "is of shop-tables, which does not write last_purchase" in str(error)
    assert place.current == now


def test_a_savepoint_that_the_table_is_behind_of_already_is_not_called_there(place):
    place.append("aaaaaa", 1)
    first = place.savepoint("aaaaaa", 1)
    place.append("aaaaaa", 2)
    second = place.savepoint("aaaaaa", 2)
    newest = place.append("aaaaaa", 3).snapshot_id
    assert place.says("rollback", "--savepoint", first)[0] == 0
    code, _, error = place.says("rollback", "--savepoint", second)
    assert code != 0 and f"snapshots set last_purchase {newest}`" in str(error)
    assert place.says("set", "last_purchase", str(newest))[0] == 0
    assert place.says("rollback", "--savepoint", second)[0] == 0
    place.check(second)


def test_a_rollback_can_be_taken_back_until_a_job_has_gone_on(place):
    """However long that is: expiry takes nothing that the table may go forth to."""
    place.append("aaaaaa", 1)
    first = place.savepoint("aaaaaa", 1)
    place.append("aaaaaa", 2)
    newest = place.append("aaaaaa", 3).snapshot_id
    second = place.savepoint("aaaaaa", 3)
    assert place.says("rollback", "--savepoint", first)[0] == 0
    place.expire(LATER)
    with pytest.raises(RolledBack):
        place.check(second)
    assert place.says("set", "last_purchase", str(newest))[0] == 0
    place.check(second)
    assert place.says("rollback", "--savepoint", first)[0] == 0
    place.append("bbbbbb", 2)
    assert place.expire(LATER) > 0
    assert newest not in {one.snapshot_id for one in place.table.refresh().snapshots()}


def test_a_table_goes_back_to_what_it_was_lately_however_old_that_is(place):
    rested = place.append("aaaaaa", 1)
    savepoint = place.savepoint("aaaaaa", 1)
    compacted = place.append()
    bad = place.append("bbbbbb", 1)
    worse = place.append("bbbbbb", 2)
    # A moment before the bad commit is the limit: all that came before it is older.
    limit = datetime.fromtimestamp((bad.timestamp_ms - 1) / 1000, UTC)
    place.expire(limit + Care().keep_snapshots, Care())
    assert place.says("rollback", "--savepoint", savepoint)[0] == 0
    assert place.current == compacted.snapshot_id
    assert place.says("set", "last_purchase", str(worse.snapshot_id))[0] == 0
    assert rested.snapshot_id in {one.snapshot_id for one in place.table.refresh().snapshots()}


def test_where_what_a_savepoint_left_has_expired_nothing_else_is_taken_for_it(place):
    made, first = place.current, place.append("aaaaaa", 1)
    savepoint = place.savepoint("aaaaaa", 1)
    second, merged = place.append("aaaaaa", 2), place.append()
    newest = place.append("aaaaaa", 3)
    gone = [made, first.snapshot_id, second.snapshot_id]
    expire_snapshots(place.table.refresh(), gone)
    assert place.table.refresh().snapshot_by_id(merged.snapshot_id).parent_snapshot_id is None
    code, _, error = place.says("rollback", "--savepoint", savepoint)
    assert code != 0 and "no snapshot is left from before" in str(error)
    assert place.current == newest.snapshot_id


def test_what_a_table_goes_back_to_does_not_expire_meanwhile(place):
    """It was loaded by who expires it before that."""
    old = place.append("aaaaaa", 1)
    place.append("aaaaaa", 2)
    stale = place.catalog.load_table("features.last_purchase")
    assert place.says("set", "last_purchase", str(old.snapshot_id))[0] == 0
    with pytest.raises(CommitFailedException):
        expire_snapshots(stale, [old.snapshot_id])
    assert place.current == old.snapshot_id
    assert place.table.scan().to_arrow().num_rows == 1


def test_what_a_replay_put_in_place_is_taken_back_by_its_own_command_first(place):
    before = place.append("aaaaaa", 1)
    savepoint = place.savepoint("aaaaaa", 1)
    promoted = place.append()
    told = Promotion(before.snapshot_id, promoted.snapshot_id, 1, 0, 9, promoted.timestamp_ms)
    place.replay()
    with place.table.refresh().transaction() as change:
        change.set_properties({f"{MARK}0001": told.text()})
    newest = place.append("aaaaaa", 2)
    assert place.says("rollback", "last_purchase", "--before", at(newest))[0] == 0
    assert place.current == promoted.snapshot_id
    place.append("bbbbbb", 1)
    code, _, error = place.says("rollback", "--savepoint", savepoint)
    assert (code, place.current) == (0, promoted.snapshot_id), error
    code, _, error = place.says("set", "last_purchase", str(before.snapshot_id))
    assert code != 0 and "`headwater replay rollback 0001` first" in str(error)
    assert place.current == promoted.snapshot_id
    with place.table.refresh().transaction() as change:
        change.set_properties({f"{MARK}0001": TakenBack(1, promoted.snapshot_id, 5).text()})
    assert place.says("set", "last_purchase", str(before.snapshot_id))[0] == 0
    place.check(savepoint)
    # Nor does what was taken back come into place again.
    code, _, error = place.says("set", "last_purchase", str(newest.snapshot_id))
    assert code != 0 and "replay 0001 was in place, which was taken back since" in str(error)
    assert place.current == before.snapshot_id
    place.replay(dropped=True)
    code, said, _ = place.says("set", "last_purchase", str(newest.snapshot_id))
    assert (code, place.current) == (0, newest.snapshot_id)
    assert "replay 0001 is not known any more" in said
