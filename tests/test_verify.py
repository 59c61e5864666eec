"""What the comparison of a replay with live says, on small tables."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.flights.repository import repository
from feature_repo.flights.sources import departures, planes, weather
from feature_repo.flights.views.aircraft_delays import aircraft_delays
from feature_repo.flights.views.aircraft_last_arrival import aircraft_last_arrival
from feature_repo.flights.views.carrier_context import carrier_context
from flink_jobs.replay import Isolation, Reading, Span, replay_sql, restart_sql, warm_up
from flink_jobs.sql import jobs
from headwater.commands import replay as commands
from headwater.replays import verify as verification
from headwater.replays.compare import compare
from headwater.replays.journal import Journal, Replay
from headwater.replays.page import page
from headwater.replays.reports import Thresholds, passed
from iceberg.catalog import create_tables, empty_branch, open_catalog
from iceberg.reading import batches
from schemas import (
    Column,
    Entity,
    EventStream,
    FeatureView,
    SettingsError,
    Type,
    hours,
    latest,
    rate,
)

VIEW = aircraft_last_arrival.only("arr_delay", "dest")
TIMES = ("event_time", "available_at")
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


def test_of_rows_that_became_available_at_once_the_larger_values_count_in_any_order():
    """Two changes of a captured row in one transaction have one `updated_at`."""
    tied = [row(delay=None), row(delay=1.0, dest="SFO"), row(delay=5.0), row(delay=1.0)]
    for live in itertools.permutations(tied):
        assert compare(VIEW, rows(*live), rows(row(delay=5.0))).equal, live


def test_numbers_that_lie_further_apart_than_a_column_holds_are_compared():
    view = aircraft_delays.only("count_1d")
    end = 9 * 10**18
    times = dict.fromkeys(TIMES, pa.timestamp("us", "UTC"))
    schema = pa.schema({"tailnum": pa.string()} | times | {"count_1d": pa.int64()})

    def counts(*found):
        keys = [{"tailnum": f"N{number}"} for number in range(len(found))]
        told = [key | dict.fromkeys(TIMES, NOON) for key in keys]
        named = [one | {"count_1d": value} for one, value in zip(told, found, strict=True)]
        return pa.Table.from_pylist(named, schema)

    found = compare(view, counts(end, end, 1), counts(-end, end + 1, 3)).features["count_1d"]
    assert found.sizes == {19: 1, 0: 2}
    assert [(one.live, one.replayed) for one in found.largest] == [
        (end, -end),
        (1, 3),
        (end, end + 1),
    ]


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


def departures_job():
    """The departures' job without the view that is joined with a table."""
    job = next(job for job in jobs(repository) if job.name == "flights-departures")
    return job.only(view.name for view in job.views if isinstance(view.source, EventStream))


def test_a_replay_reads_its_largest_window_and_the_disorder_before_its_span():
    job = departures_job()
    week_tile_disorder = 7 * 86_400 + 3_600 + 300
    assert warm_up(job.views) == week_tile_disorder * 1000
    assert warm_up((aircraft_last_arrival,)) is None  # a lifetime: from the beginning


def test_a_replay_of_a_joined_view_reads_what_its_events_were_joined_with():
    """Of the stream as of any, of the weather as long as it counts more, of a table everything."""
    week_tile_disorder = 7 * 86_400 + 3_600 + 300
    weather_counts = hours(3).seconds + weather.disorder.seconds
    assert warm_up((carrier_context,), departures) == week_tile_disorder * 1000
    assert warm_up((carrier_context,), weather) == (week_tile_disorder + weather_counts) * 1000
    assert warm_up((carrier_context,), planes) is None


def test_a_replays_script_differs_from_the_live_one_where_it_must():
    job = departures_job()
    narrow = replace(job, views=job.views[:1])
    apart = Isolation("replay-1", "replay_0001", "flights~0001", "pace-1")
    readings = {"departures": Reading("flights.departures", {0: (5, 9), 1: (0, 7)})}
    text = replay_sql(narrow, apart, Span(10**12, 2 * 10**12), readings)
    assert "SET 'pipeline.name' = 'replay-1'" in text
    assert "specific-offsets' = 'partition:0,offset:5;partition:1,offset:0'" in text
    assert "'scan.bounded.specific-offsets' = 'partition:0,offset:9;partition:1,offset:7'" in text
    assert "'paced.key' = 'pace-1'" in text
    assert text.count("'project' = 'flights~0001'") == 1
    assert "features.`origin_delays` /*+ OPTIONS('branch'='replay_0001') */" in text
    assert text.count("WHERE `event_time` >= TO_TIMESTAMP_LTZ(1000000000000, 3)") == 2


