"""What a replay reads, how fast, and what of a job's state a change leaves usable."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from prometheus_client import start_http_server

from connectors.promotion import other_wins
from feature_repo.flights.repository import repository
from feature_repo.flights.sources import departures
from feature_repo.flights.views.carrier_delays import carrier_delays
from flink_jobs.replay import Isolation, Reading, Span, replay_sql, restart_sql
from flink_jobs.sql import job_sql, jobs
from flink_jobs.upgrade import breaks
from headwater.replays.governor import ApiLatency, Bounds, Governor, Seen, percentile
from headwater.replays.plan import SourcePlan, _choose, expected
from iceberg.archive import Kept
from observability.metrics import ApiMetrics
from observability.queries import DOORS
from schemas import Feature, JoinedStream, among, count, hours, present, rate, within
from tests.ports import free_port

HOUR = 3_600_000


class Log:
    """One partition in Kafka: offsets low to high, one record an hour since 1970."""

    def __init__(self, low, high):
        self.bounds = {0: (low, high)}

    def at(self, milliseconds):
        low, high = self.bounds[0]
        if milliseconds is None:
            return {0: low}
        wanted = -(-milliseconds // HOUR)
        return {0: high if wanted >= high else max(low, wanted)}


class Archive:
    """The same partition in the archive."""

    def __init__(self, first, end):
        self.first, self.end = first, end

    def kept(self):
        return {0: Kept(self.first, self.end, self.end - self.first, 0)}

    def first_at(self, milliseconds):
        wanted = max(self.first, -(-milliseconds // HOUR))
        return {0: wanted} if wanted < self.end else {}


def choose(log, archive=None, source="auto", needed=10, enough=20, known=None):
    """Of what is needed from hour `needed` and to hour `enough`."""
    hour = lambda n: None if n is None else n * HOUR  # noqa: E731
    ends = {0: log.bounds[0][1]} if enough is None else log.at(hour(enough))
    return _choose(log, archive, source, hour(needed), hour(enough), ends, known)


def test_what_kafka_holds_is_read_from_kafka():
    found = choose(Log(5, 100), Archive(0, 100))
    assert (found.archive, found.log, found.gap) == ({}, {0: (10, 20)}, "")


def test_what_kafka_has_deleted_is_read_from_the_archive_and_the_rest_from_kafka():
    found = choose(Log(15, 100), Archive(0, 18))
    assert (found.archive, found.log, found.gap) == ({0: (10, 18)}, {0: (18, 20)}, "")


def test_a_span_that_ends_before_kafka_begins_is_read_from_the_archive_alone():
    found = choose(Log(50, 100), Archive(0, 60))
    assert (found.archive, found.gap) == ({0: (10, 20)}, "")
    assert found.log == {0: (20, 20)}


def test_what_follows_the_log_reads_the_newest_records_from_kafka():
    found = choose(Log(50, 5000), Archive(0, 4990), enough=None)
    assert (found.archive, found.log, found.gap) == ({0: (10, 4000)}, {0: (4000, 5000)}, "")
    found = choose(Log(4900, 5000), Archive(0, 4990), enough=None)
    assert (found.archive, found.log, found.gap) == ({0: (10, 4900)}, {0: (4900, 5000)}, "")
    # The archive may be further behind than that.
    found = choose(Log(50, 5000), Archive(0, 60), enough=None)
    assert (found.archive, found.log) == ({0: (10, 60)}, {0: (60, 5000)})


def test_a_hole_between_the_archive_and_kafka_is_a_gap():
    found = choose(Log(15, 100), Archive(0, 12))
    assert "the archive ends at offset 12, Kafka begins at 15" in found.gap


def test_an_archive_that_begins_too_late_is_a_gap():
    assert "the archive begins at offset 12" in choose(Log(15, 100), Archive(12, 60)).gap
    assert choose(Log(15, 100), Archive(0, 60), needed=None).gap == ""
    assert "the archive begins at offset 3" in choose(Log(9, 20), Archive(3, 20), needed=None).gap


def test_without_an_archive_what_kafka_has_deleted_is_a_gap():
    assert "Kafka begins at offset 15" in choose(Log(15, 100)).gap
    assert "Kafka begins at offset 15" in choose(Log(15, 100), Archive(0, 60), "kafka").gap
    assert choose(Log(5, 100)).gap == ""


def test_the_archive_alone_can_be_asked_for():
    found = choose(Log(0, 100), Archive(0, 60), "archive")
    assert (found.archive, found.log, found.gap) == ({0: (10, 20)}, {}, "")
    assert (
        "the archive ends at offset 12 of 20" in choose(Log(0, 100), Archive(0, 12), "archive").gap
    )


def test_the_archive_alone_has_all_of_a_span_that_it_holds_an_event_past():
    """Kafka's end of it may be somewhat further."""
    log = Log(0, 100)
    ends = {0: 100}
    found = _choose(log, Archive(0, 60), "archive", 10 * HOUR, 20 * HOUR, ends, None)
    assert (found.archive, found.gap) == ({0: (10, 60)}, "")
    found = _choose(log, Archive(0, 15), "archive", 10 * HOUR, 20 * HOUR, ends, None)
    assert "the archive ends at offset 15 of 100" in found.gap


