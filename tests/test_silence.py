"""Features move although a partition is silent, or all are, or one is hours ahead of another.

So do the windows that expectations are summed up for: at the end all of them are compared.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from confluent_kafka import Producer

from headwater.stores import catalog
from tests.conftest import ROOT, eventually
from tests.shop import visit_counts, visits


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


def summed(shop):
    """The windows of the visits that had events: how often each expectation was broken."""
    rows = catalog(shop.settings).load_table("quality.shop").scan().to_arrow().to_pylist()
    assert {row["source"] for row in rows} <= {"visits"}
    found = {}
    for row in rows:
        if row["events"]:
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
    assert "choices: visits" in wrong.stderr