def test_a_replay_that_follows_has_no_end_and_one_of_some_keys_reads_no_others():
    job = departures_job()
    narrow = replace(job, views=job.views[:1])
    apart = Isolation("replay-1", "replay_0001", "flights~0001", "pace-1")
    readings = {"departures": Reading("flights.departures", {0: (5, 9)})}
    text = replay_sql(narrow, apart, Span(10**12, None), readings, {"origin": ("JFK", "O'X")})
    assert "scan.bounded" not in text
    assert "WHERE `dead_reason` IS NULL\n  AND `origin` IN ('JFK', 'O''X');" in text
    assert text.count("TO_TIMESTAMP_LTZ(1000000000000, 3) AND `origin` IN ('JFK', 'O''X')") == 2


def test_a_replay_reads_the_archive_and_then_kafka():
    job = departures_job()
    narrow = replace(job, views=job.views[:1])
    apart = Isolation("replay-1", "replay_0001", "flights~0001", "pace-1")
    reading = Reading("flights.departures", {0: (9, 20)}, {0: (5, 9)}, 77)
    text = replay_sql(narrow, apart, Span(10**12, 2 * 10**12), {"departures": reading})
    assert "'offsets' = '0:5:9'" in text
    assert "'snapshot' = '77'" in text
    assert "'scan.startup.specific-offsets' = 'partition:0,offset:9'" in text
    assert "FROM sources.`departures_archive`\nWHERE `rowtime` IS NOT NULL\nUNION ALL\n" in text
    # Both wait for each other, or the second would fill the state while the first is read.
    assert text.count("'scan.watermark.alignment.group' = 'departures'") == 2
    # An end would be a watermark past all that is still to come.
    assert "'follow'" not in text
    follows = replay_sql(narrow, apart, Span(10**12, None), {"departures": reading})
    assert "'follow' = 'true'" in follows and "FROM sources.`departures_archive`" in follows
    alone = replay_sql(narrow, apart, Span(0, 9), {"departures": replace(reading, log={})})
    assert "FROM sources.`departures_archive`\nWHERE `rowtime` IS NOT NULL;\n" in alone


def test_the_journal_keeps_replays_and_names_unknown_ones(tmp_path):
    journal = Journal(tmp_path / "replays")
    assert journal.reserve() == "0001"
    assert journal.reserve() == "0002"  # whether or not the first is written yet
    one = journal.write(Replay("0001", ("v",), 0, 1, {"job": "id"}))
    assert journal.set_state(one, "done") == journal.find("0001") == journal.all()[0]
    with pytest.raises(SettingsError, match="no replay '7'; choices: 0001"):
        journal.find("7")
    journal.remove(one)
    assert journal.all() == []
    two, three = (journal.write(replace(one, id=id_)) for id_ in ("0002", "0003"))
    journal.remove(three)
    assert journal.reserve() == "0004"  # no id is given twice
    journal.remove(two)
    assert journal.reserve() == "0005"


def test_thresholds_allow_shares_of_the_rows():
    live = rows(*(row(minute=n) for n in range(10)))
    replayed = rows(*(row(minute=n, delay=2.0 if n == 0 else 1.0) for n in range(9)))
    found = compare(VIEW, live, replayed)
    assert not found.within(Thresholds())
    assert not found.within(Thresholds(changed=0.1))
    assert found.within(Thresholds(changed=0.1, missing=0.1))


def test_a_report_says_when_and_by_how_much_rows_differ():
    live = rows(row(), row(minute=1), row(minute=1, key="N2", delay=300.0))
    replayed = rows(row(), row(minute=1, delay=1.02), row(minute=1, key="N2"), row("N3", minute=2))
    found = compare(VIEW, live, replayed)
    assert [(s.start[11:16], s.equal, s.changed, s.extra) for s in found.timeline] == [
        ("12:00", 1, 0, 0),
        ("12:01", 0, 2, 0),
        ("12:02", 0, 0, 1),
    ]
    assert found.features["arr_delay"].sizes == {-2: 1, 2: 1}


