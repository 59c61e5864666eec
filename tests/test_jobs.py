"""Live jobs are submitted once each, and what is known of them is what Flink has taken."""

from __future__ import annotations

import json
import os
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner

from connectors.access import KafkaAccess
from feature_repo.flights.repository import repository
from flink_jobs.replay import Reading, restart_sql, resumed_sql
from flink_jobs.rest import FlinkCluster, FlinkError
from flink_jobs.sql import job_sql
from headwater import jobs as module
from headwater import submissions
from headwater.cli import headwater
from headwater.jobs import FIXED_ID, RECOVERY, BrokenOff, Finish, Jobs, StateMismatch
from headwater.replays import context, handover
from headwater.replays.context import Context
from headwater.replays.handover import Handover
from headwater.replays.journal import Replay
from headwater.replays.plan import Planner, SourcePlan
from headwater.savepoints import NoSavepoint
from headwater.settings import Elsewhere, Settings
from headwater.submissions import Begun
from iceberg.catalog import TableMismatch, create_tables, open_catalog
from schemas import Feature, HeadwaterError, SettingsError, count
from tests.flink import Flink, listening
from tests.ports import free_ports

NAME = "flights-departures"
VIEW = "aircraft_delays"
ANEW = "a script that begins with no state"


class Killed(BaseException):
    """The command ends here, whoever submits for it may go on."""


class Submitter:
    """What submits jobs to a Flink, as told: `kill` is whether Flink has taken the job by then."""

    def __init__(self, flink):
        self.flink = flink
        self.requests = []
        self.kill = None

    def submitted(self, settings, request, held):
        for job in request["jobs"]:
            if self.kill is False:
                raise Killed
            self.requests.append(job)
            id_ = job["configuration"][FIXED_ID]
            self.flink.add(id_, job["name"])
            if self.kill:
                raise Killed
            yield {"name": job["name"], "id": id_}


class World:
    """Commands on one job of a repository, and the Flink that it runs on."""

    def __init__(self, settings, flink):
        self.settings, self.flink = settings, flink
        self.submitter = Submitter(flink)
        self.job = self.jobs().find(NAME)

    def jobs(self):
        """As another command has them."""
        return Jobs(self.settings, repository)

    def kept(self, what):
        return self.settings.state / "jobs" / f"{NAME}.{what}"

    def declare(self, sql):
        """It was submitted last when that was declared."""
        self.kept("declared.sql").write_text(sql, "utf-8")

    def begin(self):
        """It runs, and makes a checkpoint."""
        self.jobs().submit([NAME], print)
        id_ = json.loads(self.kept("json").read_text("utf-8"))["id"]
        return self.checkpoint(id_)

    def checkpoint(self, id_):
        checkpoint = self.settings.state / "checkpoints" / id_ / "chk-7"
        checkpoint.mkdir(parents=True)
        (checkpoint / "_metadata").write_bytes(struct.pack(">iiq", 0x4960672D, 0, 7))
        return checkpoint

    def stop_is_killed(self, monkeypatch, command, *arguments):
        """A command dies once it has asked Flink to stop a job; where the job's savepoint is."""

        def get(cluster, path):
            if "/savepoints/" in path:
                raise Killed
            return cluster._call("GET", path)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(FlinkCluster, "get", get)
            command(*arguments)
        (savepoint,) = (self.settings.state / "savepoints").iterdir()
        return str(savepoint)


@pytest.fixture
def world(tmp_path, monkeypatch):
    settings = Settings.read(free_ports() | {"HEADWATER_STATE": str(tmp_path / "state")})
    settings.password_file.parent.mkdir(parents=True)
    settings.password_file.write_text("password=secret\n", "utf-8")
    tables = open_catalog(f"sqlite:///{tmp_path}/c", str(tmp_path))
    with listening(Flink(), settings.ports.flink) as flink:
        flink.savepoints = f"file://{settings.state}/savepoints"
        found = World(settings, flink)
        monkeypatch.setattr(module, "submitted", found.submitter.submitted)
        monkeypatch.setattr(module, "check_transactions", lambda *_: None)
        monkeypatch.setattr(module, "check_savepoint", lambda *_, **__: None)
        for one in (module, context):
            monkeypatch.setattr(one, "catalog", lambda _: tables)
        monkeypatch.setattr(handover.Handover, "_sum_up_anew", lambda *_: None)
        yield found


def wider(job):
    """Its declarations with a window that is another one: their state does not fit."""
    return job_sql(job).replace("3600000", "7200000")


