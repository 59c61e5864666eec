"""A job that starts again while it is being stopped is stopped all the same."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from feature_repo.flights.repository import repository
from flink_jobs.rest import FlinkCluster, FlinkError
from headwater.jobs import Jobs
from tests.conftest import eventually

COUNTING = """CREATE TABLE numbers (n BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '10');
CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole');
BEGIN STATEMENT SET;
INSERT INTO nowhere SELECT n FROM numbers;
END;
"""


@pytest.fixture
def counting(running):
    """A job that has been through a checkpoint, as Flink calls it, and its cluster."""
    running.up()
    cluster = FlinkCluster(running.settings.flink_url)
    (job,) = (
        Jobs(running.settings, repository).submit_scripts({"counting": COUNTING}, print).values()
    )
    assert eventually(lambda: cluster.completed(job) > 0)
    yield cluster, job
    running.up()
    if any(one.id == job for one in cluster.jobs()):
        cluster.cancel(job)


def test_a_job_whose_tasks_are_lost_while_it_is_stopped_is_stopped_later(running, counting):
    """Its savepoint has begun and cannot go on; then its task manager is gone, then a new one."""
    cluster, job = counting
    tasks = running.platform.process(running.platform.parts["taskmanager"]).find()

    def is_begun():
        newest = cluster.get(f"/jobs/{job}/checkpoints")["history"][0]
        return newest["is_savepoint"] and newest["status"] == "IN_PROGRESS"

    with ThreadPoolExecutor() as pool:
        tasks.send_signal(signal.SIGSTOP)
        try:
            stopping = pool.submit(cluster.stop, job, 180)
            assert eventually(is_begun, 30)
        finally:
            tasks.kill()
        tasks.wait(10)
        assert eventually(lambda: cluster.exception(job), 60)
        told = "after 3 s; Flink said last: .*Not all required tasks are currently running"
        with pytest.raises(FlinkError, match=told):
            cluster.stop(job, 3)
        running.up()
        savepoint = stopping.result(200)
    assert (Path(savepoint.removeprefix("file:")) / "_metadata").exists()
    assert cluster.get(f"/jobs/{job}")["state"] == "FINISHED"
    tried = cluster.get(f"/jobs/{job}/checkpoints")["history"]
    assert "FAILED" in [one["status"] for one in tried if one["is_savepoint"]]


def test_a_savepoint_that_can_never_be_is_told_at_once(counting):
    cluster, job = counting
    with pytest.raises(FlinkError, match=r"(?s)has not been stopped: .*/proc/savepoints"):
        cluster.stop(job, folder="file:///proc/savepoints")
    assert [one.state for one in cluster.jobs() if one.id == job] == ["RUNNING"]