def test_the_page_shows_what_differs_and_escapes_what_it_shows():
    live, replayed = rows(row(dest="<b>LAX")), rows(row(dest="SFO", delay=4.0))
    text = page(Replay("0001", ("v",), 0, 1), {"v": compare(VIEW, live, replayed)}, Thresholds())
    assert "<svg" in text and "differs" in text
    assert "<b>LAX" not in text and "&lt;b&gt;LAX" in text
    assert "http" not in text  # it needs nothing else
    equal = page(Replay("0001", ("v",), 0, 1), {"v": compare(VIEW, live, live)}, Thresholds())
    assert "equal in every row" in equal


def test_a_job_that_starts_anew_reads_on_and_lets_out_what_the_replay_did_not():
    job = departures_job()
    reading = Reading("flights.departures", {0: (9, 20)}, {0: (5, 9)}, 77)
    text = restart_sql(job, 10**12, {"departures": reading})
    assert "SET 'pipeline.name' = 'flights-departures'" in text
    assert "'project' = 'flights'" in text and "branch" not in text
    assert "paced" not in text and "pace-key" not in text and "scan.bounded" not in text
    outputs = 2 * len(job.views)
    assert text.count("WHERE `event_time` >= TO_TIMESTAMP_LTZ(1000000000000, 3);") == outputs


def test_expectations_are_summed_up_anew_from_the_first_whole_window():
    job = departures_job()
    views = (replace(job.views[0], expectations=(rate(1),), checked=hours(1)), *job.views[1:])
    reading = Reading("flights.departures", {0: (9, 20)})
    text = restart_sql(replace(job, views=views), 10**12, {"departures": reading})
    whole = "WHERE CAST(window_start AS TIMESTAMP_LTZ(3)) >= TO_TIMESTAMP_LTZ(1000000000000, 3);"
    assert text.count(f"AS of_each (`_name`, `_broken`)\n{whole}") == 1


def written(folder, live, replayed):
    """A catalog with the table of the view, a file for each list of rows, and the replay."""
    catalog = open_catalog(f"sqlite:///{folder}/c", str(folder))
    create_tables(catalog, [VIEW])
    table = catalog.load_table(f"features.{VIEW.name}")
    replay = Replay("0001", (VIEW.name,), 0, round(NOON.timestamp() * 1000) + 10 * 86_400_000)
    empty_branch(table, replay.branch)
    for branch, files in (("main", live), (replay.branch, replayed)):
        for file in files:
            if file:
                table = catalog.load_table(f"features.{VIEW.name}")
                table.append(rows(*file).cast(table.schema().as_arrow()), branch=branch)
    return catalog, replay


def test_of_a_replay_that_follows_what_both_have_committed_is_compared(tmp_path):
    live = [[row(), row(minute=1)], [row(minute=3), row("N2", minute=4)]]
    catalog, replay = written(tmp_path, live, [[row(), row(minute=1)], [row(minute=3)]])
    following = replace(replay, end=None)
    found = verification.verify(catalog, VIEW, following)
    assert (found.equal, found.live, found.replayed) == (True, 3, 3)
    assert found.until == "2013-01-01T12:03:00+00:00"
    assert found.until in page(following, {VIEW.name: found}, Thresholds())
    ended = replace(following, ends={VIEW.name: replay.end})
    assert verification.verify(catalog, VIEW, ended).missing == 1
    table = catalog.load_table(f"features.{VIEW.name}")
    more = rows(row("N3", minute=2), row("N2", minute=5)).cast(table.schema().as_arrow())
    table.append(more, branch=replay.branch)
    ahead = verification.verify(catalog, VIEW, following)
    assert (ahead.missing, ahead.extra, ahead.until[11:16]) == (1, 1, "12:04")


def test_where_no_row_was_compared_that_is_said_and_nothing_is_passed(tmp_path, capsys):
    catalog, replay = written(tmp_path, [], [])
    empty = verification.verify(catalog, VIEW, replay)
    assert (empty.live, empty.replayed, empty.told) == (0, 0, "nothing to compare")
    assert "<span class='bad'>nothing to compare<" in page(replay, {"v": empty}, Thresholds())
    commands._show("v", empty)
    assert capsys.readouterr().out.startswith("v: nothing to compare; 0 rows live, 0 replayed")
    some = compare(VIEW, rows(row()), rows(row()))
    missing = compare(VIEW, rows(row()), rows())
    loose = Thresholds(missing=1.0)
    told = [
        passed(reports, loose)
        for reports in ([empty], [empty, empty], [empty, some], [empty, missing])
    ]
    assert told == [False, False, True, True]
    assert not passed([some, missing], Thresholds())