def stricter(job):
    """Its declarations with an option that is another one: their state fits."""
    return job_sql(job).replace("ahead' = '3600 s'", "ahead' = '1800 s'")


def killed(world, taken, command, *arguments):
    """A command dies as it submits: after Flink has taken the job, or before."""
    world.submitter.kill = taken
    with pytest.raises(Killed):
        command(*arguments, print)
    world.submitter.kill = None


def test_a_restart_that_is_killed_leaves_no_state_to_the_new_script(world):
    world.begin()
    world.declare(wider(world.job))
    restart = partial(world.jobs().restart, finish=Finish("0001", "promote it"))
    killed(world, False, restart, world.job, ANEW)
    assert world.jobs().changes(world.job)
    assert world.jobs().is_changed(world.job)
    with pytest.raises(BrokenOff):
        world.jobs().submit([NAME], print)
    world.jobs().submit([NAME], print, anew=True)
    assert RECOVERY not in world.submitter.requests[-1]["configuration"]
    assert world.jobs().broken_off(world.job) is None


def test_what_a_job_has_left_is_its_last_and_what_it_went_on_from_is_not(world, monkeypatch):
    """Since then it may have committed more, and left nothing of that here."""
    asked = []
    monkeypatch.setattr(module, "check_savepoint", lambda *_, is_last: asked.append(is_last))
    world.begin()
    world.jobs().stop([NAME], print)
    world.jobs().submit([NAME], print)
    world.flink.lose()
    world.jobs().submit([NAME], print)
    assert asked == [True, False]


def test_a_job_that_is_named_twice_is_submitted_and_stopped_once(world):
    before = len(world.submitter.requests)
    world.jobs().submit([NAME, NAME], print)
    assert len(world.submitter.requests) == before + 1
    world.jobs().stop([NAME, NAME], print)


def test_a_submission_that_is_killed_changes_nothing_of_what_the_state_is_of(world):
    checkpoint = world.begin()
    world.flink.lose()
    world.declare(old := stricter(world.job))
    killed(world, False, world.jobs().submit, [NAME])
    assert world.kept("declared.sql").read_text("utf-8") == old
    world.jobs().submit([NAME], print)
    assert world.submitter.requests[-1]["configuration"][RECOVERY] == str(checkpoint)
    assert not world.jobs().is_changed(world.job)


def test_a_job_that_flink_took_from_a_killed_command_is_known_with_its_script(world):
    world.begin()
    world.declare(wider(world.job))
    killed(world, True, world.jobs().restart, world.job, ANEW)
    world.jobs().stop([NAME], print)
    assert not world.jobs().is_changed(world.job)
    world.jobs().submit([NAME], print)
    assert world.submitter.requests[-1]["sql"] == ANEW
    assert "savepoint-" in world.submitter.requests[-1]["configuration"][RECOVERY]


def taken(world):
    """The id of the job that Flink has taken from a command that was killed then."""
    killed(world, True, world.jobs().submit, [NAME])
    assert not world.kept("json").exists()
    return world.jobs().running()[NAME].id


def test_a_job_of_a_killed_command_that_is_lost_goes_on_from_what_it_has_left(world):
    checkpoint = world.checkpoint(taken(world))
    world.flink.lose()
    world.jobs().submit([NAME], print)
    assert world.submitter.requests[-1]["configuration"][RECOVERY] == str(checkpoint)


def test_what_a_lost_job_of_a_killed_command_was_declared_as_is_known(world):
    world.checkpoint(taken(world))
    world.flink.lose()
    assert upgrade(world) == [NAME]


def test_of_a_job_that_flink_may_not_have_taken_what_was_before_counts(world):
    checkpoint = world.begin()
    world.flink.lose()
    killed(world, True, world.jobs().submit, [NAME])
    world.flink.lose()
    world.jobs().submit([NAME], print)
    assert world.submitter.requests[-1]["configuration"][RECOVERY] == str(checkpoint)


def upgrade(world, id_="0001"):
    there = Context(world.settings, repository)
    replay = Replay(id_, (VIEW,), 0, 1, state="promoted", ends={VIEW: 1})
    return Handover(there, None, None, None).upgrade(replay, print)