def test_as_of_an_instant_later_records_are_not_read():
    assert choose(Log(0, 100), Archive(0, 60), known={0: 13}).log == {0: (10, 13)}
    found = choose(Log(50, 100), Archive(0, 60), known={0: 13})
    assert (found.archive, found.gap) == ({0: (10, 13)}, "")


def test_the_expected_time_is_that_of_replays_before_or_of_the_limit():
    one = SourcePlan("s", "t", ["v"], 1, {}, None, {}, 90_000, 10**6, "")
    assert expected([one], [10_000.0, 20_000.0], None, None).seconds == 6.0
    assert expected([one], [10_000.0], 1000, None).seconds == 90.0
    assert expected([one], [], None, None).measured == 0


class Signals:
    def __init__(self, *p99):
        self.p99 = list(p99)

    def __call__(self):
        return Seen(self.p99.pop(0), None)


def test_the_governor_halves_the_rate_while_serving_is_slow_and_raises_it_again():
    governor = Governor(
        Bounds(p99_seconds=0.010), None, Signals(*[0.005] * 3, 0.020, 0.015, 0.009, 0.002)
    )
    assert governor.look(0)[0] == 1000  # it has not begun
    assert governor.look(1000)[0] == 2000
    assert governor.look(2000)[0] == 4000
    assert governor.look(4000)[0] == 2000
    assert governor.look(2000)[0] == 1000
    assert governor.look(1000)[0] == 1000  # near its bound: neither
    assert governor.look(1000)[0] == pytest.approx(1100)
    assert governor.slowed == 2


def test_the_governor_sets_no_limit_where_a_replay_does_not_come_near_it():
    governor = Governor(Bounds(p99_seconds=0.010), None, Signals(*[0.001] * 4))
    assert [governor.look(300)[0] for _ in range(4)] == [None, None, None, None]


def test_the_governor_keeps_to_the_most_that_was_asked_for_and_never_stops_a_replay():
    governor = Governor(
        Bounds(p99_seconds=0.010, slowest=100), 400, Signals(*[0.001] * 2, *[1] * 9)
    )
    assert governor.look(400)[0] == 400
    assert governor.look(400)[0] == 400
    for _ in range(9):
        rate, _ = governor.look(300)
    assert rate == 100


def test_a_percentile_of_a_histogram_lies_in_its_bucket():
    assert percentile({0.001: 50, 0.002: 100, float("inf"): 100}, 0.99) == pytest.approx(0.00198)
    assert percentile({0.001: 50, float("inf"): 100}, 0.99) == 0.001
    assert percentile({}, 0.99) is None
    assert percentile({0.001: 0.0}, 0.99) is None


def test_the_latency_that_is_kept_to_is_that_of_lookups_by_every_door():
    """Beside what else is asked of the API, which is quick and much here."""
    metrics, port = ApiMetrics(), free_port()
    server, thread = start_http_server(port, "127.0.0.1", metrics.registry)
    latency = ApiLatency(f"http://127.0.0.1:{port}")

    def asked(method, route, times, seconds):
        for _ in range(times):
            metrics.request_seconds.labels(method, route).observe(seconds)

    try:
        assert latency.p99_seconds() is None
        for route in DOORS:
            asked("POST", route, 5, 2.0)
            asked("GET", "/v1/feature-views", 1000, 0.001)
            assert latency.p99_seconds() == pytest.approx(2.5, abs=0.1), route
        asked("GET", "/v1/feature-views", 1000, 2.0)
        assert latency.p99_seconds() is None
    finally:
        server.shutdown()
        thread.join()


