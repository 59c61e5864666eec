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
from pathlib import Path

import pandas as pd
import psycopg
import pytest
import redis
import requests
from confluent_kafka import Consumer

from connectors.producer import produce
from feature_repo.flights.history import history
from feature_repo.flights.repository import repository
from feature_repo.registration import feature_store
from headwater.agreement import Places, agree
from headwater.local.redis import redis_server
from headwater.settings import Settings
from headwater.stores import registry
from schemas.topics import late_topic
from tests.conftest import ROOT, catalog, eventually
from tests.ports import free_ports
from tests.recorded import DAY, FIRST, STREAMS, of_days

VIEWS = {view.name: view for view in repository.views}
REFITTED = []
"""The rows of the register that a test has changed, true since a day that is still to come."""


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
    return of_days(FIRST, start, end)


def send(running, recorded):
    """Produce the events, the weather first: a joined stream that was silent is not waited for."""
    for wanted in (True, False):
        chosen = {s: events for s, events in recorded.items() if (s.name == "weather") is wanted}
        produce(running.settings.kafka_access, chosen)


@pytest.fixture(scope="module")
def flowing(flying):
    """The platform with tables, connector and jobs, and two days of events through them."""
    running = flying()
    send(running, days(0, 2))
    assert eventually(lambda: value(running, {"tailnum": "N14228"}, "aircraft_facts:seats"))
    return running


def disagreements(running, recorded, views=None):
    """What is otherwise than computed anew, of those views or of all that are made of events."""
    known = {stream.name: events for stream, events in recorded.items()}
    for table in repository.tables:  # as they were when the flights left
        rows = history.tables[table.name]()
        known[table.name] = [row | history.generated[table.name](row) for row in rows]
    known["planes"] += REFITTED
    views = views or [view for view in repository.views if view.stream is not None]
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


def test_no_process_is_started_for_a_file_of_a_table(flowing):
    """Hadoop's own local files come with checksums in files of their own, ours without."""
    folder = Path(flowing.settings.warehouse.removeprefix("file://"))
    assert eventually(lambda: list(folder.rglob("features/origin_delays/data/**/*.parquet")))
    assert not list(folder.rglob("*.crc"))


def test_a_late_event_changes_no_value_and_is_kept_with_the_views_it_missed(flowing):
    departures = STREAMS["departures"]
    recorded = days(0, 2)
    # So old that no window of a later test reaches it: a replay may be in time for it.
    late = recorded[departures][0] | {"tailnum": "N99999", "dep_delay": 99.5}
    late |= {"event_time": FIRST - 30 * DAY}
    produce(flowing.settings.kafka_access, {departures: [late]})
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
        return len(kept) == 4

    assert eventually(found), kept
    consumer.close()
    told = {row["view"]: (row["entity"], json.loads(row["row"])["dep_delay"]) for row in kept}
    assert told == {
        "origin_delays": ({"origin": late["origin"]}, 99.5),
        "carrier_delays": ({"carrier": late["carrier"]}, 99.5),
        "aircraft_delays": ({"tailnum": "N99999"}, 99.5),
        "carrier_context": ({"carrier": late["carrier"]}, 99.5),
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


def test_a_row_changed_before_an_event_is_joined_with_it(flowing):
    """The flights of the tests that follow are held against the changed rows too."""
    since = FIRST + 2 * DAY + DAY // 2
    for row in list(history.tables["planes"]())[::3]:
        if row["tailnum"] != "N14228":
            row |= history.generated["planes"](row)
            REFITTED.append(row | {"seats": 1000, "updated_at": since})
    with psycopg.connect(flowing.settings.postgres_url("flights"), autocommit=True) as connection:
        change = "UPDATE planes SET seats = 1000, updated_at = '2013-01-03 12:00'"
        tailnums = [row["tailnum"] for row in REFITTED]
        connection.execute(f"{change} WHERE tailnum = ANY(%s)", [tailnums])
    last = {"tailnum": REFITTED[-1]["tailnum"]}
    assert eventually(lambda: value(flowing, last, "aircraft_facts:seats") == 1000)


def test_stopped_jobs_go_on_from_their_savepoint(flowing):
    stopped = headwater(flowing, "jobs", "stop", "flights-departures")
    assert stopped.returncode == 0, stopped.stderr
    assert headwater(flowing, "jobs", "list").returncode == 1
    send(flowing, days(2, 3))
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
        send(flowing, days(day, day + 1))
    flowing.up(part)
    if part == "kafka":
        send(flowing, days(day, day + 1))
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
    send(flowing, days(6, 7))
    assert headwater(flowing, "up").returncode == 0
    recorded = days(0, 7)
    assert caught_up(flowing, recorded)
    assert eventually(lambda: not disagreements(flowing, recorded)), disagreements(
        flowing, recorded
    )


def test_what_serves_goes_before_what_computes(flowing):
    for part in flowing.platform.parts.values():
        process = flowing.platform.process(part).find()
        if process is not None:
            expected = min(19, os.nice(0) + 10 * part.gives_way)
            assert process.nice() == expected, part.name


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


def test_a_redis_that_is_not_there_is_not_asked_again_and_again(tmp_path, monkeypatch):
    settings = Settings.read(free_ports() | {"HEADWATER_STATE": str(tmp_path)})
    waits = []
    monkeypatch.setattr("redis.retry.sleep", waits.append)
    with pytest.raises(redis.ConnectionError):
        redis_server(settings).check()
    assert waits == []


def disordered(recorded, seed):
    """The same events, each up to four minutes out of order: within the streams' disorder."""
    dice = random.Random(seed)
    return {
        stream: sorted(events, key=lambda e: e["event_time"] + dice.randrange(240_000))
        for stream, events in recorded.items()
    }