@pytest.mark.parametrize("taken", [None, True], ids=["told", "killed"])
def test_a_job_that_began_in_mid_log_reads_the_same_with_what_is_declared_later(world, taken):
    """From the archive, then from Kafka: so that the state of both fits."""
    world.begin()
    reading = Reading("t", {0: (9, 20)}, {0: (5, 9)}, 77)
    begun = Begun(10**12, {source.name: reading for source in world.job.sources})
    script = restart_sql(world.job, begun.since, begun.readings)
    restart = partial(world.jobs().restart, begun=begun)
    old = script.replace("ahead' = '3600 s'", "ahead' = '1800 s'")
    if taken:
        killed(world, taken, restart, world.job, old)
    else:
        restart(world.job, old, print)
    world.jobs().stop([NAME], print)
    for _ in range(2):  # how it began outlives the next submission as well
        world.declare(stricter(world.job))
        world.kept("sql").write_text(old, "utf-8")
        assert world.jobs().changes(world.job) == []
        world.jobs().submit([NAME], print)
        assert world.submitter.requests[-1]["sql"] == script
        assert "savepoint-" in world.submitter.requests[-1]["configuration"][RECOVERY]
        world.jobs().stop([NAME], print)
        world.jobs().submit([NAME], print)
        assert world.submitter.requests[-1]["sql"] == script
        world.jobs().stop([NAME], print)


def test_a_job_that_began_in_mid_log_and_is_begun_anew_reads_the_whole_log(world):
    """Its kept script skips what its lost state was of, which would never be computed."""
    world.begin()
    readings = {source.name: Reading("t", {0: (9, 20)}) for source in world.job.sources}
    script = restart_sql(world.job, 10**12, readings)
    world.jobs().restart(world.job, script, print, Begun(10**12, readings))
    world.flink.lose()
    world.jobs().submit([NAME], print, anew=True)
    declared = job_sql(world.job)
    assert world.submitter.requests[-1]["sql"] == declared != script
    assert RECOVERY not in world.submitter.requests[-1]["configuration"]
    world.jobs().stop([NAME], print)
    world.declare(stricter(world.job))
    world.jobs().submit([NAME], print)
    assert world.submitter.requests[-1]["sql"] == declared
    assert "savepoint-" in world.submitter.requests[-1]["configuration"][RECOVERY]


def stopped_at(world):
    """The savepoint that the job is stopped with."""
    world.jobs().stop([NAME], print)
    return world.kept("savepoint").read_text("utf-8").strip()


def test_from_a_savepoint_of_before_it_began_in_mid_log_a_job_reads_what_it_read_then(world):
    """Its later script lets out nothing of what is between the two."""
    world.jobs().submit([NAME], print)
    old = stopped_at(world)
    world.jobs().submit([NAME], print)
    readings = {source.name: Reading("t", {0: (9, 20)}) for source in world.job.sources}
    script = restart_sql(world.job, 10**12, readings)
    world.jobs().restart(world.job, script, print, Begun(10**12, readings))
    later = stopped_at(world)
    for savepoint, sql in ((old, job_sql(world.job)), (later, script)):
        world.jobs().submit([NAME], print, savepoint)
        assert world.submitter.requests[-1]["configuration"][RECOVERY] == savepoint
        assert world.submitter.requests[-1]["sql"] == sql
        for _ in range(2):  # and so on from there
            world.jobs().stop([NAME], print)
            world.jobs().submit([NAME], print)
            assert world.submitter.requests[-1]["sql"] == sql
        world.jobs().stop([NAME], print)


@pytest.fixture
def redeclared(world, monkeypatch):
    """A savepoint of what is declared, and one of a wider declaration, which the job has now."""
    world.jobs().submit([NAME], print)
    narrow = stopped_at(world)
    with monkeypatch.context() as patch:
        for one in (module, submissions):
            patch.setattr(one, "job_sql", wider)
        world.jobs().restart(world.job, wider(world.job), print)
        wide = stopped_at(world)
    return narrow, wide


def test_a_savepoint_of_what_is_declared_again_is_gone_on_from(world, redeclared):
    narrow, _ = redeclared
    with pytest.raises(StateMismatch, match="has changed"):
        world.jobs().submit([NAME], print)
    world.jobs().submit([NAME], print, narrow)
    asked = world.submitter.requests[-1]
    assert (asked["configuration"][RECOVERY], asked["sql"]) == (narrow, job_sql(world.job))


def test_a_savepoint_of_another_declaration_is_refused_whatever_was_submitted_last(
    world, redeclared
):
    """It would fail for ever, and where the job was is forgotten once Flink has taken it."""
    narrow, wide = redeclared
    world.jobs().submit([NAME], print, narrow)
    last = stopped_at(world)
    with pytest.raises(StateMismatch, match="has changed"):
        world.jobs().submit([NAME], print, wide)
    world.jobs().submit([NAME], print)
    assert world.submitter.requests[-1]["configuration"][RECOVERY] == last


