"""Tables stay small in files and snapshots, and lose no row and no commit that a job needs."""

from __future__ import annotations

import struct
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from urllib.parse import urlparse

import pyarrow as pa
import pytest
from pyiceberg.table.maintenance import MaintenanceTable

from feature_repo.flights.views.origin_weather import origin_weather
from headwater.savepoints import OldSavepoint, check_savepoint
from iceberg import maintenance
from iceberg.catalog import create_quality, create_tables, drop_branch, empty_branch, open_catalog
from iceberg.commits import expire_snapshots
from iceberg.lineage import JOB
from iceberg.maintenance import (
    Care,
    MaintenanceError,
    compact,
    expire,
    maintain,
    needed_snapshots,
    states,
)
from observability import tables as observed
from observability.textfile import exposition

NAME = "features.origin_weather"
NOW = datetime.now(UTC) + timedelta(days=30)
AT_ONCE = Care(keep_snapshots=timedelta(0), keep_orphans=timedelta(days=29))


@pytest.fixture
def catalog(tmp_path):
    catalog = open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")
    create_tables(catalog, [origin_weather])
    return catalog


def rows(first, count, day=1):
    return [
        {
            "origin": "JFK",
            "event_time": datetime(2013, 1, day, tzinfo=UTC) + timedelta(seconds=n),
            "available_at": datetime(2013, 1, 2, tzinfo=UTC),
        }
        for n in range(first, first + count)
    ]


def append(catalog, first, count=10, job=None, day=1, sink=""):
    table = catalog.load_table(NAME)
    schema = table.schema().as_arrow()
    written = [dict.fromkeys(schema.names) | row for row in rows(first, count, day)]
    table.append(
        pa.Table.from_pylist(written, schema=schema),
        snapshot_properties={} if job is None else {JOB: job, "flink.operator-id": sink},
    )


def times(catalog):
    return sorted(catalog.load_table(NAME).scan().to_arrow()["event_time"].to_pylist())


def files(catalog):
    return [task.file for task in catalog.load_table(NAME).scan().plan_files()]


def test_small_files_become_one_a_partition_and_no_row_changes(catalog):
    for n in range(6):
        append(catalog, n * 10)
        append(catalog, n * 10, day=2)
    append(catalog, 0, day=3)
    before = catalog.load_table(NAME).scan().to_arrow().sort_by("event_time")
    assert compact(catalog, NAME, Care()) == (12, 2)
    assert len(files(catalog)) == 3, "a partition of one file stays"
    assert catalog.load_table(NAME).scan().to_arrow().sort_by("event_time") == before
    assert compact(catalog, NAME, Care()) == (0, 0)


def test_a_commit_finds_the_files_that_are_to_go_whenever_its_threads_take_turns(catalog):
    for day in range(1, 21):
        append(catalog, 0, day=day)
    table, there = catalog.load_table(NAME), files(catalog)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(40):
            with table.transaction().update_snapshot().overwrite() as change:
                for file in there[::3]:
                    change.delete_data_file(file)
    finally:
        sys.setswitchinterval(interval)


def test_rows_that_come_meanwhile_stay(catalog):
    for n in range(8):
        append(catalog, n * 10)

    def write():
        for n in range(8, 20):
            append(catalog, n * 10)

    writer = Thread(target=write)
    writer.start()
    done = 0
    while writer.is_alive():
        done += compact(catalog, NAME, Care(min_files=2))[0]
    writer.join()
    assert done > 0
    assert times(catalog) == [row["event_time"] for row in rows(0, 200)]


def test_a_job_that_commits_oftener_than_files_are_put_together_starves_nobody(
    catalog, monkeypatch
):
    for n in range(6):
        append(catalog, n * 10)
    made, write = [], maintenance._dataframe_to_data_files

    def while_a_job_commits(*arguments):
        written = list(write(*arguments))
        made.extend(written)
        if len(made) == 1:
            append(catalog, 60)
        return written

    monkeypatch.setattr(maintenance, "_dataframe_to_data_files", while_a_job_commits)
    assert compact(catalog, NAME, Care()) == (6, 1)
    assert len(made) == 1, "what took long is done once"
    assert times(catalog) == [row["event_time"] for row in rows(0, 70)]