JOB = next(job for job in jobs(repository) if job.name == "flights-departures")


def with_views(*views):
    return job_sql(replace(JOB, views=views))


def test_state_fits_where_only_options_of_connectors_differ():
    script = with_views(*JOB.views)
    assert breaks(script, script) == []
    assert breaks(script, script.replace("drift' = '3600 s'", "drift' = '60 s'")) == []
    isolation = "  'properties.isolation.level' = 'read_committed',\n"
    assert script.count(isolation) > 1
    assert breaks(script.replace(isolation, ""), script) == []
    # What is joined is read of another topic: the state has the offsets and facts of the old one.
    assert "'topic' = 'flights.public.planes'" in script
    moved = script.replace("'topic' = 'flights.public.planes'", "'topic' = 'flights.public.p2'")
    assert breaks(script, moved) == ["what it reads or how has changed"]


def test_what_does_not_fit_is_named():
    added = replace(
        carrier_delays, features=(*carrier_delays.features, Feature("count_2h", count(), None))
    )
    old = with_views(carrier_delays)
    assert breaks(old, with_views(added)) == ["carrier_delays: count_2h is new"]
    assert breaks(with_views(added), old) == ["carrier_delays: count_2h is gone"]
    first = carrier_delays.features[0]
    wider = replace(first, window=replace(first.window, size=hours(2)))
    changed = replace(carrier_delays, features=(wider, *carrier_delays.features[1:]))
    (reason,) = breaks(old, with_views(changed))
    assert reason.startswith("carrier_delays: count_1h has changed (window_ms was 3600000, is 72")
    assert breaks(with_views(*JOB.views), old) == [
        f"{view.name}: is gone" for view in JOB.views if view.name != "carrier_delays"
    ]
    late = old.replace("INTERVAL '300' SECOND", "INTERVAL '600' SECOND")
    assert breaks(old, late) == ["what it reads or how has changed"]


def test_state_fits_a_script_that_did_not_name_the_columns_it_writes():
    script = with_views(*JOB.views)
    unnamed = re.sub(r"(INTO headwater\.features\.`\w+`)\n  \([^)]*\)", r"\1", script)
    assert len(unnamed) < len(script)
    assert breaks(unnamed, script) == []
    first, *others = carrier_delays.features
    moved = with_views(replace(carrier_delays, features=(*others, first)))
    reasons = ["carrier_delays: its features stand in another order"]
    assert breaks(with_views(carrier_delays), moved) == reasons


def test_state_fits_a_view_whose_key_need_not_be_there():
    def script(required):
        columns = (replace(c, required=required or c.name != "carrier") for c in departures.columns)
        stream = replace(departures, columns=tuple(columns))
        view = replace(carrier_delays, source=stream)
        return job_sql(replace(JOB, sources=(stream,), views=(view,), apart=(stream,)))

    optional = script(required=False)
    assert optional.count("WHERE `dead_reason` IS NULL AND `carrier` IS NOT NULL;") == 1
    assert breaks(script(required=True), optional) == []


def test_state_fits_a_job_over_the_archive_that_leaves_out_other_events():
    def script(*expectations):
        stream = replace(JOB.sources[0], expectations=expectations)
        views = (replace(carrier_delays, source=stream),)
        job = replace(JOB, sources=(stream,), views=views, apart=(stream,))
        return restart_sql(job, 0, {stream.name: Reading("t", {0: (5, 9)}, {0: (0, 5)}, 1)})

    rule = within("distance", 0, 5000, reject=True)
    before, after = script(), script(rule, among("carrier", "it's", "AA", reject=True))
    assert "(`distance` < 0 OR `distance` > 5000)) IS NOT TRUE" in after
    assert before != after
    assert breaks(before, after) == []
    assert breaks(before.replace("\nWHERE `rowtime` IS NOT NULL", ""), after) == []