def test_what_made_a_savepoint_is_known_as_long_as_that_is_there(world):
    kept = world.settings.state / "jobs" / NAME
    world.jobs().submit([NAME], print)
    savepoint = stopped_at(world)
    for _ in range(2):  # which leave nothing
        world.jobs().submit([NAME], print)
        world.flink.lose()
    assert len(list(kept.iterdir())) == 2
    shutil.rmtree(savepoint.removeprefix("file://"))
    world.jobs().submit([NAME], print, anew=True)
    assert len(list(kept.iterdir())) == 1


def test_where_a_job_was_is_told_until_it_has_left_something_of_a_savepoint_that_was_named(world):
    world.jobs().submit([NAME], print)
    old = stopped_at(world)
    world.jobs().submit([NAME], print)
    last = stopped_at(world)
    world.jobs().submit([NAME], print, old)
    for _ in range(2):
        world.flink.lose()
        told = Told()
        world.jobs().submit([NAME], told)
        assert world.submitter.requests[-1]["configuration"][RECOVERY] == old
        assert told.texts[0].startswith(
            f"{NAME} has left nothing since it was submitted from {old}"
        )
        assert f"`headwater jobs submit {NAME} --from {last}` goes on" in told.texts[0]
    world.checkpoint(world.jobs().running()[NAME].id)
    world.flink.lose()
    told = Told()
    world.jobs().submit([NAME], told)
    assert [text for text in told.texts if "--from" in text] == []


def test_the_archives_job_that_began_where_its_tables_end_is_begun_anew_from_the_beginning(world):
    name = "flights-archive"
    job = world.jobs().find(name)
    resumed = resumed_sql(job, {one.name: Reading("t", {0: (9, 20)}) for one in job.sources})
    world.jobs().submit([name], print)
    (world.settings.state / "jobs" / f"{name}.sql").write_text(resumed, "utf-8")
    world.flink.lose()
    world.jobs().submit([name], print, anew=True)
    assert world.submitter.requests[-1]["sql"] == job_sql(job)


def test_a_job_is_submitted_for_where_its_parts_are(world, tmp_path):
    """And what is kept of it is what is declared: its state fits, and no secret is written down."""
    (tmp_path / "token").write_text("t0ken\n")
    there = Elsewhere(
        kafka="kafka:9096",
        catalog_uri="https://rest.example.com",
        catalog_token_file=str(tmp_path / "token"),
        warehouse="s3://bucket/w",
    )
    world.settings = replace(
        world.settings,
        elsewhere=there,
        kafka_security=KafkaAccess("", "SASL_SSL", "me", "s3cret"),
        redis_replicas=1,
    )
    world.settings.password_file.unlink()  # nobody asks PostgreSQL
    world.jobs().submit([NAME], print)
    asked = world.submitter.requests[-1]
    sources = asked["sql"].count("'properties.bootstrap.servers'")
    assert asked["sql"].count("'properties.security.protocol' = 'SASL_SSL'") == sources > 3
    for part in ("'catalog-type' = 'rest'", "'token' = 't0ken'", "'replicas' = '1'"):
        assert part in asked["sql"]
    assert asked["values"]["kafka"] == "kafka:9096"
    assert world.kept("sql").read_text("utf-8") == job_sql(world.job)
    assert world.jobs().changes(world.job) == []


def test_a_catalog_that_jobs_cannot_open_is_refused(world):
    world.settings = replace(world.settings, elsewhere=Elsewhere(catalog_uri="mysql://u:pw@h/c"))
    with pytest.raises(SettingsError, match=r"http:// or https://.*got mysql:\.\.\.$"):
        world.jobs().submit([NAME], print)
    world.settings = replace(world.settings, elsewhere=Elsewhere(catalog_uri="http://rest"))
    readings = {
        source.name: Reading("t", {0: (9, 20)}, {0: (5, 9)}, 77) for source in world.job.sources
    }
    script = restart_sql(world.job, 10**12, readings)
    with pytest.raises(SettingsError, match=r"replay-1 reads the archive.*`--source kafka`"):
        world.jobs().submit_scripts({"replay-1": script}, print)
    assert world.submitter.requests == []


def test_a_job_is_not_asked_to_begin_anew_from_a_savepoint(world):
    with pytest.raises(SettingsError, match=r"--from .* --anew"):
        world.jobs().submit([NAME], print, "savepoint-abcdef-1", anew=True)