def test_nobody_is_waited_for_who_commits_no_more(catalog, monkeypatch):
    append(catalog, 0)
    append(catalog, 10)
    *_, first, last = (one.timestamp_ms / 1000 for one in catalog.load_table(NAME).snapshots())
    waits = []
    monkeypatch.setattr(maintenance.time, "sleep", waits.append)
    monkeypatch.setattr(maintenance.time, "monotonic", lambda: sum(waits))
    maintenance._committed(catalog, NAME)
    assert sum(waits) <= 2 * (last - first) + 0.05


def test_files_that_somebody_else_took_away_stay_away(catalog, monkeypatch):
    for n in range(6):
        append(catalog, n * 10)
    made, write = [], maintenance._dataframe_to_data_files

    def while_rows_are_deleted(*arguments):
        written = list(write(*arguments))
        made.extend(written)
        catalog.load_table(NAME).delete()
        return written

    monkeypatch.setattr(maintenance, "_dataframe_to_data_files", while_rows_are_deleted)
    with pytest.raises(MaintenanceError, match=NAME):
        compact(catalog, NAME, Care())
    assert times(catalog) == []
    assert not any(Path(urlparse(file.file_path).path).exists() for file in made)


def test_expiry_keeps_the_last_commit_of_the_job_and_all_after_it(catalog):
    append(catalog, 0, job="old")
    append(catalog, 10, job="live")
    append(catalog, 20, job="live")
    live = catalog.load_table(NAME).current_snapshot().snapshot_id
    compact(catalog, NAME, Care(min_files=2))
    append(catalog, 30)
    table = catalog.load_table(NAME)
    heads = {ref.snapshot_id for ref in table.refs().values()}
    needed = needed_snapshots(table, AT_ONCE, NOW)
    assert live in needed
    assert heads <= needed
    kept = len(needed)
    assert expire(catalog, NAME, AT_ONCE, NOW) == len(table.snapshots()) - kept
    table = catalog.load_table(NAME)
    walked, snapshot = [], table.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id != live:
        walked.append(snapshot.snapshot_id)
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id)
    assert snapshot is not None, "Flink must be able to walk from the head to its commit"
    assert len(walked) == 2
    assert times(catalog) == [row["event_time"] for row in rows(0, 40)]


def test_each_sink_of_the_last_job_is_kept_and_no_job_before_it(catalog):
    append(catalog, 0, job="before")
    before = catalog.load_table(NAME).current_snapshot().snapshot_id
    append(catalog, 10, job="after", sink="one")
    one = catalog.load_table(NAME).current_snapshot().snapshot_id
    for n in (20, 30):
        append(catalog, n, job="after", sink="other")
    needed = needed_snapshots(catalog.load_table(NAME), AT_ONCE, datetime.now(UTC))
    assert one in needed
    assert before not in needed


def test_a_job_that_shares_its_table_is_kept_as_long_as_it_may_come_back(catalog):
    create_quality(catalog, "shop")

    def write(job):
        table = catalog.load_table("quality.shop")
        table.append(table.schema().as_arrow().empty_table(), snapshot_properties={JOB: job})
        return table.current_snapshot().snapshot_id

    resting, _ = write("rests"), write("goes on")
    table = catalog.load_table("quality.shop")
    assert resting in needed_snapshots(table, AT_ONCE, datetime.now(UTC))
    assert resting not in needed_snapshots(table, AT_ONCE, NOW)


def test_a_table_that_was_never_cared_for_is_in_a_few_commits(catalog, monkeypatch):
    for n in range(7):
        append(catalog, n * 10)
    monkeypatch.setattr(maintenance, "_EXPIRED_AT_ONCE", 3)
    there = len(catalog.load_table(NAME).snapshots())
    heads = {ref.snapshot_id for ref in catalog.load_table(NAME).refs().values()}
    assert expire(catalog, NAME, AT_ONCE, NOW) == there - len(heads) > 3
    assert {one.snapshot_id for one in catalog.load_table(NAME).snapshots()} == heads
    assert times(catalog) == [row["event_time"] for row in rows(0, 70)]


