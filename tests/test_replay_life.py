"""What may be done with a replay when: beside live jobs, beside others, and days later."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from pyiceberg.types import StringType

from connectors.promotion import switch_key
from connectors.redis_codec import entity_key
from feature_repo.flights.repository import repository
from flink_jobs.rest import FlinkError
from flink_jobs.sql import job_sql, jobs
from headwater.cli import headwater
from headwater.commands import replay as commands
from headwater.locks import Busy
from headwater.refusals import Refusals
from headwater.replays import holdings, journal, live, run
from headwater.replays import promote as promotion
from headwater.replays.context import Context
from headwater.replays.jobs import ReplayJobs
from headwater.replays.journal import Journal, Replay
from headwater.replays.plan import Planner, ReplayError, SourcePlan, Wanted
from headwater.replays.promote import promote
from headwater.replays.run import Replays
from headwater.replays.values import PromotionError, Values
from headwater.settings import Settings
from iceberg.archive import SnapshotGone
from iceberg.catalog import TableMismatch, create_tables, empty_branch
from iceberg.maintenance import Care, expire
from iceberg.together import CommitError
from schemas import SettingsError
from tests.conftest import ROOT
from tests.flink import listening
from tests.test_promote import (
    AIRCRAFT,
    END,
    NEW,
    OLD,
    START,
    VIEWS,
    World,
    all_of,
    holds,
    no_readers,
    server,
)

__all__ = ["no_readers", "server"]

JOB = "flights-arrivals"


class Flink:
    """A cluster's REST API, as far as replays ask it."""

    def __init__(self):
        self.jobs = {}
        """Name of a job, and by view the watermarks it tells, one each time; the last one stays."""
        self.checkpoints = 0
        self.status = 200

    def answer(self, method, path, _):
        """What it says to a request."""
        match (method, path.strip("/").split("/")[1:]):
            case ("GET", ["overview"]):
                return {
                    "jobs": [
                        {"jid": name, "name": name, "state": "RUNNING", "start-time": 1}
                        for name in self.jobs
                    ]
                }
            case ("GET", [job]):
                names = [{"id": view, "name": f"redis {view}: Writer"} for view in self.jobs[job]]
                return {"jid": job, "vertices": names}
            case ("GET", [job, "vertices", view, "watermarks"]):
                marks = self.jobs[job][view]
                mark = marks.pop(0) if len(marks) > 1 else marks[0]
                return [] if mark is None else [{"value": str(mark)}]
            case ("POST", [_, "checkpoints"]):
                self.checkpoints += 1
                return {"request-id": "t"}
            case ("GET", [_, "checkpoints"]):
                return {"latest": {"completed": {"id": self.checkpoints}, "restored": None}}
            case ("GET", [_, "checkpoints", "t"]):
                done = {"checkpointId": self.checkpoints}
                return {"status": {"id": "COMPLETED"}, "operation": done}
        raise AssertionError((method, path))


@pytest.fixture
def flink():
    with listening(Flink()) as found:
        yield found


@pytest.fixture
def world(tmp_path, server):
    return World(tmp_path / "world", server)


@pytest.fixture
def replays(world, flink):
    return opened(world, flink)


def opened(world, flink, repository=repository):
    """The replays as a command of its own has them."""
    settings = SimpleNamespace(
        state=world.folder,
        flink_url=flink.url,
        catalog_url=lambda: str(world.catalog.engine.url),
        warehouse=str(world.folder),
        kafka_access=None,
        redis_url=f"redis://127.0.0.1:{world.client.connection_pool.connection_kwargs['port']}",
    )
    return Replays(settings, repository)


@pytest.fixture
def brief(monkeypatch):
    """Nobody waits long."""
    monkeypatch.setattr(live, "_PASS_SECONDS", 0)
    monkeypatch.setattr(live, "_AGAIN_SECONDS", 0)


def at(*marks):
    """A live job that computes the views, and has come there."""
    return {JOB: {view.name: list(marks) for view in VIEWS}}


def cut_live(world):
    """Live has no row of the replay's end or later."""
    for view in VIEWS:
        table = world.catalog.load_table(f"features.{view.name}")
        table.delete("event_time >= '2013-01-01T13:00:00+00:00'")


