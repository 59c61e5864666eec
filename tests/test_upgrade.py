"""Declarations change while events come: jobs go on from their state where it fits, none twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from connectors.deadletters import DeadLetters
from connectors.late import late_rows
from connectors.log import Log
from tests import stricter
from tests.conftest import eventually
from tests.corpus import NOON
from tests.shop import last_purchase, purchases
from tests.test_deadletters import send
from tests.test_replay import archived

STRICTER = {"HEADWATER_REPOSITORY": "tests.stricter:repository"}
SUMMING = {"HEADWATER_REPOSITORY": "tests.stricter:summing"}
START = NOON + 2 * 86_400_000
FROM = datetime.fromtimestamp(START / 1000, UTC).isoformat()


def buy(running, customer, minutes, quantity, partition=0):
    """One purchase so long after START; where it stands in the log."""
    event = {
        "event_time": START + minutes * 60_000,
        "customer": customer,
        "channel": "web",
        "quantity": quantity,
    }
    (where,) = send(running, [(json.dumps(event).encode(), partition)])
    return where


def close(running, minutes):
    """An event on each partition, so that all before it come to their values."""
    for partition in (0, 1):
        buy(running, "closing", minutes, 1, partition)


def bought(shop):
    found = shop.values(last_purchase, "upgraded") or {}
    return found.get("quantity"), found.get("count_1d")


def archived_since(running, since):
    """The places in the log of archived purchases from those offsets on, and how often each is."""
    return {
        (partition, offset): times
        for (partition, offset), times in archived(running, purchases).items()
        if offset >= since[partition]
    }


def ends(running):
    """One more than the last offset, by partition."""
    return Log(running.settings.kafka_access).ends(purchases.topic)


@pytest.fixture(scope="module")
def submitted(running, shop):
    """Its jobs run, and one purchase went through them."""
    shop.must("jobs", "submit")
    since = ends(running)
    buy(running, "upgraded", 0, 1)
    close(running, 10)
    assert eventually(lambda: bought(shop) == (1, 1)), bought(shop)
    yield since
    for job in ("shop-purchases", "shop-archive"):
        shop.must("jobs", "stop", job)
        shop.must("jobs", "submit", job)


def test_what_live_was_late_for_is_in_the_state_of_a_job_that_begins_anew(running, shop, submitted):
    """An idle partition holds nothing back; a replay waits for what it has."""

    def missed():
        return (shop.values(last_purchase, "missed") or {}).get("count_1d")

    def late():
        rows = late_rows(running.settings.kafka_access, purchases)
        return [row for row in rows if row.entity == {"customer": "missed"}]

    shop.must("jobs", "stop", "shop-purchases")
    shop.must("jobs", "submit", "shop-purchases", HEADWATER_IDLE_SECONDS="1")
    buy(running, "hurried", 14, 1, partition=0)
    buy(running, "hurried", 16, 1, partition=0)
    assert eventually(lambda: shop.values(last_purchase, "hurried"))
    buy(running, "missed", 12, 1, partition=1)
    assert eventually(late)
    assert missed() is None
    # A replay waits for each partition, as long as it is not idle.
    buy(running, "hurried", 16, 1, partition=1)
    done = shop.must("replay", "run", "last_purchase", "--from", FROM, "--json")
    replay = json.loads(done.stdout)["id"]
    told = shop.must("replay", "promote", replay, "--anew").stderr
    assert "shop-purchases cannot go on from its state: it is to begin anew" in told
    assert missed() == 1
    buy(running, "missed", 17, 1, partition=1)
    close(running, 19)
    assert eventually(lambda: missed() == 2), missed()


def test_a_changed_expectation_is_promoted_and_the_job_goes_on_from_its_state(
    running, shop, submitted
):
    done = shop.must("replay", "run", "last_purchase", "--from", FROM, "--promote", **STRICTER)
    assert "shop-purchases is stopped; savepoint" in done.stderr
    assert "cannot go on" not in done.stderr
    buy(running, "upgraded", 20, 2)
    much = buy(running, "upgraded", 21, 1000)
    close(running, 40)
    assert eventually(lambda: bought(shop) == (2, 2)), bought(shop)
    letters = DeadLetters(running.settings.kafka_access, [purchases.topic])
    rejected = eventually(lambda: [one for one in letters.read(purchases.topic) if one.id == much])
    assert rejected and "quantity_within" in rejected[0].reason


def test_the_archives_job_goes_on_where_its_tables_end(running, shop, submitted):
    """Its state does not fit once it sums expectations up as well."""
    shop.must("apply", **SUMMING)
    shop.must("jobs", "stop", "shop-archive", **STRICTER)
    buy(running, "upgraded", 50, 3)  # it comes while the job is away
    done = shop.must("jobs", "submit", "shop-archive", **SUMMING)
    assert "goes on where its tables end" in done.stdout
    close(running, 200)
    dead = {
        one.id
        for one in DeadLetters(running.settings.kafka_access, [purchases.topic]).read(
            purchases.topic
        )
    }
    wanted = {
        (p, offset): 1
        for p, end in ends(running).items()
        for offset in range(submitted[p], end)
        if f"{purchases.topic}/{p}/{offset}" not in dead
    }
    assert eventually(lambda: archived_since(running, submitted) == wanted), archived_since(
        running, submitted
    )
    # The first hours have ended; silent ones are not there: no heartbeat, no window.

    def summed():
        told = json.loads(shop.headwater("quality", "--format", "json", **SUMMING).stdout)
        return [one for one in told if one["source"] == "purchases"]

    names = {one["expectation"] for one in eventually(summed)}
    assert names == {one.name for one in stricter.summed.expectations}
    # Stopped and submitted once more, it goes on from its own savepoint.
    shop.must("jobs", "stop", "shop-archive", **SUMMING)
    again = shop.must("jobs", "submit", "shop-archive", **SUMMING)
    assert "where its tables end" not in again.stdout
