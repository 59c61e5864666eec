"""`headwater snapshots`: back to where a table was, along the line it came; no servers."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from click.testing import CliRunner

from headwater.cli import headwater
from iceberg.catalog import create_tables, open_catalog
from iceberg.commits import expire_snapshots
from tests.shop import last_purchase

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Place:
    """The table of a view, which the command finds by its settings."""

    def __init__(self, catalog) -> None:
        create_tables(catalog, [last_purchase])
        self.table = catalog.load_table("features.last_purchase")

    def append(self):
        """One row more; the snapshot that has it, none other of its millisecond."""
        row = {"customer": "ada", "event_time": NOON, "available_at": NOON}
        self.table.refresh().append(pa.Table.from_pylist([row], self.table.schema().as_arrow()))
        time.sleep(0.002)
        return self.table.current_snapshot()

    def rollback(self, before):
        """What the command says, and its code."""
        arguments = ["snapshots", "rollback", "last_purchase", "--before", before]
        done = CliRunner().invoke(headwater, arguments)
        return done.exit_code, done.output, done.exception

    @property
    def current(self):
        return self.table.refresh().current_snapshot().snapshot_id


@pytest.fixture
def place(tmp_path, monkeypatch):
    uri, warehouse = f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse"
    monkeypatch.setenv("HEADWATER_CATALOG_URI", uri)
    monkeypatch.setenv("HEADWATER_WAREHOUSE", warehouse)
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")
    return Place(open_catalog(uri, warehouse))


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
