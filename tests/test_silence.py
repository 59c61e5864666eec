"""Features move although a partition is silent, or all are, or one is hours ahead of another.

So do the windows that expectations are summed up for, of events and of a view: at the end all of
them are compared.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer

from headwater.recompute import instants, recompute
from schemas import EVENT_TIME
from tests.conftest import ROOT, catalog, eventually
from tests.shop import visit_counts, visits

anything = replace(visit_counts, expectations=(), checked=None)
"""The view, if nothing were expected of it."""


def visit(shop, customer, at, partition):
    producer = Producer({"bootstrap.servers": shop.settings.kafka})
    event = {"event_time": round(at * 1000), "customer": customer}
    producer.produce(visits.topic, json.dumps(event).encode(), partition=partition)
    assert producer.flush(30) == 0


def counted(shop, customer):
    return (shop.values(visit_counts, customer) or {}).get("count_20s")


@pytest.fixture(scope="module", autouse=True)
def submitted(shop):
    """Its jobs run, also after a test that loses the cluster."""
    done = shop.headwater("jobs", "submit")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def heartbeat(shop):
    """The command, running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "headwater", "heartbeat"], cwd=ROOT, env=shop.environ
    )
    yield process
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_a_partition_hours_ahead_makes_nothing_late(shop):
    """Before any heartbeat: one of the present would make these events late."""
    start = time.time() - 40_000
    for n in range(5):
        visit(shop, "ahead", start + 20_000 + n, 0)
    for n in range(5):
        visit(shop, "behind", start + n, 1)
    # The watermark is that of the slower partition, and comes to move with both.
    visit(shop, "behind", start + 30_000, 1)
    visit(shop, "ahead", start + 30_000, 0)
    for customer in ("ahead", "behind"):
        assert eventually(lambda who=customer: counted(shop, who) == 0), counted(shop, customer)


def test_values_of_a_silent_stream_rise_and_decay(shop, heartbeat):
    """One event and nothing after it: the heartbeats alone bring its value, and its end."""
    visit(shop, "lonely", time.time(), 0)
    assert eventually(lambda: counted(shop, "lonely") == 1)
    assert eventually(lambda: counted(shop, "lonely") == 0)


def test_a_silent_partition_holds_nobody_up(shop, heartbeat):
    began = time.time()
    for n in range(3):
        visit(shop, "busy", began + n / 10, 0)
    assert eventually(lambda: counted(shop, "busy") == 3)


def summed(shop, source="visits"):
    """Its windows that had events or rows: how often each expectation was broken."""
    rows = catalog(shop.settings).load_table("quality.shop").scan().to_arrow().to_pylist()
    assert {row["source"] for row in rows} <= {"visits", "view.visit_counts"}
    found = {}
    for row in rows:
        if row["source"] == source and row["events"]:
            its = found.setdefault(row["event_time"].timestamp(), {"events": row["events"]})
            assert row["expectation"] not in its, "no window twice"
            its[row["expectation"]] = row["broken"]
    return found