def test_an_older_savepoint_is_refused_when_the_commits_of_its_job_have_expired(catalog, tmp_path):
    def savepoint(job):
        folder = tmp_path / f"savepoint-{job}-0123"
        folder.mkdir()
        (folder / "_metadata").write_bytes(struct.pack(">iiq", 0x4960672D, 0, 7))
        return f"file://{folder}"

    append(catalog, 0, job="aaaaaa")
    first, begun = savepoint("aaaaaa"), savepoint("bbbbbb")
    check_savepoint(catalog, [NAME], first)
    check_savepoint(catalog, [NAME], begun)  # of a job that has written nothing yet
    append(catalog, 10, job="bbbbbb")
    for _ in range(2):
        with pytest.raises(OldSavepoint, match=f"{NAME} has rows of a later job"):
            check_savepoint(catalog, [NAME], first)
        assert expire(catalog, NAME, AT_ONCE, NOW) > 0
        append(catalog, 20, job="bbbbbb")
    check_savepoint(catalog, [NAME], begun)


def test_orphans_go_and_nothing_that_is_known_or_young(catalog):
    for n in range(6):
        append(catalog, n * 10)
    location = Path(urlparse(catalog.load_table(NAME).location()).path)
    orphan = location / "data" / "left-behind.parquet"
    orphan.write_bytes(b"x")
    young = Care(keep_snapshots=timedelta(0), keep_orphans=timedelta(days=31))
    assert maintain(catalog, NAME, young, NOW).orphans == 0
    assert orphan.exists()
    done = maintain(catalog, NAME, AT_ONCE, NOW)
    assert done.orphans > 1, "the file, and those of expired snapshots"
    assert not orphan.exists()
    assert times(catalog) == [row["event_time"] for row in rows(0, 60)]
    append(catalog, 60)
    assert maintain(catalog, NAME, AT_ONCE, NOW).orphans <= 3, "what the last ones left"
    assert times(catalog) == [row["event_time"] for row in rows(0, 70)]


def test_what_a_lost_job_had_still_to_commit_is_no_orphan(catalog, monkeypatch):
    """It came after the job's last commit: the checkpoint that it goes on from names it."""
    append(catalog, 0, job="aaaaaa")
    location = Path(urlparse(catalog.load_table(NAME).location()).path)
    pending = location / "data" / "pending.parquet"
    pending.write_bytes(b"x")
    append(catalog, 10)  # somebody else's
    assert maintain(catalog, NAME, AT_ONCE, NOW).orphans == 0
    assert pending.exists()
    monkeypatch.setattr(maintenance, "_all_committed", lambda *_: NOW)  # it has come back since
    assert maintain(catalog, NAME, AT_ONCE, NOW).orphans > 0
    assert not pending.exists()


def test_a_replay_that_was_put_in_place_keeps_no_orphan(catalog):
    """Its job has ended, and its branch is there until it is dropped."""
    table = catalog.load_table(NAME)
    empty_branch(table, "replay_0001")
    schema = table.schema().as_arrow()
    table.append(
        pa.Table.from_pylist(rows(0, 10), schema=schema),
        branch="replay_0001",
        snapshot_properties={JOB: "replays"},
    )
    orphan = Path(urlparse(table.location()).path) / "data" / "left-behind.parquet"
    orphan.write_bytes(b"x")
    assert maintain(catalog, NAME, AT_ONCE, NOW).orphans == 0
    with catalog.load_table(NAME).transaction() as change:
        change.set_properties({"headwater.replay.0001": "rolled-back 1 2"})
    assert maintain(catalog, NAME, AT_ONCE, NOW).orphans > 0
    assert not orphan.exists()


