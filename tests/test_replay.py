"""Replays on real servers: the archive, what survives, and what a promotion changes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event, Thread

import pyarrow as pa
import pytest
import redis
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from pyiceberg.exceptions import CommitFailedException

from connectors.producer import produce
from connectors.redis_codec import (
    decode_event_time,
    encode_value,
    entity_key,
    feature_field,
    timestamp_field,
)
from feature_repo.flights.repository import repository
from feature_repo.flights.views.aircraft_last_arrival import aircraft_last_arrival
from flink_jobs.rest import FlinkCluster
from flink_jobs.sql import jobs
from headwater.replays.compare import compare
from headwater.replays.journal import Journal
from schemas import Type
from tests import runbooks
from tests.conftest import ROOT, catalog, eventually, produce_awake
from tests.recorded import DAY, FIRST, STREAMS, of_days
from tests.test_platform import disordered, headwater, value

VIEWS = [view.name for view in repository.views if view.source in STREAMS.values()]
SPAN = ("--from", "2013-02-02", "--to", "2013-02-04")


def days(start, end):
    """The recorded events of those days of February 2013, by stream."""
    return of_days(FIRST + 31 * DAY, start, end)


def bounds(running, topic):
    """First and last-plus-one offset that Kafka has, by partition."""
    consumer = Consumer({"bootstrap.servers": running.settings.kafka, "group.id": "test"})
    try:
        partitions = consumer.list_topics(topic).topics[topic].partitions
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p)) for p in partitions}
    finally:
        consumer.close()


def kill(running, part):
    """End a part as a crash would."""
    process = running.platform.process(running.platform.parts[part]).find()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)


def begin(running, *arguments):
    """A `headwater replay` command that goes on beside the test."""
    return subprocess.Popen(
        [sys.executable, "-m", "headwater", "replay", *arguments],
        cwd=ROOT,
        env=os.environ | running.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def rows_of(running, table, *columns):
    return catalog(running.settings).load_table(table).scan(selected_fields=columns).to_arrow()


@pytest.fixture(scope="module")
def replayed(flying):
    """A platform through which five days went, some out of order, and a crash in the middle."""
    running = flying()
    produce_awake(running.settings.kafka_access, days(0, 1))
    produce(running.settings.kafka_access, disordered(days(1, 2), 5))
    kill(running, "taskmanager")
    assert headwater(running, "up").returncode == 0
    produce(running.settings.kafka_access, disordered(days(2, 3), 6))
    produce(running.settings.kafka_access, days(3, 5))
    newest = FIRST + (31 + 4) * DAY + 20 * 3_600_000

    def live():
        for view in VIEWS:
            rows = rows_of(running, f"features.{view}", "event_time")["event_time"].to_pylist()
            if not rows or max(rows).timestamp() * 1000 < newest:
                return False
        return True

    assert eventually(live)
    return running


def archived(running, stream):
    """Its rows' places in the log."""
    rows = rows_of(running, f"raw.{stream.name}", "_partition", "_offset")
    return Counter(zip(rows["_partition"].to_pylist(), rows["_offset"].to_pylist(), strict=True))


@pytest.mark.parametrize("name", STREAMS)
def test_the_archive_holds_every_record_once(replayed, name):
    stream = STREAMS[name]
    logged = {
        (partition, offset): 1
        for partition, (low, high) in bounds(replayed, stream.topic).items()
        for offset in range(low, high)
    }
    assert eventually(lambda: archived(replayed, stream) == logged)
    rows = rows_of(replayed, f"raw.{name}", "_topic", "event_time", "_schema_version")
    assert set(rows["_topic"].to_pylist()) == {stream.topic}
    assert set(rows["_schema_version"].to_pylist()) == {stream.version}
    # The events themselves, too.
    wanted = {event["event_time"] for event in days(0, 5)[stream]}
    times = {round(t.timestamp() * 1000) for t in rows["event_time"].to_pylist()}
    assert wanted <= times


def test_the_runbooks_commands_run(replayed):
    """In their order; the ids it names are those of the replays that its own commands begin."""
    typed = runbooks.lines(runbooks.FOLDER / "replay.md")
    lines = [line.removeprefix("headwater ").split() for line in typed]
    ids, named = {}, []
    for words in lines:
        named += [word for word in words if re.fullmatch(r"0\d{3}", word) and word not in named]
    begun = iter(named)
    for words in lines:
        asked = [ids.get(word, word) for word in words]
        done = headwater(replayed, *asked)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        if words[:2] == ["replay", "run"]:
            ids[next(begun)] = newest(replayed)
    assert len(lines) > 10