def test_a_job_of_which_nobody_knows_how_it_began_does_not_take_another_script(world):
    world.begin()
    readings = {source.name: Reading("t", {0: (9, 20)}) for source in world.job.sources}
    world.jobs().restart(world.job, restart_sql(world.job, 10**12, readings), print)
    world.jobs().stop([NAME], print)
    world.declare(stricter(world.job))
    with pytest.raises(FlinkError, match=r"what it reads or how has changed\..*replay run"):
        world.jobs().submit([NAME], print)


def test_the_archives_job_goes_on_from_its_state_wherever_it_once_began(world):
    name = "flights-archive"
    job = world.jobs().find(name)
    resumed = resumed_sql(job, {one.name: Reading("t", {0: (9, 20)}) for one in job.sources})
    world.jobs().submit([name], print)
    for what, text in (("sql", resumed), ("declared.sql", stricter(job))):
        (world.settings.state / "jobs" / f"{name}.{what}").write_text(text, "utf-8")
    assert world.jobs().is_changed(job)
    assert world.jobs().changes(job) == []


def test_an_upgrade_submits_a_job_that_is_as_declared_and_was_lost(world):
    checkpoint = world.begin()
    assert upgrade(world) == []
    world.flink.lose()
    assert upgrade(world) == [NAME]
    assert world.submitter.requests[-1]["configuration"][RECOVERY] == str(checkpoint)
    assert [job["name"] for job in world.submitter.requests] == [NAME, NAME]


@pytest.mark.parametrize("followed", [True, False])
def test_what_a_job_wrote_past_a_replay_that_followed_counts_no_more_where_it_begins_anew(
    world, monkeypatch, followed
):
    world.begin()
    world.declare(wider(world.job))
    plans = [
        SourcePlan(source.name, "t", [], 0, {}, None, {0: (0, 9)}, 9, 9, "")
        for source in world.job.sources
    ]
    monkeypatch.setattr(Planner, "sources", lambda *_: plans)
    forgotten = []

    def forget(_, replay, views, since):
        assert NAME not in world.jobs().running()
        forgotten.append(([view.name for view in views], since))

    monkeypatch.setattr(Handover, "_forget", forget)
    there = Handover(Context(world.settings, repository), None, None, None)
    ends = {VIEW: 7} if followed else {}
    replay = Replay("0001", (VIEW,), 0, None if followed else 7, state="promoted", ends=ends)
    assert there.upgrade(replay, print) == [NAME]
    assert forgotten == ([([VIEW], 7)] if followed else [])


@pytest.fixture
def begins_anew(world, monkeypatch):
    """Brings a job that runs, and has written, up to date with no state, past a replay."""
    world.begin()
    plans = [
        SourcePlan(source.name, "t", [], 0, {}, None, {0: (0, 9)}, 9, 9, "")
        for source in world.job.sources
    ]
    monkeypatch.setattr(Planner, "sources", lambda *_: plans)
    there = Context(world.settings, repository)
    create_tables(there.tables, world.job.views)
    table = there.tables.load_table(f"features.{VIEW}")
    of_job = {"flink.job-id": "c0ffee", "flink.max-committed-checkpoint-id": "7"}
    table.append(table.schema().as_arrow().empty_table(), snapshot_properties=of_job)
    replay = Replay("0001", (VIEW,), 0, None, state="promoted", ends={VIEW: 7})
    return lambda: Handover(there, None, None, None).upgrade(replay, print, anew=True)


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_no_job_goes_on_over_tables_that_a_broken_upgrade_has_cut(
    world, begins_anew, monkeypatch, stopped
):
    """The old state has read what is cut; the same command does the rest."""
    savepoint = world.flink.savepoints
    if stopped:
        world.jobs().stop([NAME], print)
        (savepoint,) = (world.settings.state / "savepoints").iterdir()
    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(Handover, "_forget", lambda *_: _away())
        begins_anew()
    for named in (None, str(savepoint)):
        with pytest.raises(BrokenOff, match=r"`headwater replay promote \d+ --anew` finishes it"):
            world.jobs().submit([NAME], print, named)
    # Nor is it finished for another replay, which would take out and write again less.
    with pytest.raises(BrokenOff, match="replay promote 0001 --anew"):
        upgrade(world, "0002")
    assert not world.jobs().goes_on(world.job)
    assert world.jobs().was_submitted(world.job)
    assert world.jobs().running() == {}
    monkeypatch.setattr(Handover, "_forget", lambda *_: None)
    assert begins_anew() == [NAME]
    assert world.jobs().goes_on(world.job)
    assert RECOVERY not in world.submitter.requests[-1]["configuration"]
    world.jobs().stop([NAME], print)
    world.jobs().submit([NAME], print)
    assert "event_time` >= TO_TIMESTAMP_LTZ(7, 3)" in world.submitter.requests[-1]["sql"]