def test_of_jobs_that_share_a_table_each_may_have_something_to_commit(catalog):
    create_quality(catalog, "shop")
    times = []
    for job in ("rests", "goes on", "goes on"):
        table = catalog.load_table("quality.shop")
        table.append(table.schema().as_arrow().empty_table(), snapshot_properties={JOB: job})
        times.append(table.current_snapshot().timestamp_ms)
    table = catalog.load_table("quality.shop")
    committed = lambda now: maintenance._all_committed(table, Care(), now).timestamp() * 1000  # noqa: E731
    assert committed(datetime.now(UTC)) == times[0]
    assert committed(NOW) == times[2], "the other one comes back no more"


def test_the_last_commit_is_a_job_s_own(catalog):
    append(catalog, 0, job="aaaaaa")
    by_job = catalog.load_table(NAME).current_snapshot().timestamp_ms
    append(catalog, 10)
    (state,) = states(catalog, [NAME], Care(), NOW)
    assert state.seconds_since_commit == NOW.timestamp() - by_job / 1000


def first(monkeypatch, other):
    """Have `other` happen once, right before somebody expires snapshots of a table as it was."""
    call, left = MaintenanceTable.expire_snapshots, [other]

    def expire_snapshots(table):
        if left:
            left.pop()()
        return call(table)

    monkeypatch.setattr(MaintenanceTable, "expire_snapshots", expire_snapshots)


def branched(catalog):
    """The table with a replay's branch, as it is to be dropped; and what drops it."""
    table = catalog.load_table(NAME)
    empty_branch(table, "replay_0001")
    written = [dict.fromkeys(table.schema().as_arrow().names) | row for row in rows(0, 10)]
    schema = table.schema().as_arrow()
    table.append(pa.Table.from_pylist(written, schema=schema), branch="replay_0001")
    return lambda: drop_branch(catalog.load_table(NAME), "replay_0001", [], delete_files=True)


def left(catalog):
    table = catalog.load_table(NAME)
    return set(table.refs()), len(table.snapshots())


def test_a_branch_that_is_dropped_while_the_table_is_cared_for_goes(catalog, monkeypatch):
    drop = branched(catalog)
    first(monkeypatch, lambda: maintain(catalog, NAME, AT_ONCE, NOW))
    drop()
    assert left(catalog) == ({"main", "empty"}, 2)


def test_a_table_is_cared_for_while_a_branch_of_it_is_dropped(catalog, monkeypatch):
    drop = branched(catalog)
    append(catalog, 0)
    append(catalog, 10)
    first(monkeypatch, lambda: [drop(), expire(catalog, NAME, AT_ONCE, NOW)])
    assert expire(catalog, NAME, AT_ONCE, NOW) == 0, "somebody else was quicker"
    assert left(catalog) == ({"main", "empty"}, 2)


def test_an_orphan_that_somebody_else_removes_is_gone(catalog, monkeypatch):
    orphan = Path(urlparse(catalog.load_table(NAME).location()).path) / "left-behind.parquet"
    orphan.write_bytes(b"x")
    known = maintenance._referenced
    removed = lambda table: orphan.unlink() or known(table)  # noqa: E731
    monkeypatch.setattr(maintenance, "_referenced", removed)
    assert maintain(catalog, NAME, AT_ONCE, NOW).orphans == 1


def test_what_a_branch_or_tag_names_is_not_expired(catalog):
    append(catalog, 0)
    table = catalog.load_table(NAME)
    there = [one.snapshot_id for one in table.snapshots()]
    heads = {ref.snapshot_id for ref in table.refs().values()}
    assert expire_snapshots(table, there) == len(there) - len(heads) > 0
    assert {one.snapshot_id for one in catalog.load_table(NAME).snapshots()} == heads


def test_tables_are_metrics(catalog):
    append(catalog, 0)
    (state,) = states(catalog, [NAME], Care(), NOW)
    assert (state.rows, state.files, state.small_files) == (10, 1, 1)
    assert state.seconds_since_commit > 29 * 86_400
    text = exposition(observed.metrics([vars(state)]))
    assert f'headwater_table_small_files{{table="{NAME}"}} 1.0' in text
    assert f'headwater_table_seconds_since_commit{{table="{NAME}"}}' in text