def test_what_is_expected_of_a_view_is_in_the_live_script_alone_and_named_where_it_changed():
    before = with_views(carrier_delays)
    wanted = (within("dep_delay_mean_1h", -60, 900, reject=True), rate(1))
    expecting = replace(carrier_delays, expectations=wanted, checked=hours(1))
    after = with_views(expecting)
    assert "checked" not in before and "timed" not in before
    assert breaks(before, after) == ["carrier_delays: what is expected of it has changed"]
    other = replace(expecting, expectations=(*wanted, present("count_1h")))
    assert breaks(after, with_views(other)) == [
        "carrier_delays: what is expected of it has changed"
    ]
    mean = "`result`.`dep_delay_mean_1h`"
    null = f"CASE WHEN ({mean} < -60 OR {mean} > 900) THEN NULL"
    replayed = job_sql(replace(JOB, views=(expecting,)), live=False)
    for text in (after, replayed):
        assert text.count(null) == 1, "rejected live and in a replay"
    assert "headwater.`quality`" in after and "headwater.`quality`" not in replayed
    assert "checked" not in replayed


def traced(job):
    """The same job, its stream traced."""
    stream = replace(job.sources[0], traced=True)

    def of(source):
        return replace(source, stream=stream) if isinstance(source, JoinedStream) else stream

    views = tuple(replace(view, source=of(view.source)) for view in job.views)
    return replace(job, sources=(stream, *job.sources[1:]), views=views)


def test_a_stream_that_is_traced_carries_its_traces_to_redis_and_not_to_iceberg():
    plain, script = job_sql(JOB), job_sql(traced(JOB))
    assert "_trace" not in plain
    assert "_headers" not in plain
    assert script.count("'trace' = '_trace'") == len(JOB.views)
    for view in JOB.views:
        assert f'"trace":"_traceparent","features":[{{"name":"{view.features[0].name}"' in script
    alone = replace(JOB, views=(carrier_delays,), sources=JOB.sources[:1])
    assert breaks(job_sql(alone), job_sql(traced(alone))) == []
    assert breaks(job_sql(traced(alone)), job_sql(alone)) == []
    watched = replace(carrier_delays, expectations=(rate(1),), checked=hours(1))
    summed = replace(alone, views=(watched,))
    assert breaks(job_sql(summed), job_sql(traced(summed))), "operators move"
    archive = next(job for job in jobs(repository) if not job.views)
    assert job_sql(traced(archive)) == job_sql(archive)
    (offline,) = re.findall(r"INSERT INTO headwater.features.`carrier_context`\n[^;]*;", script)
    assert "_trace" not in offline
    assert breaks(plain, script) == ["what it reads or how has changed"]


def test_a_replay_of_a_traced_stream_is_in_no_trace():
    readings = {source.name: Reading("t", {0: (0, 9)}, {0: (0, 5)}, 1) for source in JOB.sources}
    apart = Isolation("replay", "b", "flights~r", "pace")
    script = replay_sql(traced(JOB), apart, Span(0, 9), readings)
    assert "DECODE(" not in script
    assert script.count("`_traceparent` AS CAST(NULL AS STRING)") == 2
    live = restart_sql(traced(JOB), 0, readings)
    assert live.count("`_traceparent` AS CAST(NULL AS STRING)") == 1
    assert live.count("DECODE(`_headers`['traceparent'], 'UTF-8')") == 1


@pytest.mark.parametrize("end", [9, None])
def test_a_replay_reads_kafka_whole_or_fails_and_a_live_job_goes_on(end):
    readings = {source.name: Reading("t", {0: (0, 9)}) for source in JOB.sources}
    script = replay_sql(JOB, Isolation("replay", "b", "flights~r", "pace"), Span(0, end), readings)
    assert "'connector' = 'kafka-replay'" in script
    assert "'connector' = 'kafka',\n  'topic' = 'flights.departures',\n" not in script
    assert script.count("'connector' = 'kafka-replay-versions'") == 2
    assert "'connector' = 'kafka-versions'" not in script
    live = restart_sql(JOB, 0, readings)
    assert "kafka-replay" not in live
    assert live.count("'connector' = 'kafka-versions'") == 2


def test_the_other_version_counts_unless_live_is_newer():
    assert other_wins(b"0:5", b"0:5", None)
    assert other_wins(b"0:4", b"0:5", None)
    assert not other_wins(b"0:6", b"0:5", None)
    assert other_wins(None, b"0:5", None)
    assert not other_wins(b"0:5", None, None)
    # An older value that is put back counts until live goes on from what is taken away.
    assert other_wins(b"0:9", b"0:5", b"9")
    assert not other_wins(b"0:10", b"0:5", b"9")
    assert other_wins(b"0:9", b"", b"9")