def test_a_replay_reads_from_the_archive_what_kafka_has_deleted(replayed):
    """Half of each partition goes, in the middle of the span; the replay equals live."""
    admin = AdminClient({"bootstrap.servers": replayed.settings.kafka})
    middle = datetime(2013, 2, 3, 6, tzinfo=UTC).timestamp() * 1000
    consumer = Consumer({"bootstrap.servers": replayed.settings.kafka, "group.id": "test"})
    cut = [
        one
        for stream in STREAMS.values()
        for one in consumer.offsets_for_times(
            [TopicPartition(stream.topic, p, int(middle)) for p in bounds(replayed, stream.topic)]
        )
        if one.offset > 0
    ]
    consumer.close()
    assert len(cut) >= len(STREAMS)
    for future in admin.delete_records(cut).values():
        future.result(30)
    gone = {(one.topic, one.partition): one.offset for one in cut}
    for (topic, partition), offset in gone.items():
        assert bounds(replayed, topic)[partition][0] == offset

    only_kafka = headwater(replayed, "replay", "plan", *VIEWS, *SPAN, "--source", "kafka")
    assert only_kafka.returncode == 1
    assert "Kafka begins at" in only_kafka.stdout

    plan = headwater(replayed, "replay", "plan", *VIEWS, *SPAN, "--json")
    assert plan.returncode == 0, plan.stdout
    found = json.loads(plan.stdout)
    for source in found["sources"]:
        for partition, (first, end) in source["archive"].items():
            # No gap and no overlap.
            assert source["log"][partition][0] == end > first
            assert end >= gone[source["topic"], int(partition)]
    assert sum(len(source["archive"]) for source in found["sources"]) == len(cut)

    run = headwater(replayed, "replay", "run", *VIEWS, *SPAN, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["state"] == "done"
    equal_in_every_row(replayed, json.loads(run.stdout)["id"])


def equal_in_every_row(running, id_):
    verified = headwater(running, "replay", "verify", id_, "--json")
    assert verified.returncode == 0, headwater(running, "replay", "verify", id_).stdout
    for name, report in json.loads(verified.stdout).items():
        assert report["live"] == report["replayed"] > 0, name


def in_place(running, id_):
    """Whether the table of a view holds the replay's rows and no others, by view."""
    replay, found = Journal(running.settings.state / "replays").find(id_), {}
    for view in repository.views:
        if view.name in replay.views:
            table = catalog(running.settings).load_table(f"features.{view.name}")
            within, branch = replay.within(view.name), table.refs()[replay.branch].snapshot_id
            now = table.scan(row_filter=within).to_arrow()
            its = table.scan(row_filter=within, snapshot_id=branch).to_arrow()
            found[view.name] = compare(view, now, its).equal
    return found


def newest(running):
    """The id of the replay that was begun last."""
    return Journal(running.settings.state / "replays").all()[-1].id


def state(running, id_):
    return json.loads(headwater(running, "replay", "show", id_, "--json").stdout)


def test_verify_shows_what_differs_and_by_how_much(replayed):
    table = catalog(replayed.settings).load_table("features.carrier_delays")
    first, last = "2013-02-03T00:00:00+00:00", "2013-02-04T00:00:00+00:00"
    row_filter = f"carrier = 'UA' and event_time >= '{first}' and event_time < '{last}'"
    rows = table.scan(row_filter=row_filter).to_arrow()
    wrong = rows.slice(0, 1).to_pylist()[0]
    wrong |= {"available_at": datetime.now(UTC), "count_1h": wrong["count_1h"] + 1000}

    def appended():
        try:
            table.refresh().append(pa.Table.from_pylist([wrong], schema=rows.schema))
        except CommitFailedException:  # a job committed first
            return False
        return True

    assert eventually(appended)
    id_ = newest(replayed)
    done = headwater(replayed, "replay", "verify", id_)
    assert done.returncode == 1
    assert "carrier_delays: differs" in done.stdout
    assert "count_1h: 1 changed" in done.stdout
    assert f"{wrong['count_1h']} -> {wrong['count_1h'] - 1000}" in done.stdout
    page = replayed.settings.state / "replays" / id_ / "report.html"
    assert "carrier_delays: <span class='bad'>differs" in page.read_text("utf-8")
    assert headwater(replayed, "replay", "verify", id_, "--max-changed", "0.01").returncode == 0


def test_a_promoted_replay_corrects_both_stores_and_can_be_taken_back(replayed):
    """One wrong row offline (from the test before), one wrong value online, and a busy client."""
    view, id_ = aircraft_last_arrival, newest(replayed)
    first, last = (FIRST + day * DAY for day in (32, 34))
    with redis.Redis(port=replayed.settings.ports.redis) as online:
        tailnum = next(
            e["tailnum"]
            for e in days(1, 3)[STREAMS["arrivals"]]
            if first <= newest_of(online, view, e["tailnum"]) < last
        )
        key = entity_key("flights", view.entities, {"tailnum": tailnum})
        online.hset(key, feature_field(view.name, "dest"), encode_value(Type.STRING, "XXX"))
    entity, feature = {"tailnum": tailnum}, f"{view.name}:dest"
    assert value(replayed, entity, feature) == "XXX"
    arrivals = [e for e in days(0, 5)[STREAMS["arrivals"]] if e["tailnum"] == tailnum]
    right = arrivals[-1]["dest"]
    stop, answers = Event(), []

    def read():
        while not stop.is_set():
            answers.append(value(replayed, entity, feature))

    reader = Thread(target=read)
    reader.start()
    try:
        for command, online_value, there in (
            ("promote", right, True),
            ("rollback", "XXX", False),
            ("promote", right, True),
            ("promote", right, True),  # there is nothing left to do
        ):
            done = headwater(replayed, "replay", command, id_, "--json")
            assert done.returncode == 0, done.stderr
            assert value(replayed, entity, feature) == online_value
            assert all(in_place(replayed, id_).values()) == there
            # What it has put right is told when it is in place, too.
            assert headwater(replayed, "replay", "verify", id_).returncode == 1
    finally:
        stop.set()
        reader.join()
    assert set(answers) == {"XXX", right}
    assert state(replayed, id_)["state"] == "promoted"


def newest_of(online, view, tailnum):
    """Event time of an aircraft's value, milliseconds."""
    key = entity_key("flights", view.entities, {"tailnum": tailnum})
    return decode_event_time(online.hget(key, timestamp_field(view.name)) or b"")


def test_a_replay_survives_its_command_and_its_cluster_and_can_be_held_back_and_paused(replayed):
    """Held back so far that it is still there when its command is killed."""
    command = begin(replayed, "run", "carrier_delays", *SPAN, "--rate", "50")
    before = newest(replayed)

    def reads():
        found = newest(replayed)
        if found == before:
            return None
        progress = state(replayed, found)["progress"]
        return found if progress and progress["rows"] > 100 else None

    id_ = eventually(reads)
    command.kill()
    command.wait(10)
    assert id_
    shown = state(replayed, id_)
    assert shown["progress"]["state"] == "running"
    assert shown["progress"]["rate"] == 50
    assert shown["progress"]["rows"] < shown["planned"]

    paused = headwater(replayed, "replay", "pause", id_, "--json")
    assert json.loads(paused.stdout) == {"id": id_, "state": "paused"}, paused.stderr
    assert headwater(replayed, "replay", "promote", id_).returncode == 1  # it is not done
    (job,) = shown["jobs"].values()
    running = FlinkCluster(replayed.settings.flink_url).jobs()
    assert job not in [one.id for one in running]
    assert {one.name for one in running} >= {one.name for one in jobs(repository)}

    assert headwater(replayed, "replay", "rate", id_, "--json").returncode == 0
    kill(replayed, "taskmanager")
    assert headwater(replayed, "up").returncode == 0
    resumed = headwater(replayed, "replay", "resume", id_, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["state"] == "done"
    assert headwater(replayed, "replay", "resume", id_).returncode == 1  # nothing is left to run
    equal_in_every_row(replayed, id_)


def cores_of(running, part):
    """What each thread of a part may run on."""
    process = running.platform.process(running.platform.parts[part]).find()
    found = set()
    for thread in process.threads():
        with suppress(ProcessLookupError):  # it has ended since
            found.add(frozenset(os.sched_getaffinity(thread.id)))
    return found


@pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="there is no other core"
)
def test_lookups_have_a_core_of_their_own_while_a_governed_replay_is_followed(replayed):
    """Until it ends; of a command that was killed, `up` clears away."""
    every = frozenset(os.sched_getaffinity(0))
    others = every - {min(every)}

    def run_on(cores):
        return lambda: all(
            cores_of(replayed, part) == {cores} for part in ("taskmanager", "flink", "kafka")
        )

    before = newest(replayed)
    command = begin(replayed, "run", "carrier_delays", *SPAN, "--rate", "50", "--max-p99", "10000")
    assert eventually(lambda: newest(replayed) != before)
    id_ = newest(replayed)
    assert eventually(lambda: state(replayed, id_)["state"] == "running")
    assert eventually(run_on(others))
    assert cores_of(replayed, "api") == cores_of(replayed, "redis") == {every}
    command.kill()
    command.wait(10)
    assert run_on(others)()
    assert headwater(replayed, "up").returncode == 0
    assert run_on(every)()

    command = begin(replayed, "follow", id_)
    assert eventually(run_on(others))
    assert headwater(replayed, "replay", "cancel", id_).returncode == 0
    command.wait(30)
    assert run_on(every)()
    assert headwater(replayed, "replay", "drop", id_).returncode == 0


def test_a_replay_of_some_keys_computes_no_others(replayed):
    some = ("carrier_delays", *SPAN, "--keys", "carrier=UA,DL")
    run = headwater(replayed, "replay", "run", *some, "--json")
    assert run.returncode == 0, run.stderr
    id_ = json.loads(run.stdout)["id"]
    equal_in_every_row(replayed, id_)
    table = catalog(replayed.settings).load_table("features.carrier_delays")
    rows = table.scan(snapshot_id=table.refs()[f"replay_{id_}"].snapshot_id).to_arrow()
    assert set(rows["carrier"].to_pylist()) == {"UA", "DL"}
    wrong = headwater(replayed, "replay", "plan", "carrier_delays", *SPAN, "--keys", "origin=JFK")
    assert wrong.returncode == 2
    assert "carrier_delays has no key 'origin'; choices: carrier" in wrong.stderr


def is_promoted_past(replayed, id_, table, evening, seconds=60):
    """It follows live past that instant, is promoted, and equals live in every row."""

    def newest_row():
        return max(rows_of(replayed, table, "event_time")["event_time"].to_pylist())

    assert eventually(lambda: newest_row() > evening, seconds), newest_row()
    followed = headwater(replayed, "replay", "follow", id_, "--json")
    assert followed.returncode == 0, followed.stderr
    promoted = headwater(replayed, "replay", "promote", id_)
    assert promoted.returncode == 0, promoted.stderr
    equal_in_every_row(replayed, id_)
    # It came into the last day, and has not left it to live alone.
    end = datetime.fromisoformat(re.search(r"ends at (\S+)", promoted.stderr)[1])
    assert end > evening


def test_a_replay_follows_the_log_from_the_archive_on(replayed):
    """Kafka has deleted its beginning (a test before), it is paused, and events still come."""
    since = ("carrier_delays", *SPAN[:2])
    nonsense = headwater(replayed, "replay", "plan", *since, "--source", "archive")
    assert nonsense.returncode == 2 and "needs --to" in nonsense.stderr
    run = headwater(replayed, "replay", "run", *since, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["state"] == "following"
    id_ = newest(replayed)
    assert headwater(replayed, "replay", "pause", id_).returncode == 0
    produce_awake(replayed.settings.kafka_access, days(5, 6))
    resumed = headwater(replayed, "replay", "resume", id_, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["state"] == "following"
    produce(replayed.settings.kafka_access, days(6, 7))
    evening = datetime(2013, 2, 7, 20, tzinfo=UTC)
    is_promoted_past(replayed, id_, "features.carrier_delays", evening)


def test_a_joined_view_follows_from_the_archive_on(replayed):
    """Kafka has neither the events nor the weather they are joined with; planes it has whole."""
    since = ("carrier_context", *SPAN[:2])
    plan = headwater(replayed, "replay", "plan", *since, "--json")
    assert plan.returncode == 0, plan.stdout
    read = {one["source"]: one for one in json.loads(plan.stdout)["sources"]}
    assert read["departures"]["archive"] and read["weather"]["archive"]
    assert not read["planes"]["archive"]
    run = headwater(replayed, "replay", "run", *since, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["state"] == "following"
    id_ = newest(replayed)
    produce_awake(replayed.settings.kafka_access, days(7, 8))
    evening = datetime(2013, 2, 8, 20, tzinfo=UTC)
    is_promoted_past(replayed, id_, "features.carrier_context", evening, 120)
    joined = ("seats_mean_6h", "wind_speed_mean_6h")
    rows = rows_of(replayed, "features.carrier_context", "event_time", *joined).to_pylist()
    for name in joined:
        assert any(row[name] is not None for row in rows if row["event_time"] > evening), name


def test_a_dropped_replay_leaves_nothing(replayed):
    told = headwater(replayed, "replay", "prune", "--older-than", "0", "--dry-run", "--json")
    would = json.loads(told.stdout)
    left = [one["id"] for one in json.loads(headwater(replayed, "replay", "list", "--json").stdout)]
    assert [one["id"] for one in would] == left
    assert would[0]["redis_keys"] > 0 and would[0]["redis_bytes"] > 0, would
    pruned = headwater(replayed, "replay", "prune", "--older-than", "0", "--json")
    gone = json.loads(pruned.stdout)
    assert [(one["id"], one["redis_keys"]) for one in gone] == [
        (one["id"], one["redis_keys"]) for one in would
    ]
    for view in VIEWS:
        refs = catalog(replayed.settings).load_table(f"features.{view}").refs()
        assert set(refs) == {"main", "empty"}
    with redis.Redis(port=replayed.settings.ports.redis) as online:
        assert not list(online.scan_iter(match=b"*flights~*", count=10_000))
    assert json.loads(headwater(replayed, "replay", "list", "--json").stdout) == []
    unknown = headwater(replayed, "replay", "verify", left[0])
    assert unknown.returncode == 2
    assert f"'{left[0]}'" in unknown.stderr
