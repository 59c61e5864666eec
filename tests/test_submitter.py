"""The process that submits jobs: what it does with wrong ones, and what others do without it."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from uuid import uuid4

import pytest

from flink_jobs.rest import FlinkError
from headwater.jobs import FIXED_ID
from headwater.local.submitter import submitted
from tests.conftest import ROOT, eventually

NOTHING = {"flink": {}, "jobs": []}
WRONG = {
    "name": "wrong",
    "sql": "SELECT nothing FROM nowhere;\n",
    "values": {},
    "configuration": {},
}
COUNTED = """CREATE TABLE numbers (n INT) WITH ('connector' = 'datagen', 'number-of-rows' = '1');
CREATE TABLE nowhere (n INT) WITH ('connector' = 'blackhole');
BEGIN STATEMENT SET;
INSERT INTO nowhere SELECT n FROM numbers;
END;
"""

STUBS = {
    "pyflink/java_gateway.py": "def get_gateway(): pass\n",
    "pyflink/table.py": """import os, socket
StatementSet = None
class EnvironmentSettings:
    in_streaming_mode = print
class TableEnvironment:
    def create(_):
        with socket.socket(socket.AF_UNIX) as gate:
            gate.connect(os.environ["GATE"])
            gate.recv(1)
        raise ValueError("nothing is submitted here")
""",
    "py4j/protocol.py": "Py4JError = Py4JJavaError = ArithmeticError\n",
}
"""Of PyFlink and Py4J: a submission knocks at the socket GATE, waits for its end, and fails."""


@pytest.fixture
def process(running):
    """The submitter's process, which is up again afterwards."""
    running.up("submitter")
    yield running.platform.process(running.platform.parts["submitter"])
    running.up("submitter")


@pytest.fixture
def stubbed(tmp_path):
    """A submitter's process without PyFlink, and whose jobs wait for a gate."""
    for module, text in STUBS.items():
        file = tmp_path / "stubs" / module
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    (jars := tmp_path / "jars").mkdir()
    path, door = tmp_path / "submitter.sock", tmp_path / "gate"
    environ = os.environ | {"FLINK_LIB_DIR": str(jars), "GATE": str(door)}
    environ["PYTHONPATH"] = f"{tmp_path / 'stubs'}:{ROOT}"
    process = subprocess.Popen(
        [sys.executable, "-m", "flink_jobs.submitter", str(path)], env=environ
    )
    try:
        with socket.socket(socket.AF_UNIX) as gate:
            gate.bind(str(door))
            gate.listen()
            gate.settimeout(30)
            assert eventually(lambda: _listens(path), 30)
            settings = SimpleNamespace(state=tmp_path)
            yield SimpleNamespace(
                folder=tmp_path, jars=jars, gate=gate, path=path, settings=settings
            )
    finally:
        process.kill()
        process.wait(10)


def flink(running):
    return {
        "execution.target": "remote",
        "execution.attached": "false",
        "rest.address": "127.0.0.1",
        "rest.port": str(running.settings.ports.flink),
    }


def test_a_wrong_job_is_told_and_the_next_one_is_submitted(running, process):
    began = process.find()
    request = {"flink": flink(running), "jobs": [WRONG]}
    with pytest.raises(FlinkError, match="Object 'nowhere' not found"):
        list(submitted(running.settings, request, ()))
    right = {"name": "counted", "sql": COUNTED, "values": {}, "configuration": {}}
    request = {"flink": flink(running), "jobs": [right, WRONG]}
    told = submitted(running.settings, request, ())
    assert next(told)["name"] == "counted"
    with pytest.raises(FlinkError):
        next(told)
    assert process.find() == began


def test_a_job_has_the_id_that_it_is_asked_to_have(running, process):
    """By an option that is Flink's own: without it a job of a killed command could get lost."""
    id_ = uuid4().hex
    job = {"name": "counted", "sql": COUNTED, "values": {}, "configuration": {FIXED_ID: id_}}
    request = {"flink": flink(running), "jobs": [job]}
    assert list(submitted(running.settings, request, ())) == [{"name": "counted", "id": id_}]


def test_a_lock_that_comes_with_a_request_is_kept_until_it_is_answered(stubbed):
    request = {"flink": {}, "jobs": [WRONG]}
    lock = (stubbed.folder / "lock").open("w")
    with (stubbed.folder / "lock").open("w") as another, ThreadPoolExecutor() as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = pool.submit(lambda: list(submitted(stubbed.settings, request, (lock.fileno(),))))
        knocked, _ = stubbed.gate.accept()  # the job is being submitted
        with knocked:
            lock.close()
            assert not _is_free(another)
        with pytest.raises(FlinkError, match="nothing is submitted here"):
            told.result(30)
        assert eventually(lambda: _is_free(another), 5)


def test_what_it_was_started_from_has_changed_and_so_it_starts_anew(running, process):
    began = process.find()
    jar = running.settings.state / "flink" / "lib" / "another.jar"
    jar.touch()
    try:
        assert list(submitted(running.settings, NOTHING, ())) == []  # by a process of its own
        assert eventually(lambda: running.state_of("submitter") == "up", 30)
        assert process.find() == began
    finally:
        jar.unlink()


def test_one_that_starts_itself_anew_keeps_no_lock(stubbed):
    """What it keeps awake is not there: a request that it does not carry out needs none of it."""
    (stubbed.jars / "another.jar").touch()
    lock = stubbed.folder / "lock"
    with socket.socket(socket.AF_UNIX) as asked, lock.open("w") as held:
        asked.connect(str(stubbed.path))
        fcntl.flock(held, fcntl.LOCK_EX)
        socket.send_fds(asked, [b"{}\n"], [held.fileno()])
        assert asked.makefile().readline() == '{"changed": true}\n'
    with lock.open("w") as another:
        assert eventually(lambda: _is_free(another), 5)


def test_without_it_jobs_are_submitted_by_a_process_of_their_own(running, process):
    killed = process.find()
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    assert running.state_of("submitter") == "crashed"
    assert list(submitted(running.settings, NOTHING, ())) == []
    with pytest.raises(FlinkError, match="Object 'nowhere' not found"):
        list(submitted(running.settings, {"flink": flink(running), "jobs": [WRONG]}, ()))


def test_when_its_jvm_has_gone_it_says_so_and_goes_too(running, process):
    (jvm,) = process.find().children()
    jvm.kill()
    request = {"flink": flink(running), "jobs": [WRONG]}
    with pytest.raises(FlinkError):
        list(submitted(running.settings, request, ()))
    assert eventually(lambda: running.state_of("submitter") == "crashed", 10)
    with pytest.raises(FlinkError, match="Object 'nowhere' not found"):
        list(submitted(running.settings, request, ()))


def test_who_says_nothing_does_not_keep_others_from_it(running, process):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(running.platform.parts["submitter"].address)
    assert list(submitted(running.settings, NOTHING, ())) == []


def _listens(path):
    with socket.socket(socket.AF_UNIX) as asked:
        return asked.connect_ex(str(path)) == 0


def _is_free(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
