"""The whole path on real servers: a row or an event comes in, the API answers its value."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from threading import Event, Thread

import pandas as pd
import psycopg
import pyarrow as pa
import pytest
import redis
import requests
from confluent_kafka import Consumer
from pyiceberg.exceptions import CommitFailedException

from connectors.ddl import late_topic
from connectors.producer import between, produce
from connectors.redis_codec import (
    decode_event_time,
    encode_value,
    entity_key,
    feature_field,
    timestamp_field,
)
from feature_repo.flights.history import history
from feature_repo.flights.repository import repository
from feature_repo.registration import feature_store
from headwater.agreement import Places, agree
from headwater.apply import catalog, registry
from schemas import Type
from tests.conftest import ROOT, eventually

DAY = 86_400_000
FIRST = int(datetime(2013, 1, 1, tzinfo=UTC).timestamp() * 1000)
VIEWS = {view.name: view for view in repository.views}
STREAMS = {stream.name: stream for stream in repository.streams}


def headwater(running, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "headwater", *arguments],
        cwd=ROOT,
        env=os.environ | running.environ,
        capture_output=True,
        text=True,
        timeout=180,
    )


def ask(running, entity, *features):
    reply = requests.post(
        f"{running.settings.api_url}/v1/features?include=metadata",
        json={"features": list(features), "entities": [entity]},
        timeout=5,
    )
    return reply.json()["rows"][0]["features"] if reply.ok else {}


def value(running, entity, feature):
    return ask(running, entity, feature).get(feature, {}).get("value")


def days(start, end):
    """The recorded events of those days of 2013, by stream."""
    return {
        stream: between(history.streams[name](), FIRST + start * DAY, FIRST + end * DAY)
        for name, stream in STREAMS.items()
    }


@pytest.fixture(scope="module")
def flowing(running):
    """The platform with tables, connector and jobs, and two days of events through them."""
    for command in (("load",), ("apply",), ("jobs", "submit")):
        done = headwater(running, *command)
        assert done.returncode == 0, done.stderr
    produce(running.settings.kafka, days(0, 2))
    assert eventually(lambda: value(running, {"tailnum": "N14228"}, "aircraft_facts:seats"))
    return running


def disagreements(running, recorded):
    known = {stream.name: events for stream, events in recorded.items()}
    views = [view for view in repository.views if view.source.name in known]
    with redis.Redis(port=running.settings.ports.redis) as online:
        places = Places("flights", online, catalog(running.settings), running.settings.api_url)
        return agree(views, known, places, sample=4).differences


def caught_up(running, recorded):
    """Every origin's newest event in Redis is past all but the last minutes of `recorded`."""
    newest = max(e["event_time"] for e in recorded[STREAMS["departures"]]) - 3_600_000

    def check():
        found = ask(running, {"origin": "JFK"}, "origin_delays:count_1h")
        time = found.get("origin_delays:count_1h", {}).get("event_time")
        return time and datetime.fromisoformat(time).timestamp() * 1000 >= newest

    return eventually(check)


def test_a_second_up_changes_nothing(flowing):
    before = [part.pid for part in flowing.platform.status()]
    done = headwater(flowing, "up")
    assert done.returncode == 0, done.stderr
    assert [part.pid for part in flowing.platform.status()] == before


def test_live_values_are_those_of_the_recomputation(flowing):
    recorded = days(0, 2)
    assert caught_up(flowing, recorded)
    assert eventually(lambda: not disagreements(flowing, recorded)), disagreements(
        flowing, recorded
    )