def test_a_span_that_has_not_come_yet_is_not_planned():
    end = int(time.time() * 1000) + 3_600_000
    wanted = Wanted(("aircraft_delays",), START, end, {})
    with pytest.raises(SettingsError, match=r"--to: 2\S+ has not come yet; leave --to out"):
        Planner(repository, None, None).sources(wanted)


def test_what_begins_in_the_future_is_not_followed_until_then():
    start = int(time.time() * 1000) + 3_600_000
    for end in (None, start + 1):
        with pytest.raises(SettingsError, match=r"--from: 2\S+ has not come yet"):
            Planner(repository, None, None).sources(Wanted(("aircraft_delays",), start, end, {}))


def test_a_captured_table_is_not_followed_since_nothing_says_where_that_ends(replays, world):
    wanted = Wanted(("aircraft_delays", "aircraft_facts"), START, None, {})
    for begin in (replays.plan, lambda wanted: replays.start(wanted, print)):
        with pytest.raises(SettingsError, match=r"^--to: needed for aircraft_facts: .* watermark"):
            begin(wanted)
    assert world.journal.all() == [world.replay]


def test_a_replay_is_not_promoted_where_live_has_not_come_to_its_end(replays, flink, world, brief):
    flink.jobs = at(END - 2)
    with pytest.raises(ReplayError, match=f"live has not come there: {JOB} is at 2013-01-01T12:59"):
        replays.promote(world.replay, print)
    assert world.journal.find("0001").state == "done"
    holds(world, OLD)
    flink.jobs = at(END - 1)
    replays.promote(world.replay, print)
    holds(world, NEW)
    assert flink.checkpoints == 0, "rows after the end are committed"


def test_a_replay_of_whose_span_more_has_come_since_is_not_promoted(
    replays, flink, world, monkeypatch
):
    def came(_, replay, end):
        assert said, "live has been waited for"
        raise ReplayError(f"{replay.id} {end}")

    flink.jobs = at(END - 2, END - 1)
    monkeypatch.setattr(live, "_AGAIN_SECONDS", 0)
    monkeypatch.setattr(run, "check_whole", came)
    said = []
    with pytest.raises(ReplayError, match=f"0001 {END}"):
        replays.promote(world.replay, said.append)
    assert world.journal.find("0001").state == "done"
    holds(world, OLD)


def test_live_is_waited_for(replays, flink, world, monkeypatch):
    monkeypatch.setattr(live, "_AGAIN_SECONDS", 0)
    flink.jobs = at(START, START, END - 2, END)
    said = []
    replays.promote(world.replay, said.append)
    assert [text.split(" is at ")[1][11:] for text in said] == [
        "11:00:00+00:00",
        "12:59:59.998000+00:00",
    ]
    holds(world, NEW)


def test_what_live_has_let_out_is_committed_before_a_promotion(replays, flink, world, brief):
    cut_live(world)
    flink.jobs = at(END)
    replays.promote(world.replay, print)
    assert flink.checkpoints == 2


def test_a_live_job_that_reads_nothing_since_it_started_again_is_judged_by_its_rows(
    replays, flink, world, brief
):
    flink.jobs = at(None)
    replays.promote(world.replay, print)
    holds(world, NEW)
    replays.roll_back(world.journal.find("0001"), print)
    cut_live(world)
    with pytest.raises(ReplayError, match=f"{JOB} has no watermark yet"):
        replays.promote(world.journal.find("0001"), print)


def test_of_a_cluster_that_does_not_answer_the_tables_tell(replays, flink, world, brief):
    flink.status = 503
    replays.promote(world.replay, print)
    holds(world, NEW)
    replays.roll_back(world.journal.find("0001"), print)
    cut_live(world)
    with pytest.raises(FlinkError):
        replays.promote(world.journal.find("0001"), print)


@pytest.mark.parametrize("jobs", [{}, {JOB: {"another_view": [START]}}])
def test_who_does_not_compute_the_view_is_not_waited_for(replays, flink, world, brief, jobs):
    flink.jobs = jobs
    replays.promote(world.replay, print)
    holds(world, NEW)