def test_a_broken_upgrade_leaves_no_state_of_a_submission_that_was_killed_before(
    world, begins_anew, monkeypatch
):
    world.flink.lose()
    killed(world, True, world.jobs().submit, [NAME])
    world.checkpoint(world.jobs().running()[NAME].id)
    monkeypatch.setattr(Jobs, "settled", lambda jobs, _: jobs.running())  # it is so just now
    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(Handover, "_forget", lambda *_: _away())
        begins_anew()
    with pytest.raises(BrokenOff, match="was to begin anew when that broke off"):
        world.jobs().submit([NAME], print)


def _away():
    raise ConnectionError("Redis went away")


def test_nobody_submits_a_job_whose_tables_an_upgrade_cuts(world, begins_anew, monkeypatch):
    told, others = Told(), []
    with ThreadPoolExecutor() as pool:

        def forget(*_):
            others.append(pool.submit(world.jobs().submit, [NAME], told))
            assert told.wait(10)
            assert world.jobs().running() == {}

        monkeypatch.setattr(Handover, "_forget", forget)
        assert begins_anew() == [NAME]
        others[0].result(30)
    assert told.texts[0].startswith("waits for another command")
    assert told.texts[-1] == f"{NAME} runs already (RUNNING)"


def test_an_upgrade_that_is_killed_is_done_by_the_next(world):
    world.begin()
    world.declare(stricter(world.job))
    world.submitter.kill = False
    with pytest.raises(Killed):
        upgrade(world)
    world.submitter.kill = None
    assert upgrade(world) == [NAME]
    assert NAME in world.jobs().running()
    assert upgrade(world) == []


def test_a_job_of_captured_tables_begins_anew_with_all_changes_whatever_their_event_times(
    world, monkeypatch
):
    """A row that comes tomorrow may be true since last year."""
    name, view = "flights-tables", "aircraft_facts"
    job = world.jobs().find(name)
    world.jobs().submit([name], print)
    narrower = job_sql(job).replace("`after`.`seats` AS `seats`", "`after`.`engines` AS `seats`")
    (world.settings.state / "jobs" / f"{name}.declared.sql").write_text(narrower, "utf-8")
    source = SourcePlan("planes", "t", [], None, {}, None, {0: (0, 9)}, 9, 9, "")
    monkeypatch.setattr(Planner, "sources", lambda *_: [source])
    replay = Replay("0001", (view,), 0, 1_000, state="promoted")
    there = Handover(Context(world.settings, repository), None, None, None)
    assert there.upgrade(replay, print) == [name]
    assert [asked["sql"] for asked in world.submitter.requests] == [job_sql(job)] * 2
    assert RECOVERY not in world.submitter.requests[-1]["configuration"]


def test_a_job_whose_stop_was_killed_goes_on_from_the_savepoint_that_flink_made(world, monkeypatch):
    checkpoint = world.begin()
    savepoint = world.stop_is_killed(monkeypatch, world.jobs().stop, [NAME], print)
    assert not world.kept("savepoint").exists()
    shutil.rmtree(checkpoint)  # as Flink does it once a job has ended well
    world.jobs().submit([NAME], print)
    assert world.submitter.requests[-1]["configuration"][RECOVERY] == savepoint


def test_of_a_checkpoint_and_a_savepoint_of_a_lost_job_the_newer_one_counts(world, monkeypatch):
    checkpoint = world.begin()
    savepoint = world.stop_is_killed(monkeypatch, world.jobs().stop, [NAME], print)
    world.flink.lose()
    for made, newer in ((1, savepoint), (3, str(checkpoint))):
        os.utime(checkpoint / "_metadata", (made, made))
        os.utime(Path(savepoint) / "_metadata", (2, 2))
        assert world.jobs()._last(world.job) == newer


def test_an_upgrade_that_is_killed_while_it_stops_a_job_is_done_by_the_next(world, monkeypatch):
    checkpoint = world.begin()
    world.declare(stricter(world.job))
    savepoint = world.stop_is_killed(monkeypatch, upgrade, world)
    shutil.rmtree(checkpoint)
    assert upgrade(world) == [NAME]
    assert world.submitter.requests[-1]["configuration"][RECOVERY] == savepoint


