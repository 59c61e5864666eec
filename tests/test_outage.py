"""A job is away for longer than Kafka keeps its transactions: nothing is lost unseen.

The late rows of a checkpoint are in a transaction that is committed once it is complete. Of a
savepoint that its job goes on after nothing is committed: whoever goes on from it is where a job
is that was killed between a checkpoint and its commit.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest
import requests
from confluent_kafka import Producer

from connectors.late import late_rows
from connectors.log import Log
from connectors.topics import ShortTransactions, check_transactions
from flink_jobs.checkpoints import newest_left
from flink_jobs.rest import FlinkCluster
from flink_jobs.sql import job_sql, jobs
from headwater.jobs import RECOVERY, Jobs
from headwater.savepoints import checkpoint_time
from schemas.topics import late_topic
from tests.conftest import command, eventually
from tests.tides import levels, repository

JOB = next(job for job in jobs(repository) if job.views)
NOON = 1_770_000_000_000
AWAY = 25
"""Longer than the shorter of the transactions, and than Kafka takes to find it too old."""


class Tides:
    """The repository on the shared platform; event times only increase."""

    def __init__(self, running):
        self.settings = running.settings
        self.environ = (
            os.environ | running.environ | {"HEADWATER_REPOSITORY": "tests.tides:repository"}
        )
        self.cluster = FlinkCluster(self.settings.flink_url)
        self.now = NOON

    def headwater(self, *arguments, **environ):
        return command(self.environ | environ, *arguments)

    def submit(self, outage, interval, savepoint=None):
        """The job with so long a transaction, seconds, and checkpoints so often."""
        settings = replace(self.settings, outage_seconds=outage)
        configuration = {"execution.checkpointing.interval": interval}
        if savepoint is not None:
            configuration[RECOVERY] = savepoint
        submitted = Jobs(settings, repository).submit_scripts(
            {JOB.name: job_sql(JOB)}, print, {JOB.name: configuration}
        )
        id_ = submitted[JOB.name]
        assert eventually(lambda: self.state(id_) == "RUNNING")
        return id_

    def state(self, id_):
        job = self.cluster.get(f"/jobs/{id_}")
        tasks = {vertex["status"] for vertex in job["vertices"]}
        return job["state"] if tasks == {job["state"]} else None

    def produce(self, *events):
        """(gauge, milliseconds, partition) each."""
        producer = Producer({"bootstrap.servers": self.settings.kafka})
        for gauge, at, partition in events:
            event = json.dumps({"event_time": at, "gauge": gauge}).encode()
            producer.produce(levels.topic, event, partition=partition)
        assert producer.flush(30) == 0

    def late(self, count):
        """Let time pass, then send so many events that are too late for it; how they are called."""
        self.now += 3_600_000
        written = self.written()
        gauges = [f"gauge {self.now} {n}" for n in range(count)]
        passing = 0

        def is_late():
            """One that was not late counts; another comes after it until one is."""
            nonlocal passing
            passing += 1
            self.produce((f"passing {self.now} {passing}", self.now - 60_000, 0))
            return eventually(lambda: self.written() > written, 2)

        self.produce(("time", self.now, 0), ("time", self.now, 1))
        assert eventually(is_late)
        before = self.written()
        self.produce(*((gauge, self.now - 60_000, 0) for gauge in gauges))
        assert eventually(lambda: self.written() >= before + count)
        return gauges

    def written(self):
        """Late rows on their topic, committed or not."""
        log = Log(self.settings.kafka_access, uncommitted=True)
        return sum(1 for _ in log.messages(late_topic(levels)))

    def decided(self):
        """Whether no transaction is open: what was written is committed, or Kafka dropped it."""
        access, topic = self.settings.kafka_access, late_topic(levels)
        return Log(access).ends(topic) == Log(access, uncommitted=True).ends(topic)

    def counted(self, gauges):
        """How often each of those is among the late rows."""
        found = [row.entity["gauge"] for row in late_rows(self.settings.kafka_access, levels)]
        return [found.count(gauge) for gauge in gauges]

    def savepoint(self, id_):
        """One that the job goes on after, so that nothing is committed of it."""
        url = f"{self.settings.flink_url}/jobs/{id_}/savepoints"
        asked = requests.post(url, json={"cancel-job": False}, timeout=10)
        asked.raise_for_status()

        def done():
            found = requests.get(f"{url}/{asked.json()['request-id']}", timeout=10).json()
            return found["status"]["id"] == "COMPLETED" and found["operation"]

        return eventually(done)["location"]

    def end(self, id_):
        self.cluster.cancel(id_)
        assert eventually(lambda: JOB.name not in {job.name for job in self.cluster.jobs()})


@pytest.fixture(scope="module")
def tides(running):
    tides = Tides(running)
    for arguments in (("apply", "topics", "tables"), ("jobs", "submit", "tides-archive")):
        done = tides.headwater(*arguments)
        assert done.returncode == 0, done.stderr
    yield tides
    for job in tides.cluster.jobs():
        if job.name.startswith("tides-"):
            tides.cluster.cancel(job.id)


def away(tides, outage, wait, first=None):
    """The late rows of a job that was away meanwhile, after its checkpoint; its id now."""
    id_ = tides.submit(outage, "1 h", first)
    gauges = tides.late(5)
    assert tides.counted(gauges) == [0] * 5, "nothing is committed yet"
    savepoint = tides.savepoint(id_)
    tides.end(id_)
    assert tides.counted(gauges) == [0] * 5, "nor by the savepoint"
    assert not tides.decided()
    wait()
    id_ = tides.submit(outage, "1 h", savepoint)
    assert id_ in tides.cluster.checkpoint([id_], 2, 60)
    return gauges, id_


def newest(tides):
    """The last checkpoint of the job that was submitted last."""
    known = json.loads((tides.settings.state / "jobs" / f"{JOB.name}.json").read_text())
    return newest_left(tides.settings.state, known["id"])


def audited(tides, *arguments):
    """The audit's one topic."""
    done = tides.headwater("audit", "levels", "--json", *arguments)
    (topic,) = json.loads(done.stdout)
    assert topic["balanced"] == (done.returncode == 0)
    return topic