def was_submitted(world, sql):
    """Flink has had the live job, with that script as it was declared."""
    folder = world.folder / "jobs"
    folder.mkdir()
    for kept in ("declared.sql", "sql"):
        (folder / f"{JOB}.{kept}").write_text(sql, "utf-8")
    (folder / f"{JOB}.json").write_text('{"id": "live", "from": null}', "utf-8")


DECLARED = job_sql(next(job for job in jobs(repository) if job.name == JOB))


def test_a_live_job_that_does_not_run_is_to_come_to_the_end_first(replays, world, brief):
    """It would go on from where it was, and write over what is promoted."""
    was_submitted(world, DECLARED)
    cut_live(world)
    with pytest.raises(ReplayError, match=f"{JOB} does not run: `headwater jobs submit {JOB}`"):
        replays.promote(world.replay, print)
    assert world.journal.find("0001").state == "done"
    for view in VIEWS:
        world.append(view, OLD, "main", (2,))
    replays.promote(world.journal.find("0001"), print)
    holds(world, NEW)


def test_a_live_job_that_cannot_go_on_from_where_it_was_is_not_waited_for(replays, world, brief):
    was_submitted(world, DECLARED.replace("CREATE VIEW rolled.`aircraft", "CREATE VIEW rolled.`a"))
    cut_live(world)
    replays.promote(world.replay, print)
    assert world.journal.find("0001").state == "promoted"


def test_a_live_job_that_starts_is_waited_for(replays, flink, world, brief):
    """Flink names no tasks of it yet."""
    cut_live(world)
    flink.jobs = {JOB: {}}
    with pytest.raises(ReplayError, match=f"{JOB} has no watermark yet"):
        replays.promote(world.replay, print)


def test_a_live_job_that_starts_again_before_it_has_committed_is_seen(replays, flink, world, brief):
    cut_live(world)
    flink.jobs = at(END, START)
    with pytest.raises(ReplayError, match=f"{JOB} is at 2013-01-01T11:00.*try again"):
        replays.promote(world.replay, print)
    assert flink.checkpoints == 2
    assert world.journal.find("0001").state == "done"


def six_days_on(world):
    """What is left after live went on for a while and the tables were cared for at night."""
    for hour in (3, 4, 5):
        for view in VIEWS:
            world.append(view, {"count_1d": 9, "dest": "OAK"}, "main", (hour,))
    for view in VIEWS:
        now = datetime.now(UTC) + timedelta(days=6)
        assert expire(world.catalog, f"features.{view.name}", Care(), now)


def refs_of(world, view):
    return set(world.catalog.load_table(f"features.{view.name}").refs())


def test_a_promotion_can_be_undone_after_the_tables_were_cared_for(replays, world):
    replays.promote(world.replay, print)
    six_days_on(world)
    replays.roll_back(world.journal.find("0001"), print)
    for view in VIEWS:
        within = world.replay.within(view.name)
        table = world.catalog.load_table(f"features.{view.name}")
        values = table.scan(row_filter=within).to_arrow()[view.schema[0].name].to_pylist()
        assert values == [OLD[view.schema[0].name]] * 3
        assert refs_of(world, view) == {"main", "empty", "replay_0001"}


def test_a_promotion_that_is_dropped_leaves_no_tag(replays, world):
    replays.promote(world.replay, print)
    replays.drop(world.journal.find("0001"))
    assert refs_of(world, VIEWS[0]) == {"main", "empty"}