def test_a_late_event_changes_no_value_and_is_kept_with_the_views_it_missed(flowing):
    departures = STREAMS["departures"]
    recorded = days(0, 2)
    # So old that no window of a later test reaches it: a replay may be in time for it.
    late = recorded[departures][0] | {"tailnum": "N99999", "dep_delay": 99.5}
    late |= {"event_time": FIRST - 30 * DAY}
    produce(flowing.settings.kafka, {departures: [late]})
    consumer = Consumer(
        {
            "bootstrap.servers": flowing.settings.kafka,
            "group.id": "test-late",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([late_topic(departures)])
    kept = []

    def found():
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            kept.append(json.loads(message.value()))
        return len(kept) == 3

    assert eventually(found), kept
    consumer.close()
    told = {row["view"]: (row["entity"], json.loads(row["row"])["dep_delay"]) for row in kept}
    assert told == {
        "origin_delays": ({"origin": late["origin"]}, 99.5),
        "carrier_delays": ({"carrier": late["carrier"]}, 99.5),
        "aircraft_delays": ({"tailnum": "N99999"}, 99.5),
    }
    at = datetime.fromtimestamp(late["event_time"] / 1000, UTC)
    assert {datetime.fromisoformat(row["event_time"]) for row in kept} == {at}
    assert not disagreements(flowing, recorded)


def test_the_lookup_of_the_readme_works(flowing):
    text = (ROOT / "README.md").read_text("utf-8")
    path, body = re.search(r"curl http://[^/]+(/\S+) --json '([^']+)'", text).groups()
    lean, told = (json.loads(found) for found in re.findall(r"```json\n(.*?)```", text, re.DOTALL))
    reply = requests.post(f"{flowing.settings.api_url}{path}", data=body, timeout=5)
    assert reply.status_code == 200
    assert reply.json().keys() == lean.keys()
    assert reply.json()["features"] == lean["features"]
    assert [len(row) for row in reply.json()["rows"]] == [len(row) for row in lean["rows"]]
    url = f"{flowing.settings.api_url}{path}?include=metadata"
    (row,), (example,) = requests.post(url, data=body, timeout=5).json()["rows"], told["rows"]
    assert row.keys() == example.keys()
    assert row["entity"] == example["entity"]
    for name, told in example["features"].items():
        assert row["features"][name].keys() == told.keys()
        assert row["features"][name]["status"] == told["status"]


def test_the_feast_sdk_reads_the_same_online_and_offline(flowing):
    names = [f"origin_delays:{feature.name}" for feature in VIEWS["origin_delays"].features]
    assert eventually(lambda: not disagreements(flowing, days(0, 2)))
    served = ask(flowing, {"origin": "JFK"}, *names)
    store = feature_store("flights", registry(flowing.settings))
    online = store.get_online_features(names, [{"origin": "JFK"}]).to_dict()
    when = datetime.fromisoformat(served[names[0]]["event_time"])
    rows = pd.DataFrame({"origin": ["JFK"], "event_timestamp": [when]})
    offline = store.get_historical_features(rows, names).to_df()
    for name in names:
        short = name.partition(":")[2]
        assert online[short] == [served[name]["value"]]
        assert offline[short].tolist() == [served[name]["value"]]


def test_a_changed_row_in_postgres_is_the_apis_new_value(flowing):
    with psycopg.connect(flowing.settings.postgres_url("flights"), autocommit=True) as connection:
        connection.execute("UPDATE planes SET seats = 7 WHERE tailnum = 'N14228'")
    entity, feature = {"tailnum": "N14228"}, "aircraft_facts:seats"
    assert eventually(lambda: value(flowing, entity, feature) == 7)
    assert ask(flowing, entity, feature)[feature]["status"] == "present"
    # Its age counts from the day of the change, since then the row is true.
    age = value(flowing, entity, "aircraft_facts:age_years")
    assert age == datetime.now(UTC).year - value(flowing, entity, "aircraft_facts:year")


def test_a_deleted_row_has_no_values(flowing):
    with psycopg.connect(flowing.settings.postgres_url("flights"), autocommit=True) as connection:
        connection.execute("DELETE FROM airlines WHERE carrier = 'YV'")
    assert eventually(lambda: value(flowing, {"carrier": "YV"}, "carrier_facts:name") is None)
    assert value(flowing, {"carrier": "UA"}, "carrier_facts:name") == "United Air Lines Inc."


def test_stopped_jobs_go_on_from_their_savepoint(flowing):
    stopped = headwater(flowing, "jobs", "stop", "flights-departures")
    assert stopped.returncode == 0, stopped.stderr
    assert headwater(flowing, "jobs", "list").returncode == 1
    produce(flowing.settings.kafka, days(2, 3))
    assert headwater(flowing, "jobs", "submit").returncode == 0
    recorded = days(0, 3)
    assert caught_up(flowing, recorded)
    assert eventually(lambda: not disagreements(flowing, recorded)), disagreements(
        flowing, recorded
    )


@pytest.mark.parametrize(("part", "day"), [("redis", 3), ("kafka", 4), ("postgres", 5)])
def test_a_lost_part_has_a_name_and_the_platform_goes_on_when_it_is_back(flowing, part, day):
    flowing.down(part)
    assert flowing.state_of(part) == "down"
    health = requests.get(f"{flowing.settings.api_url}/health/ready", timeout=5)
    assert health.json()["parts"][part] != "up"
    assert health.status_code == (503 if part == "redis" else 200)
    status = headwater(flowing, "status", "--json")
    assert status.returncode == 1
    states = {found["name"]: found["state"] for found in json.loads(status.stdout)}
    assert states[part] == "down"
    if part != "kafka":
        produce(flowing.settings.kafka, days(day, day + 1))
    flowing.up(part)
    if part == "kafka":
        produce(flowing.settings.kafka, days(day, day + 1))
    recorded = days(0, day + 1)
    assert caught_up(flowing, recorded)
    assert eventually(lambda: not disagreements(flowing, recorded)), disagreements(
        flowing, recorded
    )
    health = requests.get(f"{flowing.settings.api_url}/health/ready", timeout=5)
    assert (health.status_code, health.json()["status"]) == (200, "up")


def test_a_crashed_part_is_named_with_its_log_and_up_brings_it_back(flowing):
    process = flowing.platform.process(flowing.platform.parts["taskmanager"]).find()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    done = headwater(flowing, "status")
    assert done.returncode == 1
    assert "taskmanager crashed:" in done.stdout
    produce(flowing.settings.kafka, days(6, 7))
    assert headwater(flowing, "up").returncode == 0
    recorded = days(0, 7)
    assert caught_up(flowing, recorded)
    assert eventually(lambda: not disagreements(flowing, recorded)), disagreements(
        flowing, recorded
    )


def test_a_port_that_is_taken_is_named_with_its_variable(flowing, tmp_path):
    environ = flowing.environ | {"HEADWATER_STATE": str(tmp_path / "other")}
    done = subprocess.run(
        [sys.executable, "-m", "headwater", "up", "redis"],
        cwd=ROOT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"port {flowing.settings.ports.redis} is taken" in done.stderr
    assert "HEADWATER_REDIS_PORT" in done.stderr


def disordered(recorded, seed):
    """The same events, each up to four minutes out of order: within the streams' disorder."""
    dice = random.Random(seed)
    return {
        stream: sorted(events, key=lambda e: e["event_time"] + dice.randrange(240_000))
        for stream, events in recorded.items()
    }


def test_a_replay_of_unchanged_code_is_equal_in_every_row(flowing):
    views = [view.name for view in repository.views if view.source in STREAMS.values()]
    produce(flowing.settings.kafka, disordered(days(7, 8), 1))
    process = flowing.platform.process(flowing.platform.parts["taskmanager"]).find()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert headwater(flowing, "up").returncode == 0
    produce(flowing.settings.kafka, disordered(days(8, 9), 2))
    produce(flowing.settings.kafka, days(9, 10))
    assert caught_up(flowing, days(0, 10))
    span = ("--from", "2013-01-08", "--to", "2013-01-10")
    planned = headwater(flowing, "replay", "plan", *views, *span, "--json")
    assert planned.returncode == 0, planned.stdout
    assert {source["gap"] for source in json.loads(planned.stdout)} == {""}
    run = headwater(flowing, "replay", "run", *views, *span, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["state"] == "done"

    def verified():
        done = headwater(flowing, "replay", "verify", "0001", "--json")
        return done if done.returncode == 0 else None

    found = eventually(verified)
    assert found, headwater(flowing, "replay", "verify", "0001").stdout
    for name, report in json.loads(found.stdout).items():
        assert report["live"] == report["replayed"] > 0, name


def test_verify_shows_what_differs_and_by_how_much(flowing):
    table = catalog(flowing.settings).load_table("features.carrier_delays")
    first, last = "2013-01-09T00:00:00+00:00", "2013-01-10T00:00:00+00:00"
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
    done = headwater(flowing, "replay", "verify", "0001")
    assert done.returncode == 1
    assert "carrier_delays: differs" in done.stdout
    assert "count_1h: 1 changed" in done.stdout
    assert f"{wrong['count_1h']} -> {wrong['count_1h'] - 1000}" in done.stdout


def test_a_promoted_replay_corrects_both_stores_and_can_be_taken_back(flowing):
    """One wrong row offline (from the test before), one wrong value online, and a busy client."""
    view = VIEWS["aircraft_last_arrival"]
    first, last = FIRST + 7 * DAY, FIRST + 9 * DAY
    with redis.Redis(port=flowing.settings.ports.redis) as online:
        tailnum = next(
            e["tailnum"]
            for e in days(7, 9)[STREAMS["arrivals"]]
            if first <= newest_of(online, view, e["tailnum"]) < last
        )
        key = entity_key("flights", view.entities, {"tailnum": tailnum})
        online.hset(key, feature_field(view.name, "dest"), encode_value(Type.STRING, "XXX"))
    entity, feature = {"tailnum": tailnum}, f"{view.name}:dest"
    assert value(flowing, entity, feature) == "XXX"
    right = newest_arrival(tailnum)["dest"]
    stop, answers = Event(), []

    def read():
        while not stop.is_set():
            answers.append(value(flowing, entity, feature))

    reader = Thread(target=read)
    reader.start()
    try:
        for command, online_value, verified in (
            ("promote", right, 0),
            ("rollback", "XXX", 1),
            ("promote", right, 0),
        ):
            done = headwater(flowing, "replay", command, "0001")
            assert done.returncode == 0, done.stderr
            assert value(flowing, entity, feature) == online_value
            assert headwater(flowing, "replay", "verify", "0001").returncode == verified
    finally:
        stop.set()
        reader.join()
    assert set(answers) == {"XXX", right}


def newest_of(online, view, tailnum):
    """Event time of an aircraft's value, milliseconds."""
    key = entity_key("flights", view.entities, {"tailnum": tailnum})
    return decode_event_time(online.hget(key, timestamp_field(view.name)) or b"")


def newest_arrival(tailnum):
    arrivals = days(0, 10)[STREAMS["arrivals"]]
    return [event for event in arrivals if event["tailnum"] == tailnum][-1]


def test_a_dropped_replay_leaves_nothing(flowing):
    done = headwater(flowing, "replay", "drop", "0001")
    assert done.returncode == 0, done.stderr
    assert (
        "replay_0001" not in catalog(flowing.settings).load_table("features.carrier_delays").refs()
    )
    with redis.Redis(port=flowing.settings.ports.redis) as online:
        assert not list(online.scan_iter(match=b"*flights~0001*", count=10_000))
    assert json.loads(headwater(flowing, "replay", "list", "--json").stdout) == []
    unknown = headwater(flowing, "replay", "verify", "0001")
    assert unknown.returncode == 2
    assert "'0001'" in unknown.stderr