def columns(world, name):
    table = Context(world.settings, repository).tables.load_table(name)
    return {field.name for field in table.schema().fields}


def test_an_upgrade_widens_every_table_that_its_jobs_write_before_it_stops_any(world, monkeypatch):
    """Of the views that were not replayed, too, and of the archive."""
    world.begin()
    world.declare(stricter(world.job))
    tables = Context(world.settings, repository).tables
    other = next(view for view in world.job.views if view.name != VIEW and view.schema[1:])
    stream = world.job.sources[0]
    create_tables(
        tables,
        [other.only(other.schema[0].name)],
        [replace(stream, columns=stream.columns[:-1], expectations=())],
    )
    found = []

    def stop(jobs, names, report):
        found.append(columns(world, f"features.{other.name}"))
        found.append(columns(world, f"raw.{stream.name}"))

    monkeypatch.setattr(Jobs, "stop", stop)
    upgrade(world)
    assert found[0] >= {column.name for column in other.schema}
    assert found[1] >= {column.name for column in stream.columns}


def test_an_upgrade_to_what_a_table_cannot_take_stops_nothing(world):
    world.begin()
    world.declare(stricter(world.job))
    other = next(view for view in world.job.views if view.name != VIEW)
    more = replace(other, features=(*other.features, Feature("gone", count(), None)))
    create_tables(Context(world.settings, repository).tables, [more])
    with pytest.raises(TableMismatch, match=rf"{other.name}\.gone: .* no longer declared"):
        upgrade(world)
    assert NAME in world.jobs().running()
    assert not world.kept("savepoint").exists()


OTHERS = ("flights_eu-departures", "shop-departures", "replay-0001-flights-departures")
"""Jobs of other repositories, and of a replay."""


def add_undeclared(world):
    """A job of a stream that was renamed, beside those of others."""
    for number, name in enumerate(("flights-tickets", *OTHERS)):
        world.flink.add(f"{number}" * 32, name)


def list_jobs(world, monkeypatch, *arguments):
    monkeypatch.setenv("HEADWATER_STATE", str(world.settings.state))
    monkeypatch.setenv("HEADWATER_FLINK_PORT", str(world.settings.ports.flink))
    return CliRunner().invoke(headwater, ["jobs", "list", *arguments])


def test_a_job_that_is_declared_no_more_is_listed_and_no_others(world, monkeypatch):
    world.jobs().submit([], print)
    assert list_jobs(world, monkeypatch).exit_code == 0
    add_undeclared(world)
    done = list_jobs(world, monkeypatch)
    assert done.exit_code == 1
    gone = "flights-tickets is no longer declared: `headwater jobs stop flights-tickets` ends it"
    assert done.output.splitlines()[-1] == gone
    assert not any(name in done.output for name in OTHERS)
    told = json.loads(list_jobs(world, monkeypatch, "--json").output)
    assert [job["name"] for job in told if not job["declared"]] == ["flights-tickets"]
    assert len(told) == 1 + len(world.jobs().known)


def test_a_job_that_is_declared_no_more_is_stopped_and_no_others(world):
    world.begin()
    add_undeclared(world)
    told = Told()
    world.jobs().submit([NAME], told)
    assert "flights-tickets runs and is no longer declared" in told.texts[-1]
    for name in (*OTHERS, "flights-tockets"):
        with pytest.raises(SettingsError, match=f"no job '{name}'; choices: .*flights-tickets"):
            world.jobs().stop([NAME, name], print)
    assert NAME in world.jobs().running()
    world.jobs().stop(["flights-tickets"], told)
    assert told.texts[-1].startswith("flights-tickets is stopped; savepoint file:")
    world.jobs().stop([], print)
    assert {job.name for job in world.jobs().cluster.jobs()} == set(OTHERS)
    # Should it be declared again, it goes on from there.
    assert (world.settings.state / "jobs" / "flights-tickets.savepoint").exists()