@pytest.mark.parametrize("prune", [False, True])
def test_of_a_replay_that_is_half_dropped_nothing_else_comes(replays, world, monkeypatch, prune):
    """Its tables could go back, and its values in Redis no more."""
    world.journal.write(replace(world.replay, begun="2013-01-01T00:00:00+00:00"))
    replays.promote(world.journal.find("0001"), print)
    with monkeypatch.context() as patch:
        patch.setattr(holdings.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            replays.drop(world.journal.find("0001"))
    half = world.journal.find("0001")
    for command in (replays.roll_back, replays.promote, replays.resume, replays.pause):
        with pytest.raises(ReplayError, match="replay 0001 is dropping: "):
            command(half, print)
    holds(world, NEW)
    if prune:
        assert [one.id for one in pruned(replays, 0, dry=False)] == ["0001"]
    else:
        replays.drop(half)
    assert world.journal.all() == []
    holds(world, NEW)


def test_what_cannot_be_undone_stays_promoted(replays, world):
    replays.promote(world.replay, print)
    for view in VIEWS:
        table = world.catalog.load_table(f"features.{view.name}")
        table.manage_snapshots().remove_tag("promoted_replay_0001").commit()
    six_days_on(world)
    with pytest.raises(PromotionError, match="the rows from before replay 0001"):
        replays.roll_back(world.journal.find("0001"), print)
    assert world.journal.find("0001").state == "promoted"


def test_a_promotion_that_is_refused_changes_nothing(world):
    class NoSql:
        load_table = world.catalog.load_table

    def refused(catalog, error):
        with pytest.raises(error):
            promote(world.journal, catalog, world.client, "flights", VIEWS, world.replay)
        assert world.journal.find("0001").state == "done"
        holds(world, OLD)

    refused(NoSql(), CommitError)
    table = world.catalog.load_table(f"features.{VIEWS[1].name}")
    table.manage_snapshots().remove_branch("replay_0001").commit()
    refused(world.catalog, PromotionError)


def pruned(replays, seconds, dry=False):
    """What `prune` has freed; it refuses nothing."""
    refusals = Refusals()
    freed = replays.prune(seconds, dry, refusals)
    refusals.tell()
    return freed


def another(world, id_, start=START, end=END, value=7):
    """A second replay of the same views, done, with a value of its own at noon."""
    names = tuple(view.name for view in VIEWS)
    replay = world.journal.write(Replay(id_, names, start, end, state="done"))
    values = {"count_1d": value, "dest": str(value)}
    for view in VIEWS:
        table = world.catalog.load_table(f"features.{view.name}")
        empty_branch(table, replay.branch)
        world.append(view, values, replay.branch, ((start - START) // 3_600_000,))
        world.write(view, values, f"flights~{id_}", (start - START) // 3_600_000)
    return replay, values


def test_promotions_are_rolled_back_newest_first(replays, world):
    second, values = another(world, "0002")
    replays.promote(world.replay, print)
    replays.promote(second, print)
    with pytest.raises(PromotionError, match="0002 was promoted on top of 0001: roll it back"):
        replays.roll_back(world.journal.find("0001"), print)
    assert world.journal.find("0001").state == "promoted"
    holds(world, values)
    replays.roll_back(world.journal.find("0002"), print)
    holds(world, NEW)
    replays.roll_back(world.journal.find("0001"), print)
    holds(world, OLD)
    # The other way about, it is the other one that waits.
    replays.promote(world.journal.find("0002"), print)
    replays.promote(world.journal.find("0001"), print)
    with pytest.raises(PromotionError, match="0001 was promoted on top of 0002"):
        replays.roll_back(world.journal.find("0002"), print)


def test_what_lies_beneath_a_promotion_that_was_dropped_stays(replays, world):
    second, values = another(world, "0002")
    replays.promote(world.replay, print)
    replays.promote(second, print)
    replays.drop(world.journal.find("0002"))
    with pytest.raises(PromotionError, match=r"0002 .* has been dropped: its values stay"):
        replays.roll_back(world.journal.find("0001"), print)
    holds(world, values)


def test_a_promotion_of_an_earlier_span_does_not_keep_another_from_being_undone(replays, world):
    earlier, _ = another(world, "0002", START - 4 * 3_600_000, START)
    replays.promote(world.replay, print)
    replays.promote(earlier, print)
    replays.roll_back(world.journal.find("0001"), print)
    assert world.journal.find("0001").state == "rolled back"
    holds(world, OLD)


def test_what_an_earlier_span_was_promoted_to_is_online_once_the_later_one_is_taken_back(
    replays, world, monkeypatch
):
    """A view's history was computed newest part first, and live has nothing of it yet."""
    for tailnum in AIRCRAFT:
        world.client.delete(entity_key("flights", VIEWS[0].entities, {"tailnum": tailnum}))
    earlier, values = another(world, "0002", START - 4 * 3_600_000, START)
    replays.promote(world.replay, print)
    replays.promote(earlier, print)
    assert world.online() == all_of(NEW, encoded=True)
    with monkeypatch.context() as patch:
        patch.setattr(Values, "roll_back", killed)
        with pytest.raises(KeyboardInterrupt):
            replays.roll_back(world.journal.find("0001"), print)
    replays.roll_back(world.journal.find("0001"), print)
    assert world.online() == all_of(values, encoded=True)
    replays.roll_back(world.journal.find("0002"), print)
    assert world.online() == all_of(dict.fromkeys(OLD))


@pytest.mark.parametrize("half", [False, True])
def test_an_earlier_span_that_was_dropped_keeps_no_other_from_being_undone(
    replays, world, monkeypatch, half
):
    earlier, _ = another(world, "0002", START - 4 * 3_600_000, START)
    replays.promote(world.replay, print)
    replays.promote(earlier, print)
    if half:
        world.journal.set_state(world.journal.find("0002"), "dropping")
    else:
        replays.drop(world.journal.find("0002"))
    with monkeypatch.context() as patch:
        patch.setattr(Values, "roll_back", killed)
        with pytest.raises(KeyboardInterrupt):
            replays.roll_back(world.journal.find("0001"), print)
    replays.roll_back(world.journal.find("0001"), print)
    holds(world, OLD)


def test_what_an_older_version_promoted_can_be_rolled_back(replays, world):
    replays.promote(world.replay, print)
    for view in VIEWS:
        table = world.catalog.load_table(f"features.{view.name}")
        told = " ".join(table.properties["headwater.replay.0001"].split()[:3])
        table.transaction().set_properties({"headwater.replay.0001": told}).commit_transaction()
    second, _ = another(world, "0002")
    replays.promote(second, print)
    with pytest.raises(PromotionError, match="0002 was promoted on top of 0001"):
        replays.roll_back(world.journal.find("0001"), print)
    replays.roll_back(world.journal.find("0002"), print)
    replays.roll_back(world.journal.find("0001"), print)
    holds(world, OLD)


@pytest.fixture
def at_once(monkeypatch):
    """Nobody waits for another command."""
    monkeypatch.setattr(journal, "_WAIT_SECONDS", 0)


def meanwhile(monkeypatch, module, name, other):
    """Have `other` happen once, when somebody calls that function, before it does anything."""
    call = getattr(module, name)
    left = [other]

    def called(*arguments, **more):
        if left:
            left.pop()()
        return call(*arguments, **more)

    monkeypatch.setattr(module, name, called)


def test_a_replay_that_is_being_dropped_is_not_promoted(
    replays, world, flink, monkeypatch, at_once
):
    stale = world.journal.find("0001")

    def promote_it():
        with pytest.raises(Busy, match=r"^replay 0001: `headwater replay drop`, process \d+ of "):
            opened(world, flink).promote(stale, print)

    meanwhile(monkeypatch, holdings, "drop_branch", promote_it)
    replays.drop(stale)
    holds(world, OLD)
    with pytest.raises(SettingsError, match="no replay '0001'"):
        replays.promote(stale, print)
    with pytest.raises(SettingsError, match="no replay '0001'"):
        replays.resume(replace(stale, state="paused"), print)


def test_prune_leaves_what_was_promoted_since_it_looked(replays, world, flink, monkeypatch):
    second, values = another(world, "0002")
    for one in (world.replay, second):
        world.journal.write(replace(one, begun="2013-01-01T00:00:00+00:00"))
    other = opened(world, flink)
    promote_it = lambda: other.promote(world.journal.find("0002"), print)  # noqa: E731
    meanwhile(monkeypatch, holdings, "drop_branch", promote_it)
    assert [one.id for one in pruned(replays, 0, dry=False)] == ["0001"]
    holds(world, values)
    assert world.journal.find("0002").state == "promoted"
    other.roll_back(world.journal.find("0002"), print)
    holds(world, OLD)


@pytest.mark.parametrize("both", [False, True])
def test_a_replay_whose_table_is_gone_is_dropped_and_pruned(replays, world, both):
    for view in VIEWS[: 2 if both else 1]:
        world.catalog.drop_table(f"features.{view.name}")
    world.journal.write(replace(world.replay, begun="2013-01-01T00:00:00+00:00"))
    assert [one.id for one in pruned(replays, 0, dry=True)] == ["0001"]
    (freed,) = pruned(replays, 0)
    assert freed.redis_keys == len(AIRCRAFT)
    assert world.journal.all() == []
    if not both:
        assert refs_of(world, VIEWS[1]) == {"main", "empty"}


def test_a_replay_that_cannot_be_dropped_keeps_prune_from_no_other(replays, world, monkeypatch):
    second, _ = another(world, "0002")
    for one in (world.replay, second):
        world.journal.write(replace(one, begun="2013-01-01T00:00:00+00:00"))
    drop = Replays.drop

    def refused(self, replay):
        if replay.id == "0001":
            raise ReplayError("replay 0001: its jobs do not end; try again")
        return drop(self, replay)

    monkeypatch.setattr(Replays, "drop", refused)
    monkeypatch.setattr(commands, "_replays", lambda: replays)
    done = CliRunner().invoke(headwater, ["replay", "prune", "--older-than", "0"])
    assert "replay 0002 (done) dropped: " in done.output
    assert (str(done.exception), done.exit_code) == (
        "replay 0001: its jobs do not end; try again",
        1,
    )
    assert [one.id for one in world.journal.all()] == ["0001"]


def without(*views):
    """The repository as it is once those views are declared no more."""
    names = [view.name for view in views]
    left = tuple(view for view in repository.views if view.name not in names)
    return replace(repository, views=left, services=())


@pytest.mark.parametrize("gone", [1, 2], ids=["one view", "all"])
def test_a_replay_of_a_view_that_is_declared_no_more_is_not_half_promoted(
    replays, world, flink, gone
):
    others = opened(world, flink, without(*VIEWS[:gone]))
    told = f"replay 0001 is of .*{VIEWS[0].name}.*the repository flights does not declare"
    following = replace(world.replay, state="done", ends=dict.fromkeys(world.replay.views, END))
    for kept in (replace(world.replay, state="promoting"), following, world.replay):
        with pytest.raises(SettingsError, match=told):
            others.promote(world.journal.write(kept), print)
        assert world.journal.find("0001") == kept
        holds(world, OLD)
    world.journal.write(world.replay)
    replays.promote(world.replay, print)
    with pytest.raises(SettingsError, match=told):
        others.roll_back(world.journal.find("0001"), print)
    assert world.journal.find("0001").state == "promoted"
    holds(world, NEW)
    assert others.drop(world.journal.find("0001")).redis_keys >= len(AIRCRAFT)
    assert world.journal.all() == []


def test_prune_leaves_what_another_command_works_on(replays, world):
    world.journal.write(replace(world.replay, begun="2013-01-01T00:00:00+00:00"))
    with world.journal.alone(world.replay):
        assert pruned(replays, 0, dry=False) == []
    assert [one.id for one in pruned(replays, 0, dry=False)] == ["0001"]


def test_two_replays_of_a_view_are_promoted_one_after_the_other(
    replays, world, flink, monkeypatch, at_once
):
    second, values = another(world, "0002")

    def promote_it():
        with pytest.raises(Busy, match="replays: `headwater replay promote`, process"):
            opened(world, flink).promote(second, print)

    meanwhile(monkeypatch, promotion, "commit_together", promote_it)
    replays.promote(world.replay, print)
    assert world.journal.find("0002").state == "done"
    holds(world, NEW)
    replays.promote(second, print)
    holds(world, values)


def test_a_promotion_that_broke_off_comes_before_another(replays, world, monkeypatch):
    second, _ = another(world, "0002")

    with monkeypatch.context() as patch:
        patch.setattr(Values, "promote", killed)
        with pytest.raises(KeyboardInterrupt):
            replays.promote(world.replay, print)
    offline = world.offline()
    with pytest.raises(PromotionError, match=r"replay 0001 of .* is promoting: finish that first"):
        replays.promote(second, print)
    assert (world.journal.find("0002").state, world.offline()) == ("done", offline)
    replays.promote(world.journal.find("0001"), print)
    holds(world, NEW)


def test_a_switch_of_another_replay_is_seen_before_the_tables_change(replays, world):
    world.client.hset(switch_key("flights"), VIEWS[0].name, "flights~0009")
    with pytest.raises(PromotionError, match="another replay is being switched"):
        replays.promote(world.replay, print)
    assert world.offline() == all_of(OLD)
    assert world.journal.find("0001").state == "done"


def test_what_a_command_read_before_it_had_to_wait_is_not_written_back(replays, world):
    stale = world.journal.find("0001")
    replays.promote(stale, print)
    assert replays.set_rate(stale, 100).state == "promoted"
    assert replays.cancel(stale).state == "promoted"


def test_a_lock_is_free_when_its_process_is_gone_and_no_sooner(world, at_once):
    script = (
        "import sys, time; from pathlib import Path;"
        " from headwater.replays.journal import Journal;"
        " journal = Journal(Path(sys.argv[1]));"
        " lock = journal.alone(journal.find('0001'), 'resume'); lock.__enter__();"
        " print('locked', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(world.folder / "replays")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout.readline() == b"locked\n"
        whose = f"`headwater replay resume`, process {process.pid}"
        with pytest.raises(Busy, match=whose), world.journal.alone(world.replay):
            pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with world.journal.alone(world.replay) as lock, world.journal.alone(world.replay) as again:
        assert lock == again


def test_a_replay_that_is_dropped_while_the_journal_is_read_is_left_out(world, monkeypatch):
    other = Journal(world.folder / "replays")
    second, third = (other.write(replace(world.replay, id=other.reserve())) for _ in range(2))
    with monkeypatch.context() as patch:
        meanwhile(patch, journal, "_read", lambda: other.remove(second))
        assert world.journal.all() == [world.replay, third]
    with monkeypatch.context() as patch:
        meanwhile(patch, journal, "_read", lambda: other.remove(third))
        assert world.journal.reserve() == "0004"
    with monkeypatch.context() as patch:
        meanwhile(patch, journal, "_read", lambda: other.remove(world.replay))
        with pytest.raises(SettingsError, match="no replay '0001'; choices: there are none"):
            world.journal.find("0001")


def test_no_id_comes_again_where_two_are_dropped_at_once(world, monkeypatch, at_once):
    other = Journal(world.folder / "replays")

    def come_and_go():
        second = other.write(replace(world.replay, id=other.reserve()))
        with suppress(Busy):
            other.remove(second)

    meanwhile(monkeypatch, journal, "write_whole", come_and_go)
    world.journal.remove(world.replay)
    for left in other.all():
        other.remove(left)
    assert world.journal.reserve() == "0003"


class Archive:
    """The archive of a stream that replays of a view are planned to read."""

    def __init__(self, world, monkeypatch):
        stream = next(one for one in repository.streams if one.name == "arrivals")
        self.stream, self.catalog = stream.name, world.catalog
        create_tables(world.catalog, [], [stream])
        monkeypatch.setattr(Planner, "sources", lambda *_: self.sources)
        monkeypatch.setattr(ReplayJobs, "launch", lambda _, replay, __: replay)
        monkeypatch.setattr(run, "replay_sql", lambda *_: "")
        self.sources = []

    def written(self):
        """The snapshot after another commit."""
        table = self.catalog.load_table(f"raw.{self.stream}")
        table.append(table.schema().as_arrow().empty_table())
        return table.current_snapshot().snapshot_id

    def plan(self, snapshots):
        """That replays read those, and a captured table."""
        self.sources = [
            SourcePlan(self.stream, "t", [], 0, {0: (0, 1)}, one, {}, 1, 1, "") for one in snapshots
        ]
        self.sources.append(SourcePlan("planes", "t", [], 0, {}, None, {}, 1, 1, ""))

    def cared_for(self):
        """The snapshots that are left when the table was cared for at night."""
        name = f"raw.{self.stream}"
        expire(self.catalog, name, Care(), datetime.now(UTC) + timedelta(days=6))
        return {one.snapshot_id for one in self.catalog.load_table(name).snapshots()}


@pytest.fixture
def archive(world, monkeypatch):
    return Archive(world, monkeypatch)


WANTED = Wanted((VIEWS[0].name,), START, END, {})


def killed(*_, **__):
    raise KeyboardInterrupt


def test_what_a_replay_reads_of_the_archive_is_kept_until_it_is_dropped(
    replays, archive, monkeypatch
):
    monkeypatch.setattr(run, "create_tables", lambda *_: [])
    read = [archive.written(), archive.written()]
    archive.plan(read)
    begun = replays.start(WANTED, print)
    other = replays.start(WANTED, print)
    newest = [archive.written(), archive.written()][1]
    assert archive.cared_for() == {*read, newest}
    replays.drop(begun)
    assert archive.cared_for() == {*read, newest}, "the other still reads it"
    replays.drop(other)
    assert archive.cared_for() == {newest}


def test_what_a_replay_reads_of_the_archive_is_kept_by_the_command_that_brings_it_back(
    replays, world, archive, monkeypatch
):
    monkeypatch.setattr(run, "create_tables", lambda *_: [])
    read = archive.written()
    archive.plan([read])
    with monkeypatch.context() as patch:
        patch.setattr(run, "keep", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                replays.start(WANTED, print)
    begun, late = world.journal.all()[1:]
    replays.resume(begun, print)
    replays.resume(begun, print)
    newest = archive.written()
    assert archive.cared_for() == {read, newest}
    replays.drop(begun)
    assert archive.cared_for() == {newest}
    with pytest.raises(SnapshotGone, match=rf"raw.arrivals: snapshot {read} has expired"):
        replays.resume(late, print)


def test_what_was_held_back_says_nothing_of_how_long_a_replay_takes(
    replays, world, archive, monkeypatch
):
    monkeypatch.setattr(run, "create_tables", lambda *_: [])
    archive.plan([])
    bounds = ({}, {"rate": 100.0}, {"max_p99_ms": 5.0}, {"max_lag": 9}, {})
    begun = [replays.start(WANTED, print, **bound) for bound in bounds]
    replays.set_rate(begun[-1], 100.0)
    for one in (*begun[1:], replays.set_rate(begun[-1], None)):
        world.journal.write(replace(one, rows=100, seconds=1.0))
    world.journal.write(replace(begun[0], rows=70_000, seconds=2.0))
    plan = replays.plan(WANTED)
    assert (plan.records_per_second, plan.measured) == (35_000, 1)


def test_a_replay_whose_tables_do_not_fit_is_not_begun(replays, world, archive):
    archive.plan([archive.written()])
    table = world.catalog.load_table(f"features.{VIEWS[0].name}")
    with table.update_schema() as update:
        update.add_column("gone", StringType())
    with pytest.raises(TableMismatch, match="gone: in the table and no longer declared"):
        replays.start(WANTED, print)
    assert world.journal.all() == [world.replay]
    assert set(world.catalog.load_table("raw.arrivals").refs()) == {"main"}


def test_prune_takes_what_was_begun_and_never_launched(replays, world, flink, archive, monkeypatch):
    archive.plan([archive.written()])
    monkeypatch.setattr(run, "now", lambda: "2013-01-01T00:00:00+00:00")
    monkeypatch.setattr(ReplayJobs, "launch", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            replays.start(WANTED, print)
    flink.jobs = {"replay-0003-flights-departures": {}}
    world.journal.write(replace(world.replay, begun=datetime.now(UTC).isoformat()))
    assert [one.id for one in pruned(replays, 0.0, dry=True)] == ["0001", "0002"]
    assert [one.id for one in pruned(replays, 60.0, dry=False)] == ["0002"]
    assert [one.id for one in world.journal.all()] == ["0001", "0003"], "its job runs"


def test_replays_write_to_the_redis_that_their_jobs_read(tmp_path):
    elsewhere = {"HEADWATER_STATE": str(tmp_path), "HEADWATER_REDIS_URL": "redis://online:6380/2"}
    with Context(Settings.read(elsewhere), repository).online() as online:
        reached = online.connection_pool.connection_kwargs
    where = [reached[part] for part in ("host", "port", "db")]
    assert where == ["online", 6380, 2]
