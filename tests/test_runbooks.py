"""What the runbooks tell people to type does what they say, on a platform of native processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime

import psycopg
import pytest
import redis
from confluent_kafka import Producer

from feature_repo.flights.repository import repository
from flink_jobs.rest import FlinkCluster
from flink_jobs.sql import jobs
from tests import runbooks
from tests.conftest import ROOT, command, eventually, platform_of
from tests.recorded import FIRST, STREAMS
from tests.test_platform import (
    VIEWS,
    ask,
    caught_up,
    days,
    disagreements,
    send,
    value,
)

TYPED = {
    one for program in ("headwater", "curl") for _, one in runbooks.of(program, runbooks.FILES)
}
CHECKED = [VIEWS[name] for name in ("carrier_delays", "origin_delays", "aircraft_last_arrival")]
DL = {"carrier": "DL"}


@pytest.fixture(scope="module")
def platform():
    """Of its own: its Redis is emptied, its API guarded and a table rolled back."""
    with platform_of("runbooks", HEADWATER_EXTERNAL="") as platform:
        yield platform


@pytest.fixture(scope="module")
def typed(platform, tmp_path_factory):
    """Runs a runbook's command as it stands, but for `instead`; what it said."""
    folder = tmp_path_factory.mktemp("typed")
    environ = os.environ | platform.environ
    environ |= {"HEADWATER_BUILD": str(ROOT / "build"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def typed(text, exits=0, **instead):
        assert text in TYPED, f"no runbook says {text}"
        here = re.sub(r"http://127\.0\.0\.1:1?8080", platform.settings.api_url, text)
        words = [instead.get(word, word) for word in shlex.split(here)]
        if words[0] == "headwater":
            words[:1] = [sys.executable, "-m", "headwater"]
        done = subprocess.run(
            words, cwd=folder, env=environ, capture_output=True, text=True, timeout=180
        )
        assert exits in (done.returncode, None), (text, done.stdout, done.stderr)
        return done.stdout

    typed.folder = folder
    return typed


def bad(access, *payloads):
    """Records that no job can read, on one partition, of the first of January."""
    producer = Producer(access.librdkafka())
    for payload in payloads:
        producer.produce("flights.departures", payload, partition=0, timestamp=FIRST)
    assert producer.flush(30) == 0


@pytest.fixture(scope="module")
def flowing(platform, typed):
    """Nineteen bad records and two days of flights, through jobs that were submitted as told."""
    assert command(os.environ | platform.environ, "load").returncode == 0
    typed("headwater apply")
    typed("headwater jobs submit")
    nowhere = days(13, 14)[STREAMS["departures"]][0] | {"origin": "nowhere"}
    bad(platform.settings.kafka_access, *[b"{}"] * 18, json.dumps(nowhere).encode())
    send(platform, days(13, 15))
    assert caught_up(platform, days(13, 15))
    assert agreed(platform, 15)
    return platform


def agreed(platform, end, views=CHECKED):
    """Both stores and the API come to have what is computed of the flights until that day."""
    return eventually(lambda: not disagreements(platform, days(13, end), views), 60)


def test_the_first_five_minutes_say_that_all_is_well(flowing, typed):
    told = typed("headwater status")
    for part in flowing.platform.status():
        assert re.search(rf"{part.name} +up", told), part.name
    told = typed("headwater jobs list")
    assert set(re.findall(r"(\S+) +RUNNING", told)) == {job.name for job in jobs(repository)}
    assert json.loads(typed("curl http://127.0.0.1:8080/health/ready"))["status"] == "up"
    assert re.search(r"api +up", typed("headwater status api"))
    assert re.search(r"redis +up", typed("headwater status redis"))
    assert typed("headwater logs api -n 50").strip()
    assert "Ready to accept connections" in typed("headwater logs redis -n 50")


def test_what_the_exporter_does_is_seen_and_how_far_features_have_moved(flowing, typed):
    environ = os.environ | flowing.environ
    assert command(environ, "up", "exporter").returncode == 0
    assert re.search(r"exporter +up", typed("headwater status exporter"))
    assert "metrics at http://" in typed("headwater logs exporter -n 50")
    assert command(environ, "down", "exporter").returncode == 0
    # From some time of the fourteenth on, against what came before; be it moved or not.
    last = (datetime.now(UTC) - datetime(2013, 1, 14, tzinfo=UTC)).days
    told = typed(
        "headwater drift carrier_delays --last 24h --against 7d", None, **{"24h": f"{last}d"}
    )
    assert "carrier_delays:count_1h" in told


def test_a_plan_that_is_made_is_the_one_that_is_committed(typed):
    typed("headwater plan")
    made = [path for path in typed.folder.rglob("plan/**/*") if path.is_file()]
    assert len(made) > 10
    for path in made:
        assert path.read_bytes() == (ROOT / path.relative_to(typed.folder)).read_bytes()
    assert "up to date" in typed("headwater plan --check")


def test_a_feature_is_seen_served(flowing, typed):
    told = json.loads(
        typed(
            "curl http://127.0.0.1:18080/v1/features --json '"
            '{"features": ["carrier_delays:count_1h"], "entities": [{"carrier": "DL"}]}\''
        )
    )
    assert told["rows"] == [[value(flowing, DL, "carrier_delays:count_1h")]] != [[None]]


def test_dead_letters_are_listed_shown_sent_again_and_purged(flowing, typed):
    def listed(exits):
        told = typed("headwater deadletters list", exits)
        found = re.findall(r"flights\.departures +(\w+) +(\w+) +(\d+)", told)
        return {(reason, state): int(count) for reason, state, count in found}

    assert listed(exits=1) == {("missing", "open"): 18, ("expectation", "open"): 1}
    shown = typed("headwater deadletters show --topic flights.departures -n 5").splitlines()
    assert len(shown) == 5
    told = typed("headwater deadletters show flights.departures/0/17")
    assert "open  missing" in told and told.splitlines()[1] == "{}"
    (told,) = typed("headwater deadletters show --reason expectation -n 5").splitlines()
    assert told.startswith("flights.departures/0/18")
    assert "18 sent again" in typed(
        "headwater deadletters replay --topic flights.departures --reason missing"
    )
    # Nothing was fixed, so each is a new letter.
    sent = {("missing", "replayed"): 18, ("missing", "open"): 18, ("expectation", "open"): 1}
    assert eventually(lambda: listed(exits=1) == sent)
    assert "37 purged" in typed(
        "headwater deadletters purge flights.departures --before 2013-02-01"
    )
    assert listed(exits=0) == {("missing", "purged"): 36, ("expectation", "purged"): 1}


def test_quality_tells_of_what_declares_that_it_is_checked(flowing, typed):
    """Of the flights that is nothing."""
    nothing = ["source", "expectation", "windows", "events", "broken", "until"]
    assert typed("headwater quality").split() == nothing
    assert typed("headwater quality --from 2013-01-15T00:00:00").split() == nothing


def test_an_emptied_redis_is_filled_again(flowing, typed):
    def emptied():
        with redis.Redis(port=flowing.settings.ports.redis) as online:
            online.flushall()
        assert value(flowing, DL, "carrier_delays:count_7d") is None

    # Checkpoints are every two seconds here.
    emptied()
    told = typed("headwater online rebuild --wait 60", **{"60": "6"})
    assert all(re.search(rf"{view.name}: [1-9]\d* entities", told) for view in CHECKED)
    assert agreed(flowing, 15)
    emptied()
    told = typed("headwater online rebuild carrier_delays --wait 60", **{"60": "6"})
    assert re.fullmatch(r"carrier_delays: \d+ entities\n", told)
    assert agreed(flowing, 15, [VIEWS["carrier_delays"]])
    assert value(flowing, {"origin": "JFK"}, "origin_delays:count_1h") is None
    typed("headwater online rebuild")
    assert agreed(flowing, 15)


def test_redis_keeps_what_it_has_while_it_is_down(flowing, typed):
    typed("headwater down redis")
    assert flowing.state_of("redis") == "down"
    assert ask(flowing, DL, "carrier_delays:count_1h") == {}
    typed("headwater up redis")
    assert agreed(flowing, 15)


def test_the_source_is_made_ready_by_hand(flowing, typed):
    with psycopg.connect(flowing.settings.postgres_url("flights"), autocommit=True) as connection:
        connection.execute("DROP TABLE headwater.signals CASCADE")
        connection.execute(typed("headwater connectors sql --user headwater"))
    environ = os.environ | flowing.environ
    done = command(environ, "connectors", "apply", "--check")
    assert done.returncode == 0, done.stdout


def test_jobs_that_were_stopped_go_on_from_their_savepoints(flowing, typed):
    cluster = FlinkCluster(flowing.settings.flink_url)
    told = typed("headwater jobs stop")
    savepoints = dict(re.findall(r"(\S+) is stopped; savepoint file:/*(\S+)", told))
    assert savepoints.keys() == {job.name for job in jobs(repository)}
    day = days(15, 16)
    send(flowing, day)
    ends = json.loads(typed("headwater jobs ends flights-archive"))
    for name in ("arrivals", "weather"):
        left = sum(end - first for first, end in ends[name]["log"].values())
        assert left == len(day[STREAMS[name]]) > 0
    typed("headwater jobs submit")
    for job in cluster.jobs():
        restored = cluster.get(f"/jobs/{job.id}/checkpoints")["latest"]["restored"]
        assert restored["external_path"].endswith(savepoints[job.name])
    assert caught_up(flowing, days(13, 16))
    assert agreed(flowing, 16)


def test_tables_go_back_to_a_savepoint_or_a_time_and_forth(flowing, typed):
    told = typed("headwater jobs stop")
    (savepoint,) = re.findall(r"flights-departures is stopped; savepoint (\S+)", told)
    told = typed(
        "headwater snapshots rollback --savepoint"
        " s3://headwater-features/flink/savepoints/savepoint-1a2b3c-4d5e6f",
        **{"s3://headwater-features/flink/savepoints/savepoint-1a2b3c-4d5e6f": savepoint},
    )
    assert "carrier_delays is there already" in told and "origin_delays is there already" in told
    newest, before, *_ = typed("headwater snapshots list carrier_delays").splitlines()
    told = typed(
        "headwater snapshots rollback carrier_delays --before 2026-03-01T12:00:00",
        **{"2026-03-01T12:00:00": newest.split()[0]},
    )
    assert before.split()[1] in told
    assert typed("headwater snapshots list carrier_delays").splitlines()[0].split()[1] in before
    (back,) = re.findall(r"; it was at \S+, (\d+)", told)
    assert back == newest.split()[1]
    typed(
        "headwater snapshots set carrier_delays 5781947118336215154",
        **{"5781947118336215154": back},
    )
    assert typed("headwater snapshots list carrier_delays").splitlines()[0].split()[1] == back


def test_who_may_ask_the_api_is_made_and_revoked(flowing, typed):
    keys = [
        typed("headwater keys make helm-test --view '*' --file principals.json"),
        typed(
            "headwater keys make late-model --view origin_delays --view carrier_delays"
            " --rate 200 --file principals.json"
        ),
        typed("headwater keys make late-model-2 --view origin_delays --file principals.json"),
    ]
    typed("headwater keys revoke late-model --file principals.json")
    environ = os.environ | flowing.environ
    environ |= {"HEADWATER_AUTH": "on"}
    environ |= {"HEADWATER_PRINCIPALS": str(typed.folder / "principals.json")}
    for what in ("down", "up"):
        assert command(environ, what, "api").returncode == 0
    everything, revoked, one = (
        json.loads(
            typed(
                "curl --oauth2-bearer KEY http://127.0.0.1:8080/v1/feature-views",
                KEY=key.strip(),
            )
        )
        for key in keys
    )
    assert {view["name"] for view in everything} >= VIEWS.keys()
    assert revoked["status"] == 401
    assert [view["name"] for view in one] == ["origin_delays"]
