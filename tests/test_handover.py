"""The end of a replay that follows the log: what it had to write is committed, or it goes on."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest

from feature_repo.flights.repository import repository
from feature_repo.flights.views.aircraft_delays import aircraft_delays
from flink_jobs.rest import FlinkCluster
from flink_jobs.sql import job_sql, jobs
from headwater import locks
from headwater.jobs import RECOVERY, Jobs
from headwater.replays import context, handover, journal, live
from headwater.replays.jobs import ReplayJobs
from headwater.replays.journal import Journal, Replay
from headwater.replays.plan import ReplayError
from headwater.replays.run import Replays
from headwater.settings import Settings
from iceberg.catalog import create_tables, empty_branch, open_catalog
from schemas import SettingsError
from tests.flink import Flink, listening
from tests.ports import free_ports
from tests.test_promote import server

__all__ = ["server"]

VIEW = aircraft_delays.only("count_1d")
TABLE = f"features.{VIEW.name}"
LIVE, JOB = "flights-departures", "replay-0001-flights-departures"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD, NEW = 1, 2
ID = "0001"


def at(minutes):
    """Milliseconds since 1970 UTC of so many minutes after noon."""
    return int((NOON + timedelta(minutes=minutes)).timestamp() * 1000)


class World:
    """Live has written a row a minute, eleven; a replay that follows has committed six of them."""

    def __init__(self, folder, flink, monkeypatch, settings):
        self.flink = flink
        self.catalog = open_catalog(f"sqlite:///{folder}/c", str(folder))
        create_tables(self.catalog, [VIEW])
        monkeypatch.setattr(context, "catalog", lambda _: self.catalog)
        monkeypatch.setattr(handover, "_FRESH_SECONDS", 0)
        self.replays = Replays(settings, repository)
        self.journal = self.replays.journal
        self.write(OLD, "main", range(11))
        replay = Replay(ID, (VIEW.name,), at(0), None, jobs={JOB: "beaded"}, state="following")
        empty_branch(self.catalog.load_table(TABLE), self.journal.write(replay).branch)
        self.write(NEW, replay.branch, range(6))
        script = self.journal.folder(replay) / f"{JOB}.sql"
        script.parent.mkdir(parents=True)
        script.write_text("its script", "utf-8")
        flink.add("live", LIVE, [VIEW.name], at(10))
        flink.add("beaded", JOB, [VIEW.name], at(10))

    def write(self, value, branch, minutes):
        table = self.catalog.load_table(TABLE)
        rows = [
            {
                "tailnum": "N1",
                "event_time": NOON + timedelta(minutes=minute),
                "available_at": datetime.now(UTC),
                "count_1d": value,
            }
            for minute in minutes
        ]
        table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()), branch=branch)

    def values(self):
        """Of each minute."""
        rows = self.catalog.load_table(TABLE).scan().to_arrow().to_pylist()
        return {(row["event_time"] - NOON).seconds // 60: row["count_1d"] for row in rows}

    def promote(self):
        return self.replays.promote(self.journal.find(ID), print)

    def is_refused(self, told):
        """Nothing is promoted; the replay as it is kept."""
        with pytest.raises(ReplayError, match=told):
            self.promote()
        assert self.values() == dict.fromkeys(range(11), OLD)
        return self.journal.find(ID)


@pytest.fixture
def world(tmp_path, monkeypatch, server):
    server.flushall()
    ports = {"HEADWATER_REDIS_PORT": str(server.connection_pool.connection_kwargs["port"])}
    settings = Settings.read(free_ports() | ports | {"HEADWATER_STATE": str(tmp_path / "state")})
    with listening(Flink(), settings.ports.flink) as flink:
        yield World(tmp_path, flink, monkeypatch, settings)


def test_it_ends_where_live_has_been_as_well_and_live_s_rows_after_that_stay(world):
    world.flink.jobs["beaded"]["mark"] = at(4)
    world.promote()
    assert world.journal.find(ID).state == "promoted"
    assert world.values() == {m: NEW if m <= 4 else OLD for m in range(11)}


def test_a_view_that_live_does_not_compute_yet_ends_where_live_is(world):
    """The live job then starts anew, and writes from there on for its other views as well."""
    world.flink.jobs["live"] |= {"views": ["origin_delays"], "mark": at(4)}
    world.promote()
    assert world.values() == {m: NEW if m <= 4 else OLD for m in range(11)}


def test_a_job_that_fails_after_its_savepoint_is_not_promoted_but_goes_on_from_that(
    world, monkeypatch
):
    world.flink.failing.add(JOB)
    kept = world.is_refused(f"{JOB} is FAILED.*headwater replay resume {ID}")
    assert (kept.state, kept.ends) == ("paused", {})
    asked = {}
    monkeypatch.setattr(Jobs, "submit_scripts", lambda *given: asked.update(given[3]) or {})
    world.replays.resume(kept, print)
    assert "savepoint-beaded" in asked[JOB][RECOVERY]


def test_a_job_that_has_ended_on_a_cluster_that_is_lost_begins_anew(world, monkeypatch):
    """Its savepoint is of a pause; all that came after that would be in its branch twice."""
    asked = {}
    monkeypatch.setattr(Jobs, "submit_scripts", lambda *given: asked.update(given[3]) or {})
    world.replays.pause(world.journal.find(ID), print)
    paused = world.journal.find(ID)
    assert (paused.state, paused.rows, paused.share) == ("paused", 9, 1.0)
    table = world.catalog.load_table(TABLE)
    branch = world.journal.find(ID).branch
    world.replays.resume(paused, print)
    assert "savepoint-beaded" in asked[JOB][RECOVERY]
    table.append(
        table.schema().as_arrow().empty_table(),
        snapshot_properties={"flink.job-id": "cafe", "flink.max-committed-checkpoint-id": "9"},
        branch=branch,
    )
    world.flink.lose()
    asked.clear()
    world.replays.resume(world.journal.find(ID), print)
    assert RECOVERY not in asked[JOB]
    table.refresh()
    assert not table.scan(snapshot_id=table.refs()[branch].snapshot_id).to_arrow().num_rows


def paused(world):
    """A replay of a bounded span, as `pause` leaves it."""
    world.journal.write(replace(world.journal.find(ID), end=at(6), state="running"))
    return world.replays.pause(world.journal.find(ID), print)


def test_a_replay_that_was_paused_is_not_done_though_the_clock_was_set_back(world):
    """Its savepoint seems older than the job that it is of."""
    world.flink.jobs["beaded"]["start-time"] = int(time.time() * 1000) + 60_000
    assert paused(world).state == "paused"
    with pytest.raises(ReplayError, match="is paused: it cannot be promoted"):
        world.promote()


def test_an_attempt_that_has_come_to_its_end_is_done_whatever_others_have_left(world):
    """As young as the savepoint of the attempt before it, should the clock be set back."""
    kept = paused(world)
    world.flink.add("decade", JOB, state="FINISHED")
    kept = world.journal.write(replace(kept, jobs={JOB: "decade"}, state="running"))
    assert world.replays.progress(kept).state == "done"


def test_a_running_attempt_is_the_replay_s_though_the_clock_was_set_back(world):
    """And which have all ended the journal tells apart."""
    replay = replace(world.journal.find(ID), jobs={JOB: "again"})
    world.flink.add("again", JOB, [VIEW.name], at(10))
    world.flink.jobs["beaded"] |= {"state": "CANCELED", "start-time": 9}
    for written in (replay, replace(replay, jobs={JOB: "beaded"})):  # or was about to be
        assert world.replays.progress(written).state == "following"
    world.flink.jobs["again"]["state"] = "FINISHED"
    assert world.replays.progress(replay).state == "done"


def test_a_replay_that_runs_of_a_view_that_is_declared_no_more_is_dropped(world):
    left = tuple(view for view in repository.views if view.name != VIEW.name)
    other = Replays(world.replays._context.settings, replace(repository, views=left, services=()))
    running = replace(world.journal.find(ID), end=at(6), state="running")
    with pytest.raises(SettingsError, match=f"replay {ID} is of {VIEW.name}, which the repository"):
        other.progress(world.journal.write(running))
    other.drop(running)
    assert world.flink.jobs["beaded"]["state"] == "CANCELED"
    assert world.journal.all() == []


def test_one_that_was_cancelled_just_now_is_submitted_again(world, monkeypatch):
    world.replays.cancel(world.journal.find(ID))
    asked = []
    monkeypatch.setattr(Jobs, "submit_scripts", lambda *given: asked.extend(given[1]) or {})
    world.replays.resume(world.journal.find(ID), print)
    assert asked == [JOB]


def test_a_job_that_has_failed_before_is_not_promoted(world):
    world.flink.jobs["beaded"]["state"] = "FAILED"
    kept = world.is_refused(f"{JOB} is FAILED")
    assert (kept.state, kept.ends) == ("paused", {})


def test_a_job_that_the_cluster_has_forgotten_is_not_promoted(world, monkeypatch):
    """The end was found, then the cluster was lost, and then it is promoted again."""
    with monkeypatch.context() as patch:
        patch.setattr(live.Live, "commit", lambda *_: _fail())
        world.is_refused("live makes no checkpoints")
    world.flink.lose()
    world.is_refused(f"{JOB}: the cluster does not know of it.*headwater replay resume {ID}")
    # What it goes on from may lie before the end that was found.
    monkeypatch.setattr(Jobs, "submit_scripts", lambda *_: {})
    resumed = world.replays.resume(world.journal.find(ID), print)
    assert (resumed.state, resumed.ends) == ("running", {})


def test_a_job_that_started_again_is_not_promoted_before_it_is_back_at_the_end(world, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(live.Live, "commit", lambda *_: _fail())
        world.is_refused("live makes no checkpoints")
    world.flink.jobs["beaded"]["mark"] = at(5)
    world.is_refused(f"{JOB} has started again.*try again")
    world.write(NEW, f"replay_{ID}", range(6, 11))
    world.flink.jobs["beaded"]["mark"] = at(10)
    world.promote()
    assert world.values() == dict.fromkeys(range(11), NEW)


def test_it_has_no_end_while_the_live_job_does_not_run(world):
    """Live would go on from where it was, and write over what is promoted."""
    del world.flink.jobs["live"]
    kept = world.replays.journal.find(ID)
    declared = world.replays._context.settings.state / "jobs" / f"{LIVE}.declared.sql"
    declared.parent.mkdir(exist_ok=True)
    declared.write_text(job_sql(next(j for j in jobs(repository) if j.name == LIVE)), "utf-8")
    declared.with_name(f"{LIVE}.json").write_text('{"id": "live", "from": null}', "utf-8")
    assert world.is_refused(f"{LIVE} does not run: `headwater jobs submit {LIVE}`") == kept
    world.flink.add("live", LIVE, [VIEW.name], at(10))
    world.promote()


def test_a_live_job_that_started_again_is_not_behind_the_end(world, monkeypatch):
    def commit(*_):
        world.flink.jobs["live"]["mark"] = at(5)

    with monkeypatch.context() as patch:
        patch.setattr(live.Live, "commit", commit)
        world.is_refused(f"{LIVE} has started again.*try again")
    world.flink.jobs["live"]["mark"] = at(10)
    world.promote()


def test_a_live_job_that_started_again_and_is_back_may_not_have_committed_all(world, monkeypatch):
    made = FlinkCluster.checkpoint

    def checkpoint(*given):
        world.flink.jobs["live"]["restored"] += 1
        return made(*given)

    with monkeypatch.context() as patch:
        patch.setattr(FlinkCluster, "checkpoint", checkpoint)
        world.is_refused("job live has started again while.*try again")
    world.promote()


def test_where_live_is_is_looked_at_again_by_who_tries_again(world, monkeypatch):
    """Its rows before the end that was found may come after a checkpoint that is made meanwhile."""
    with monkeypatch.context() as patch:
        patch.setattr(live.Live, "commit", lambda *_: _fail())
        world.is_refused("live makes no checkpoints")
    world.flink.jobs["live"]["mark"] = at(5)
    made = FlinkCluster.checkpoint

    def checkpoint(*given):
        world.flink.jobs["live"]["mark"] = at(10)
        return made(*given)

    with monkeypatch.context() as patch:
        patch.setattr(FlinkCluster, "checkpoint", checkpoint)
        world.is_refused(f"{LIVE} has started again and is not back")
    world.flink.jobs["live"]["mark"] = at(10)
    world.promote()


def test_a_promotion_that_was_killed_once_its_jobs_had_ended_is_finished_by_the_next(
    world, monkeypatch
):
    world.flink.jobs["beaded"]["mark"] = at(4)
    with monkeypatch.context() as patch:
        patch.setattr(handover, "cut_branch", lambda *_: _fail())
        with pytest.raises(ReplayError):
            world.promote()
    world.flink.lose()
    world.promote()
    assert world.values() == {m: NEW if m <= 4 else OLD for m in range(11)}


def is_broken_off(world, monkeypatch, module, what):
    """Who promotes it ends there, once the end was found where the replay is: after minute 4."""
    world.flink.jobs["beaded"]["mark"] = at(4)
    with monkeypatch.context() as patch:
        patch.setattr(module, what, lambda *_: _fail())
        with pytest.raises(ReplayError, match="try again"):
            world.promote()
    assert world.journal.find(ID).ends == {VIEW.name: at(4) + 1}


@pytest.mark.parametrize(("mark", "end"), [(8, 4), (10, 10)], ids=["just now", "minutes ago"])
def test_a_promotion_that_broke_off_minutes_ago_finds_the_end_again(world, monkeypatch, mark, end):
    """And says it: what the replay has written after that is taken away."""
    is_broken_off(world, monkeypatch, live.Live, "commit")
    world.write(NEW, f"replay_{ID}", range(6, mark + 1))
    world.flink.jobs["beaded"]["mark"] = at(mark)
    told = []
    world.replays.promote(world.journal.find(ID), told.append)
    assert told[0] == f"replay {ID} ends at {Replay.iso(at(end) + 1)}"
    assert world.values() == {m: NEW if m <= end else OLD for m in range(11)}


def test_an_end_that_jobs_were_stopped_for_is_not_found_again(world, monkeypatch):
    """A job that has ended has written nothing of what is after it."""
    is_broken_off(world, monkeypatch, ReplayJobs, "await_end")
    assert world.flink.jobs["beaded"]["state"] == "FINISHED"
    world.flink.jobs["live"]["mark"] = world.flink.jobs["beaded"]["mark"] = at(20)
    told = []
    world.replays.promote(world.journal.find(ID), told.append)
    assert told[0] == f"replay {ID} ends at {Replay.iso(at(4) + 1)}"
    assert world.values() == {m: NEW if m <= 4 else OLD for m in range(11)}


@pytest.fixture
def followed(world):
    """A replay that has not caught up, and the progress of one who follows it."""
    world.flink.jobs["beaded"]["mark"] = at(5)
    replay = world.journal.set_state(world.journal.find(ID), "running")
    progress = world.replays.follow(replay)
    assert next(progress).state == "running"
    return progress


def test_who_follows_a_replay_is_told_that_somebody_else_cancelled_it(world, followed):
    other = Replays(world.replays._context.settings, repository)
    other.cancel(other.journal.find(ID))
    assert [now.state for now in followed] == ["cancelled"]


def test_who_follows_a_replay_waits_until_it_is_paused_however_long_that_takes(
    world, followed, monkeypatch
):
    other = Journal(world.journal._folder)
    pause = other.alone(other.find(ID), "pause")
    pause.__enter__()
    world.replays._jobs.stop(other.find(ID), print)

    def waited(_):
        other.set_state(other.find(ID), "paused")
        pause.__exit__(None, None, None)

    monkeypatch.setattr(journal, "_WAIT_SECONDS", 0)
    monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=time.monotonic, sleep=waited))
    assert [now.state for now in followed] == ["paused"]


def test_who_follows_a_replay_goes_on_where_somebody_else_launched_it_again(
    world, followed, monkeypatch
):
    world.flink.jobs["beaded"]["state"] = "CANCELED"

    def again():
        world.flink.add("again", JOB, [VIEW.name], at(10))
        found = world.journal.find(ID)
        world.journal.write(replace(found, jobs={JOB: "again"}))

    alone = Journal.alone

    def once(*given):
        monkeypatch.setattr(Journal, "alone", alone)
        again()
        return alone(*given)

    monkeypatch.setattr(Journal, "alone", once)
    assert [now.state for now in followed] == ["running", "following"]
    assert world.journal.find(ID).state == "following"


def _fail():
    raise ReplayError("live makes no checkpoints: try again when it does")