def test_a_job_that_is_away_for_no_longer_than_declared_loses_nothing(tides):
    gauges, id_ = away(tides, 600, lambda: time.sleep(AWAY))
    assert eventually(lambda: tides.counted(gauges) == [1] * 5)
    found = audited(tides)
    assert found["balanced"], found
    assert found["lost"] == {}
    tides.end(id_)


def test_what_a_longer_outage_lost_is_named(tides):
    written = tides.written()
    gauges, id_ = away(tides, 20, lambda: eventually(tides.decided), newest(tides))
    assert tides.decided()
    assert tides.counted(gauges) == [0] * 5, "Kafka has dropped them"
    # What is lost does not come: there is only the archive to wait for.
    found = eventually(lambda: (it := audited(tides, "--wait", "0"))["pending"] == 0 and it)
    lost = tides.written() - written
    assert lost > 5, "those, and what was sent before them until it was late"
    assert found["lost"] == {"gauge_levels": lost}, found
    assert not found["balanced"]
    assert found["missing"] == found["twice"] == 0, "their events are in the archive"
    told = tides.headwater("audit", "levels", "--wait", "0")
    assert f"{lost} late rows LOST" in told.stdout and "a replay takes them in" in told.stdout
    tides.end(id_)


def test_of_a_job_that_was_lost_for_longer_that_is_said(tides):
    made = checkpoint_time(newest(tides))
    time.sleep(max(0, made + 21 - time.time()))  # it was submitted with 20, and that counts
    done = tides.headwater("jobs", "submit", JOB.name)
    assert done.returncode == 0, done.stderr
    for part in (
        "tides-levels was lost",
        "for 20 s (HEADWATER_OUTAGE_SECONDS)",
        "tides.levels.late",
    ):
        assert part in done.stdout


def test_a_longer_outage_than_kafka_takes_is_refused(tides):
    check_transactions(tides.settings.kafka_access, 604_800)
    with pytest.raises(ShortTransactions, match=r"transaction\.max\.timeout\.ms to 700000000"):
        check_transactions(tides.settings.kafka_access, 700_000)
    tides.headwater("jobs", "stop", JOB.name)
    done = tides.headwater("jobs", "submit", JOB.name, HEADWATER_OUTAGE_SECONDS="700000")
    assert done.returncode == 2
    assert "HEADWATER_OUTAGE_SECONDS=700000" in done.stderr
    wrong = tides.headwater("jobs", "list", HEADWATER_OUTAGE_SECONDS="soon")
    assert wrong.returncode == 2
    assert "'soon'" in wrong.stderr


def test_a_job_goes_on_from_its_state_when_its_stream_comes_to_be_traced_or_no_longer_is(tides):
    for name in ("traced", "repository"):
        tides.headwater("jobs", "stop", JOB.name)
        environ = {"HEADWATER_REPOSITORY": f"tests.tides:{name}"}
        done = tides.headwater("jobs", "submit", JOB.name, **environ)
        assert done.returncode == 0, done.stderr
        ids = [job.id for job in tides.cluster.jobs() if job.name == JOB.name]
        assert set(tides.cluster.checkpoint(ids, 1, 60)) == set(ids)
