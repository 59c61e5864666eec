"""kill -9 at random points of a run, a promotion and a rollback: always clean, always resumable.

HEADWATER_KILLS sets how many, HEADWATER_KILLS_SEED where the dice begin; `make kill-replay` kills
thirty times.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException

from tests.conftest import ROOT, catalog, eventually, produce_awake
from tests.recorded import DAY, FIRST, of_days
from tests.test_platform import headwater
from tests.test_replay import equal_in_every_row, in_place, kill, newest, state

KILLS = int(os.environ.get("HEADWATER_KILLS", "3"))
SEED = int(os.environ.get("HEADWATER_KILLS_SEED", "1"))
START = FIRST + 45 * DAY
VIEWS = ("carrier_delays", "origin_delays", "route_delays")
SPAN = ("--from", "2013-02-16", "--to", "2013-02-17")


def days(start, end):
    """The recorded events of those days of February 2013, from the 15th on, by stream."""
    return of_days(START, start, end)


def rows(running, view):
    table = catalog(running.settings).load_table(f"features.{view}")
    return table.scan(
        row_filter="event_time >= '2013-02-16T00:00:00+00:00'"
        " and event_time < '2013-02-17T00:00:00+00:00'"
    ).to_arrow()


def kill_while(running, dice, seconds, *arguments, part=None):
    """Start a command and kill it after a random part of `seconds`; maybe a part with it."""
    command = subprocess.Popen(
        [sys.executable, "-m", "headwater", *arguments],
        cwd=ROOT,
        env=os.environ | running.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(dice.uniform(0.2, 1.0) * seconds)
    command.kill()
    command.wait(10)
    if part is not None:
        kill(running, part)
        assert headwater(running, "up").returncode == 0


@pytest.fixture(scope="module")
def february(flying):
    """A platform with three days of February through it, and a wrong row in each table."""
    running = flying()
    produce_awake(running.settings.kafka_access, days(0, 3))
    after = datetime(2013, 2, 17, 20, tzinfo=UTC)

    def live():
        for view in VIEWS:
            table = catalog(running.settings).load_table(f"features.{view}")
            times = table.scan(selected_fields=("event_time",)).to_arrow()["event_time"]
            if len(times) == 0 or max(times.to_pylist()) < after:
                return False
        return True

    assert eventually(live)
    done = headwater(running, "replay", "run", *VIEWS, *SPAN, "--json")
    assert done.returncode == 0, done.stderr
    id_ = json.loads(done.stdout)["id"]
    equal_in_every_row(running, id_)
    for view in VIEWS:
        assert eventually(lambda view=view: spoiled(running, view)), view
    return running, id_


def spoiled(running, view):
    table = catalog(running.settings).load_table(f"features.{view}")
    found = rows(running, view)
    wrong = found.slice(0, 1).to_pylist()[0]
    wrong |= {"available_at": datetime.now(UTC), "count_1d": (wrong["count_1d"] or 0) + 1000}
    try:
        table.append(pa.Table.from_pylist([wrong], schema=found.schema))
    except CommitFailedException:  # a job committed first
        return False
    return True


def every_row_is_there(running, id_):
    """As in live, where one value is wrong or not, as the promotion left it."""
    done = headwater(running, "replay", "verify", id_, "--json")
    report = json.loads(done.stdout)["carrier_delays"]
    assert report["missing"] == report["extra"] == 0
    assert report["live"] == report["replayed"] > 0
    assert sum(feature["changed"] for feature in report["features"].values()) <= 1


@pytest.mark.parametrize("number", range(KILLS))
def test_a_kill_leaves_one_of_two_states_and_the_same_command_goes_on(february, number):
    running, id_ = february
    dice = random.Random(f"{SEED}:{number}")
    if number % 3 == 2:
        part = dice.choice([None, None, "taskmanager"])
        before = newest(running)
        kill_while(running, dice, 16, "replay", "run", "carrier_delays", *SPAN, part=part)
        begun = newest(running)
        if begun == before:
            return  # it was killed before there was anything
        resumed = headwater(running, "replay", "resume", begun, "--json")
        if resumed.returncode:  # it had come to its end
            assert state(running, begun)["state"] == "done", resumed.stderr
        kept = catalog(running.settings).load_table("features.carrier_delays")
        assert f"replay_{begun}" in kept.refs()
        every_row_is_there(running, begun)
        assert headwater(running, "replay", "drop", begun).returncode == 0
        return
    there = state(running, id_)["state"] == "promoted"
    command = "rollback" if there else "promote"
    began = time.monotonic()
    kill_while(running, dice, 3.5, "replay", command, id_)
    assert time.monotonic() - began < 60
    found = in_place(running, id_)
    assert len(set(found.values())) == 1, found  # all tables, or none
    again = headwater(running, "replay", command, id_, "--json")
    assert again.returncode == 0, again.stderr
    assert set(in_place(running, id_).values()) == {not there}
    assert state(running, id_)["state"] == ("rolled back" if there else "promoted")


def test_a_replay_goes_on_from_its_checkpoint_when_the_cluster_is_lost(february):
    running, _ = february
    command = subprocess.Popen(
        [sys.executable, "-m", "headwater", "replay", "run", *VIEWS[:1], *SPAN, "--rate", "200"],
        cwd=ROOT,
        env=os.environ | running.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    kept = running.settings.state / "checkpoints" / "replays"
    before = set(kept.glob("**/_metadata"))
    assert eventually(lambda: set(kept.glob("**/_metadata")) - before)
    begun = newest(running)
    for part in ("flink", "taskmanager"):
        kill(running, part)
    command.kill()
    command.wait(10)
    assert headwater(running, "up").returncode == 0
    lost = headwater(running, "replay", "follow", begun)
    assert lost.returncode == 1 and f"headwater replay resume {begun}" in lost.stderr
    assert headwater(running, "jobs", "submit").returncode == 0
    assert headwater(running, "replay", "rate", begun).returncode == 0
    resumed = headwater(running, "replay", "resume", begun, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "goes on from chk-" in resumed.stderr
    assert json.loads(resumed.stdout)["state"] == "done"
    every_row_is_there(running, begun)