SIDES = st.lists(
    st.lists(
        st.builds(
            row,
            key=st.sampled_from(["N1", "N2"]),
            minute=st.integers(0, 4000),
            delay=st.sampled_from([None, 1.0, 2.5]),
            later=st.integers(0, 1),
        ),
        max_size=6,
    ),
    max_size=4,
)


@settings(max_examples=25)
@given(SIDES, SIDES, st.sampled_from([1, 4, 1000]))
def test_a_span_is_compared_part_by_part_as_at_once(tmp_path_factory, live, replayed, at_once):
    catalog, replay = written(tmp_path_factory.mktemp("tables"), live, replayed)
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "_AT_ONCE", at_once)
        found = verification.verify(catalog, VIEW, replay, lambda *now: told.append(now))
    live, replayed = ([*itertools.chain.from_iterable(files)] for files in (live, replayed))
    whole = compare(VIEW, rows(*live), rows(*replayed))
    # Of differences of one size the parts' order decides.
    assert sizes_of(found) == sizes_of(whole)
    assert replace(found, features={}) == replace(whole, features={})
    count = len(live) + len(replayed)
    assert not told or told[-1] == (count, count)
    assert told == sorted(told)


def sizes_of(report):
    """What is said of each feature, but which of the differences of one size are named."""
    return {
        name: replace(one, largest=[size(one) for one in one.largest])
        for name, one in report.features.items()
    }


def size(difference):
    """None where that says nothing."""
    told = (difference.live, difference.replayed)
    return None if None in told or isinstance(told[0], str) else abs(told[0] - told[1])


def test_rows_that_share_no_time_are_apart_and_no_file_is_read_twice(tmp_path):
    files = [[row(minute=m), row(minute=m + 10)] for m in (0, 5, 20, 2000, 4000)]
    catalog, replay = written(tmp_path, files, files[1:])
    read = []

    def rows_of(scan, tasks, schema):
        read.append([task.file.record_count for task in tasks])
        return batches(scan, tasks, schema)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "_AT_ONCE", 1)
        patch.setattr(verification, "batches", rows_of)
        assert verification.verify(catalog, VIEW, replay).missing == 2
    # The first two share a time; both sides of a part are read.
    assert read == [[2, 2], [2], [2], [2], [2], [2], [2], [2]]


def test_a_slice_of_the_timeline_begins_where_it_says():
    second = timedelta(seconds=1)
    times = [NOON + 45 * second, NOON + timedelta(hours=40), datetime(1969, 12, 31, 23, tzinfo=UTC)]
    for time in times:
        only = rows(("N1", time, time, 1.0, "LAX"))
        (slice_,) = compare(VIEW, only, only).timeline
        begin = datetime.fromisoformat(slice_.start)
        assert begin <= time < begin + timedelta(minutes=1)


def test_names_and_times_among_features_are_the_tables_own():
    stream = EventStream(
        "s", "s", (Column("l0", Type.INT64), Column("size", Type.TIMESTAMP)), partition_by="l0"
    )
    view = FeatureView(
        "v", stream, (Entity("slice", "l0", Type.INT64),), latest("size"), ttl=hours(1)
    )
    (feature,) = (column.name for column in view.schema)
    columns = {"l0": pa.int64()} | dict.fromkeys((*TIMES, feature), pa.timestamp("us", "UTC"))

    def seen(*values):
        found = [
            {"l0": 7 + n, feature: value} | dict.fromkeys(TIMES, NOON)
            for n, value in enumerate(values)
        ]
        return pa.Table.from_pylist(found, pa.schema(columns))

    found = compare(view, seen(NOON, None), seen(NOON + timedelta(days=1), None))
    assert found.features[feature].changed == 1
    (told,) = json.loads(json.dumps(asdict(found)))["features"][feature]["largest"]
    assert told["keys"] == {"l0": 7}
    assert (told["live"], told["replayed"]) == ("2013-01-01 12:00:00+00", "2013-01-02 12:00:00+00")
