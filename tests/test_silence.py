"""Features move although a partition is silent, or all are, or one is hours ahead of another."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from confluent_kafka import Producer

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
