"""Windows that move with the clock, and what `headwater quality` makes of them; no servers."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner

from headwater.cli import headwater
from headwater.commands import options
from iceberg.catalog import create_quality, open_catalog
from iceberg.quality import forget
from iceberg.tables import quality_schema

NOON = 1_767_268_800_000
HOUR = 3_600_000


@pytest.fixture
def seen(monkeypatch):
    """What a command with a window is given; it is noon on the first day of 2026."""
    monkeypatch.setattr(options, "now", lambda: NOON)

    @click.command()
    @click.argument("name")
    @options.with_window("Rows")
    def show(name, start, end):
        click.echo(json.dumps([name, start, end]))

    def run(*arguments):
        done = CliRunner().invoke(show, ["it", *arguments])
        return json.loads(done.output)[1:] if done.exit_code == 0 else done.output

    return run


def test_the_present_is_in_milliseconds():
    assert abs(options.now() - time.time() * 1000) < 60_000


def test_a_window_is_what_it_was_told(seen):
    assert seen() == [None, None]
    assert seen("--from", "2026-01-01T11:00") == [NOON - HOUR, None]
    assert seen("--from", "2004-08-03T15:36:55.909") == [1_091_547_415_909, None]
    assert seen("--last", "24h") == [NOON - 24 * HOUR, None]
    assert seen("--last", "30m") == [NOON - HOUR // 2, None]
    assert seen("--last", "7d", "--to", "2026-01-01T11:00") == [NOON - 169 * HOUR, NOON - HOUR]


def test_a_window_that_is_none_is_refused(seen):
    assert "--from and --last both say where to begin" in seen(
        "--last", "1h", "--from", "2026-01-01"
    )
    for wrong in ("24", "0h", "h", "1w", "1.5h", "-1h"):
        assert "no length of time, such as 30m, 24h or 7d" in seen(f"--last={wrong}")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A catalog of its own, which the command finds by its settings."""
    uri, warehouse = f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse"
    monkeypatch.setenv("HEADWATER_CATALOG_URI", uri)
    monkeypatch.setenv("HEADWATER_WAREHOUSE", warehouse)
    return open_catalog(uri, warehouse)


def test_quality_looks_at_what_the_last_hours_broke(place, monkeypatch):
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")
    create_quality(place, "shop")
    now = datetime.now(UTC)
    rows = [
        {
            "source": "visits",
            "expectation": "fresh",
            "event_time": now - timedelta(hours=hours),
            "until": now - timedelta(hours=hours) + timedelta(minutes=1),
            "events": 10,
            "broken": broken,
        }
        for hours, broken in ((30, 4), (3, 0), (1, 0))
    ]
    schema = quality_schema().as_arrow()
    place.load_table("quality.shop").append(pa.Table.from_pylist(rows, schema=schema))

    def windows(*arguments):
        done = CliRunner().invoke(headwater, ["quality", "--format", "json", *arguments])
        (one,) = json.loads(done.output)
        return one["windows"], one["broken"], done.exit_code

    assert windows() == (3, 4, 1)
    assert windows("--last", "24h") == (2, 0, 0)
    assert windows("--last", "48h") == (3, 4, 1)
    assert windows("--last", "2h") == (1, 0, 0)


def test_quality_tells_of_what_is_declared_and_not_of_what_was(place, monkeypatch):
    """Broken when it was renamed, an expectation would be told of as broken for ever."""
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")
    create_quality(place, "shop")
    now = datetime.now(UTC)
    known = [("visits", "fresh"), ("view.visit_counts", "rate")]
    once = [("visits", "newer"), ("visits", "count_20s_within"), ("purchases", "channel_present")]
    rows = [
        {"source": source, "expectation": expectation, "events": 10, "broken": 10}
        | {"event_time": now - timedelta(minutes=2), "until": now - timedelta(minutes=1)}
        for source, expectation in known + once
    ]
    schema = quality_schema().as_arrow()
    place.load_table("quality.shop").append(pa.Table.from_pylist(rows, schema=schema))
    done = CliRunner().invoke(headwater, ["quality", "--format", "json"])
    told = {(one["source"], one["expectation"]) for one in json.loads(done.output)}
    assert told == {*known}


def test_windows_are_forgotten_while_a_job_writes_more_of_them(place, monkeypatch):
    """Its files hold windows of before and after, and come while the deletion is committed."""
    create_quality(place, "shop")
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def write():
        rows = [
            {
                "source": "view.visits",
                "expectation": "fresh",
                "event_time": noon + timedelta(minutes=minutes),
                "until": noon + timedelta(minutes=minutes + 1),
                "events": 10,
                "broken": 0,
            }
            for minutes in (-1, 1)
        ]
        schema = quality_schema().as_arrow()
        other = open_catalog(str(place.engine.url), place.properties["warehouse"])
        other.load_table("quality.shop").append(pa.Table.from_pylist(rows, schema=schema))

    write()
    commit, later = place.commit_table, [write, write]

    def meanwhile(*given):
        if later:
            later.pop()()
        return commit(*given)

    monkeypatch.setattr(place, "commit_table", meanwhile)
    forget(place, "shop", ["view.visits"], round(noon.timestamp() * 1000))
    left = place.load_table("quality.shop").scan().to_arrow()["event_time"].to_pylist()
    assert left == [noon - timedelta(minutes=1)] * 3


def test_where_nothing_is_checked_a_run_on_a_schedule_does_not_fail(place, monkeypatch):
    monkeypatch.setenv("HEADWATER_REPOSITORY", "feature_repo.flights.repository:repository")
    done = CliRunner().invoke(headwater, ["quality", "--last", "24h"])
    assert done.exit_code == 0, done.output
    assert "flights: nothing declares `checked`" in done.output
