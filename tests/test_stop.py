"""A job that starts again while it is being stopped is stopped all the same."""

from __future__ import annotations

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from feature_repo.flights.repository import repository
from flink_jobs.rest import FlinkError
from headwater.jobs import Jobs
from tests.conftest import eventually

COUNTING = """CREATE TABLE numbers (n BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '10');
CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole');
BEGIN STATEMENT SET;
INSERT INTO nowhere SELECT n FROM numbers;
END;
"""


FILING = """SET 'execution.checkpointing.interval' = '1 h';
CREATE TABLE numbers (n STRING) WITH (
  'connector' = 'datagen', 'rows-per-second' = '10');
CREATE TABLE files (n STRING) WITH (
  'connector' = 'filesystem', 'path' = 'file://FOLDER', 'format' = 'raw',
  'sink.rolling-policy.rollover-interval' = '1 s', 'sink.rolling-policy.check-interval' = '1 s');
BEGIN STATEMENT SET;
INSERT INTO files SELECT n FROM numbers;
END;
"""


def submitted(running, name, script):
    """A cluster, and a job on it."""
    running.up()
    jobs = Jobs(running.settings, repository)
    (job,) = jobs.submit_scripts({name: script}, print).values()
    return jobs.cluster, job


@pytest.fixture
def counting(running):
    """A job that has been through a checkpoint, as Flink calls it, and its cluster."""
    cluster, job = submitted(running, "counting", COUNTING)
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
        told = (
            "(?s)after 3 s; Flink said last: .*Not all required tasks are currently running"
            ".*; the job is R[A-Z]+; Source: .* is [A-Z]+; it failed last of: .*TaskManager"
        )
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


def test_a_job_that_fails_after_its_savepoint_has_ended_there(running, tmp_path):
    """What it is to commit is gone once the savepoint is made."""
    folder = tmp_path / "files"
    cluster, job = submitted(running, "filing", FILING.replace("FOLDER", str(folder)))
    assert eventually(lambda: len([file for file in folder.rglob("*") if file.is_file()]) > 1)
    shutil.rmtree(folder)
    savepoint = cluster.stop(job)
    assert (Path(savepoint.removeprefix("file:")) / "_metadata").exists()
    assert eventually(lambda: cluster.get(f"/jobs/{job}")["state"] == "FAILED")
