"""A bug planted in a view on real flights: found, fixed, replayed, promoted, taken back.

It goes the way of a changed feature both times, since a job with another condition does not fit
the state it had: a replay up to now, a switch, and a live job that starts anew where it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime
from threading import Event, Thread

import pytest
import requests

from feature_repo.flights.repository import repository
from headwater.recompute import matches, recompute
from tests.conftest import ROOT, eventually, produce_awake
from tests.planted import repository as planted
from tests.recorded import DAY, FIRST, STREAMS, of_stream

MARCH = FIRST + 59 * DAY
ORIGIN = {"origin": "JFK"}
NAMES = ("count_1d", "late_share_1h", "late_share_1d")
BUG = {"HEADWATER_REPOSITORY": "tests.planted:repository"}


def command(running, *arguments, **more):
    done = subprocess.run(
        [sys.executable, "-m", "headwater", *arguments],
        cwd=ROOT,
        env=os.environ | running.environ | more,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done


def flights(start, end):
    """The departures of those days of March 2013."""
    return {STREAMS["departures"]: of_stream("departures", MARCH, start, end)}


def served(running):
    """What the API answers for the airport: the event time, and the values."""
    names = [f"origin_delays:{name}" for name in NAMES]
    reply = requests.post(
        f"{running.settings.api_url}/v1/features?include=metadata",
        json={"features": names, "entities": [ORIGIN]},
        timeout=5,
    )
    assert reply.status_code == 200, reply.text
    found = reply.json()["rows"][0]["features"]
    (time,) = {value["event_time"] for value in found.values()}
    return time, tuple(found[name]["value"] for name in names)


def is_by(running, views, events):
    """Whether the API's answer is of the end of the events, and what that repository computes."""
    time, values = served(running)
    if time is None:
        return False
    at = round(datetime.fromisoformat(time).timestamp() * 1000)
    its = [e for e in events[STREAMS["departures"]] if e["origin"] == ORIGIN["origin"]]
    if at < max(e["event_time"] for e in its) - 2 * 3_600_000:
        return False  # it has not come to the last of them
    view = next(view for view in views.views if view.name == "origin_delays").only(*NAMES)
    exact = recompute(view, its, at)
    return all(
        matches(feature, value, exact[feature.name], its)
        for feature, value in zip(view.features, values, strict=True)
    )


@contextmanager
def reading(running):
    """A client that asks all the time; what it was answered."""
    stop, answers, problems = Event(), [], []

    def read():
        while not stop.is_set():
            try:
                answers.append(served(running))
            except Exception as error:
                problems.append(error)

    reader = Thread(target=read)
    reader.start()
    try:
        yield answers
    finally:
        stop.set()
        reader.join()
    assert not problems


@pytest.fixture(scope="module")
def march(flying):
    """A platform with the first days of March through it."""
    running = flying()
    produce_awake(running.settings.kafka_access, flights(0, 3))
    assert eventually(lambda: is_by(running, repository, flights(0, 3)))
    return running


def test_a_planted_bug_is_found_fixed_replayed_and_taken_back(march):
    since = ("--from", "2013-03-01")
    # The bug goes live, as any change of a feature does.
    deployed = command(march, "replay", "run", "origin_delays", *since, "--promote", **BUG)
    assert "late_share_1h has changed" in deployed.stderr
    assert eventually(lambda: is_by(march, planted, flights(0, 3)))
    produce_awake(march.settings.kafka_access, flights(3, 5))
    assert eventually(lambda: is_by(march, planted, flights(0, 5)))
    wrong = served(march)

    # The fix is computed beside it, and compared: just the two features differ.
    run = command(march, "replay", "run", "origin_delays", *since, "--json")
    id_ = json.loads(run.stdout)["id"]
    assert json.loads(run.stdout)["state"] == "following"
    assert served(march) == wrong
    with reading(march) as answers:
        promoted = command(march, "replay", "promote", id_, "--upgrade")
        assert "late_share_1h has changed" in promoted.stderr
        assert eventually(lambda: is_by(march, repository, flights(0, 5)))
        right = served(march)
        assert right != wrong and right[1][0] == wrong[1][0]
        command(march, "replay", "rollback", id_)
        assert served(march) == wrong
        command(march, "replay", "promote", id_)
        assert served(march) == right
    # Each answer was the one or the other, never some of both.
    assert set(answers) == {wrong, right}
    produce_awake(march.settings.kafka_access, flights(5, 7))
    assert eventually(lambda: is_by(march, repository, flights(0, 7)))
