"""What the comparison of a replay with live says, on small tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from feature_repo.flights.repository import repository
from feature_repo.flights.views.aircraft_last_arrival import aircraft_last_arrival
from flink_jobs.replay import Span, replay_sql, warm_up
from flink_jobs.sql import Job, jobs
from headwater.replays.journal import Journal, Replay
from headwater.replays.verify import compare
from schemas import SettingsError

VIEW = aircraft_last_arrival.only("arr_delay", "dest")
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


def rows(*found):
    columns = ("tailnum", "event_time", "available_at", "arr_delay", "dest")
    times = pa.timestamp("us", "UTC")
    types = (pa.string(), times, times, pa.float64(), pa.string())
    return pa.Table.from_pylist(
        [dict(zip(columns, row, strict=True)) for row in found],
        schema=pa.schema(list(zip(columns, types, strict=True))),
    )


def row(key="N1", minute=0, delay: float | None = 1.0, dest="LAX", later=0):
    return (key, NOON + timedelta(minutes=minute), NOON + timedelta(days=1 + later), delay, dest)


def test_equal_rows_are_equal_whenever_they_became_available():
    found = compare(VIEW, rows(row(), row(minute=1)), rows(row(minute=1, later=9), row(later=9)))
    assert found.equal
    assert (found.live, found.replayed) == (2, 2)
    assert found.features["arr_delay"].equal == 2


def test_nulls_are_values():
    assert compare(VIEW, rows(row(delay=None)), rows(row(delay=None))).equal
    found = compare(VIEW, rows(row(delay=None)), rows(row(delay=0.0)))
    assert found.features["arr_delay"].changed == 1


def test_the_last_of_several_rows_counts():
    twice = rows(row(delay=5.0), row(delay=1.0, later=1))
    assert compare(VIEW, twice, rows(row())).equal


def test_missing_and_extra_rows_are_counted():
    found = compare(VIEW, rows(row(), row("N2")), rows(row(), row("N3"), row("N4")))
    assert (found.missing, found.extra, found.equal) == (1, 2, False)


def test_the_largest_difference_comes_first_with_its_keys():
    live = rows(row(delay=1.0), row(minute=1, delay=1.0), row("N2", dest="SFO"))
    replayed = rows(row(delay=2.0), row(minute=1, delay=9.0), row("N2", dest="OAK"))
    found = compare(VIEW, live, replayed).features
    assert [(d.live, d.replayed) for d in found["arr_delay"].largest] == [(1.0, 9.0), (1.0, 2.0)]
    assert found["dest"].largest[0].keys == {"tailnum": "N2"}


def test_the_smallest_change_of_a_float_is_a_change():
    assert not compare(VIEW, rows(row(delay=0.3)), rows(row(delay=0.1 + 0.2))).equal


def test_a_replay_reads_its_largest_window_and_the_disorder_before_its_span():
    job = next(job for job in jobs(repository) if job.name == "flights-departures")
    week_tile_disorder = 7 * 86_400 + 3_600 + 300
    assert warm_up(job.views) == week_tile_disorder * 1000
    assert warm_up((aircraft_last_arrival,)) is None  # a lifetime: from the beginning


def test_a_replays_script_differs_from_the_live_one_where_it_must():
    job = next(job for job in jobs(repository) if job.name == "flights-departures")
    narrow = Job(job.name, job.repository, job.sources, job.views[:1])
    text = replay_sql(narrow, "replay-1", "replay_0001", "flights~0001", Span(10**12, 2 * 10**12))
    assert "SET 'pipeline.name' = 'replay-1'" in text
    assert "'scan.startup.timestamp-millis' = '999391300000'" in text
    assert "'scan.bounded.mode' = 'latest-offset'" in text
    assert text.count("'project' = 'flights~0001'") == 1
    assert "features.`origin_delays` /*+ OPTIONS('branch'='replay_0001') */" in text
    assert text.count("WHERE `event_time` >= TO_TIMESTAMP_LTZ(1000000000000, 3)") == 2


def test_the_journal_keeps_replays_and_names_unknown_ones(tmp_path):
    journal = Journal(tmp_path / "replays")
    assert journal.next_id() == "0001"
    one = journal.write(Replay("0001", ("v",), 0, 1, {"job": "id"}))
    assert journal.next_id() == "0002"
    assert journal.set_state(one, "done") == journal.find("0001") == journal.all()[0]
    with pytest.raises(SettingsError, match="no replay '7'; choices: 0001"):
        journal.find("7")
    journal.remove(one)
    assert journal.all() == []