def test_jobs_that_are_refused_keep_no_other_from_being_submitted(world):
    """One whose state does not fit, and one whose last checkpoint somebody has deleted."""
    checkpoint = world.begin()
    world.jobs().submit([], print)
    other = "flights-arrivals"
    lost = world.checkpoint(world.jobs().running()[other].id)
    world.flink.lose()
    world.declare(wider(world.job))
    (lost / "_metadata").write_bytes(b"")
    mismatch = rf"{NAME} cannot go on from its savepoint: .*replay run"
    with pytest.raises(HeadwaterError, match=rf"(?s)chk-7: no savepoint.*\n{mismatch}") as raised:
        world.jobs().submit([other, NAME, *world.jobs().known], print)
    assert raised.value.exit_code == 2
    assert world.jobs().running().keys() == world.jobs().known.keys() - {NAME, other}
    world.declare(job_sql(world.job))
    with pytest.raises(NoSavepoint, match="chk-7: no savepoint"):
        world.jobs().submit([], print)
    assert world.jobs().running().keys() == world.jobs().known.keys() - {other}
    assert world.submitter.requests[-1]["configuration"][RECOVERY] == str(checkpoint)


def test_a_job_that_is_refused_is_told_though_the_others_cannot_be_submitted(world, monkeypatch):
    world.begin()
    world.flink.lose()
    world.declare(wider(world.job))

    def submitted(*_):
        raise FlinkError("a job was not submitted")

    monkeypatch.setattr(module, "submitted", submitted)
    wanted = r"(?s)cannot go on from its savepoint.*\na job was not submitted"
    with pytest.raises(HeadwaterError, match=wanted) as raised:
        world.jobs().submit([], print)
    assert raised.value.exit_code == 2
    world.declare(job_sql(world.job))
    with pytest.raises(FlinkError, match="a job was not submitted") as raised:
        world.jobs().submit([], print)
    assert raised.value.exit_code == 1


def test_a_job_that_cannot_be_stopped_keeps_no_other_from_it_and_can_be_cancelled(world):
    checkpoint = world.begin()
    world.jobs().submit([], print)
    world.flink.refusing = {NAME}
    told = Told()
    wanted = rf"{NAME} has no savepoint\. `headwater jobs stop --cancel {NAME}` ends what cannot"
    with pytest.raises(FlinkError, match=wanted):
        world.jobs().stop([], told)
    others = world.jobs().known.keys() - {NAME}
    assert world.jobs().running().keys() == {NAME}
    assert {text.split()[0] for text in told.texts if "is stopped; savepoint" in text} == others
    world.jobs().stop([NAME, *others], told, cancel=True)
    assert world.jobs().running() == {}
    world.jobs().submit([NAME], print)
    assert world.submitter.requests[-1]["configuration"][RECOVERY] == str(checkpoint)


def test_a_job_that_runs_by_an_older_declaration_is_told_of(world, monkeypatch):
    world.jobs().submit([], print)
    world.declare(wider(world.job))
    told = Told()
    world.jobs().submit([NAME], told)
    older = "by an older declaration: `headwater plan` says how it comes to the new one"
    assert told.texts == [f"{NAME} runs already (RUNNING), {older}"]
    done = list_jobs(world, monkeypatch)
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, f"{NAME} runs {older}")
    jobs = json.loads(list_jobs(world, monkeypatch, "--json").output)
    assert [job["name"] for job in jobs if job["older"]] == [NAME]


class Told(Event):
    """Set when a command says that it waits, or that it has nothing to do."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def __call__(self, text):
        self.texts.append(text)
        self.set()


def test_of_two_commands_that_submit_a_job_the_second_waits_and_finds_it(world, monkeypatch):
    begun, told = Event(), Told()

    def slowly(*given):
        begun.set()
        told.wait(10)
        yield from world.submitter.submitted(*given)

    monkeypatch.setattr(module, "submitted", slowly)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(world.jobs().submit, [NAME], print)
        assert begun.wait(10)
        second = pool.submit(world.jobs().submit, [NAME], told)
        first.result(30)
        second.result(30)
    assert len(world.submitter.requests) == 1
    assert told.texts == [
        "waits for another command, which submits or stops jobs",
        f"{NAME} runs already (RUNNING)",
    ]


def test_a_job_that_is_submitted_for_a_killed_command_is_waited_for(world, monkeypatch):
    told, files = Told(), []

    def inherited(settings, request, held):
        files.extend(os.dup(file) for file in held)  # as whoever submits for it has them
        raise Killed

    monkeypatch.setattr(module, "submitted", inherited)
    with pytest.raises(Killed):
        world.jobs().submit([NAME], print)
    monkeypatch.setattr(module, "submitted", world.submitter.submitted)
    with ThreadPoolExecutor() as pool:
        second = pool.submit(world.jobs().submit, [NAME], told)
        assert told.wait(10)
        world.flink.add("0" * 32, NAME)
        for file in files:
            os.close(file)
        second.result(30)
    assert world.submitter.requests == []
    assert told.texts[-1] == f"{NAME} runs already (RUNNING)"