def should_be(shop, before):
    """The same of the archive's rows, in plain Python; those of `before` were read too late."""
    rows = catalog(shop.settings).load_table("raw.visits").scan().to_arrow().to_pylist()
    windows = {}
    for row in rows:
        at = row["event_time"].timestamp()
        windows.setdefault(at // 5 * 5, []).append((row["customer"], at))
    return {
        start: {
            "events": len(its),
            "customer_unique": len(its) - len({customer for customer, _ in its}),
            "fresh": sum(at < before for _, at in its),
            "rate": int(not 1 <= len(its) <= 3),
            "customer_among": sum(customer == "busy" for customer, _ in its),
        }
        for start, its in windows.items()
    }


def test_what_is_expected_is_summed_up_window_by_window(shop, heartbeat):
    before = time.time() - 10_000

    def all_archived():
        """Of the tests before: 6 visits of ahead, 6 of behind, 1 of lonely and 3 of busy."""
        found = should_be(shop, before)
        return sum(one["events"] for one in found.values()) == 16 and found

    expected = eventually(all_archived)
    assert expected, should_be(shop, before)
    assert eventually(lambda: summed(shop) == expected), (summed(shop), expected)
    assert sum(one["customer_unique"] for one in expected.values()) >= 6
    told = shop.headwater("quality", "visits", "--format", "json")
    assert told.returncode == 1, told.stderr
    by_name = {one["expectation"]: one for one in json.loads(told.stdout)}
    assert by_name["customer_among"]["broken"] == 3
    assert by_name["fresh"]["broken"] == 12
    assert by_name["rate"]["windows"] > len(expected), "heartbeats let silent windows be seen"
    assert by_name["rate"]["broken"] > sum(one["rate"] for one in expected.values())
    silent = 'headwater_expectation_broken{expectation="rate",source="visits"} 1.0'

    def scraped():
        """The newest window is one of the last visits for a few seconds, then a silent one."""
        done = shop.headwater("quality", "--format", "prometheus")
        assert done.returncode == 0
        return silent in done.stdout

    assert eventually(scraped)
    wrong = shop.headwater("quality", "purchases")
    assert wrong.returncode == 2
    assert "choices: visits, view.visit_counts" in wrong.stderr


def kept(shop):
    """The rows of the view: (customer, seconds, count)."""
    rows = catalog(shop.settings).load_table("features.visit_counts").scan().to_arrow()
    return [
        (row["customer"], row["event_time"].timestamp(), row["count_20s"])
        for row in rows.to_pylist()
    ]


def counted_again(shop):
    """The same in plain Python, of the archive's rows, and whatever they should have been."""
    rows = catalog(shop.settings).load_table("raw.visits").scan().to_arrow().to_pylist()
    visited = {}
    for row in rows:
        at = round(row["event_time"].timestamp() * 1000)
        visited.setdefault(row["customer"], []).append({EVENT_TIME: at})
    found = []
    for customer, its in visited.items():
        before = 0
        times = {one[EVENT_TIME] for one in its}
        for at in instants(visit_counts, its):
            (value,) = recompute(anything, its, at).values()
            # A row comes out at every event, and where a tile's expiry changes a value.
            if at in times or value != before:
                found.append((customer, at / 1000, value))
            before = value
    return found


def view_should_be(rows, before):
    """Its windows; those of `before` were computed too late."""
    windows = {}
    for row in rows:
        windows.setdefault(row[1] // 5 * 5, []).append(row)
    known = ("ahead", "behind", "busy", "lonely")
    return {
        start: {
            "events": len(its),
            "count_20s_within": sum(count > 5 for _, _, count in its),
            "customer_unique": len(its) - len({customer for customer, _, _ in its}),
            "fresh": sum(at < before for _, at, _ in its),
            "rate": int(not 1 <= len(its) <= 4),
            "customer_among": sum(customer not in known for customer, _, _ in its),
        }
        for start, its in windows.items()
    }


def test_what_is_expected_of_a_view_is_summed_up_and_what_it_rejects_is_null(shop, heartbeat):
    before = time.time() - 10_000
    began = time.time()
    for n in range(7):
        visit(shop, "crowd", began + n / 10, n % 2)
    assert eventually(lambda: counted(shop, "crowd") == 0), counted(shop, "crowd")
    rows = counted_again(shop)
    assert sum(count > 5 for _, _, count in rows) >= 2, "at the sixth and the seventh visit"
    out = sorted((who, at, None if count > 5 else count) for who, at, count in rows)

    def by_time(found):
        return sorted(found, key=lambda row: row[:2])

    assert eventually(lambda: by_time(kept(shop)) == by_time(out)), (by_time(kept(shop)), out)
    expected = view_should_be(rows, before)
    found = eventually(lambda: summed(shop, "view.visit_counts") == expected)
    assert found, (summed(shop, "view.visit_counts"), expected)
    told = shop.headwater("quality", "view.visit_counts", "--format", "json")
    assert told.returncode == 1, told.stderr
    by_name = {one["expectation"]: one for one in json.loads(told.stdout)}
    assert by_name["count_20s_within"]["broken"] >= 2
    assert by_name["rate"]["windows"] > len(expected), "heartbeats let silent windows be seen"


def test_a_replay_rejects_the_same_and_sums_nothing_up(shop, heartbeat):
    windows = summed(shop, "view.visit_counts")
    end = datetime.now(UTC)
    span = [(end - timedelta(minutes=30)).isoformat(), "--to", end.isoformat()]
    done = shop.headwater("replay", "run", "visit_counts", "--from", *span, "--json")
    assert done.returncode == 0, done.stderr
    done = shop.headwater("replay", "verify", json.loads(done.stdout)["id"], "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert {at: windows[at] for at in windows} == summed(shop, "view.visit_counts")


def test_another_expectation_is_promoted_and_no_window_comes_twice(shop, heartbeat):
    """Its job starts anew: the windows from there on are written again, of what it expects now."""
    began = datetime.now(UTC) - timedelta(minutes=5)
    run = ("replay", "run", "visit_counts", "--from", began.isoformat(), "--promote")
    watched = {"HEADWATER_REPOSITORY": "tests.stricter:watching"}
    done = shop.headwater(*run, **watched)
    assert done.returncode == 0, done.stderr
    assert "visit_counts: what is expected of it has changed" in done.stderr
    since = time.time()
    visit(shop, "watched", since, 0)

    def told():
        windows = summed(shop, "view.visit_counts")
        return any("count_20s_present" in one for at, one in windows.items() if at >= since - 5)

    assert eventually(told), summed(shop, "view.visit_counts")
    done = shop.headwater(*run)
    assert done.returncode == 0, done.stderr
    visit(shop, "watched", time.time(), 1)
    again = time.time()
    assert eventually(lambda: max(summed(shop, "view.visit_counts")) >= again - 5)
