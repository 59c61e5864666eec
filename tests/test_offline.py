"""Training rows hold what was true, or known, at their instant: Feast's SDK over real tables."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import feast
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.offline_store import IcebergOfflineStore
from feature_repo.registration import RegistrySettings, apply, feature_store
from iceberg.catalog import create_tables, open_catalog
from iceberg.offline import JoinError, Lookup, join, plan
from schemas import (
    Column,
    Entity,
    EventStream,
    FeatureService,
    FeatureView,
    Repository,
    Type,
    hours,
    largest,
    last,
    latest,
    minutes,
)
from schemas.features import Feature

user = Entity("user", "user_id", Type.INT64)
page = Entity("page", "order", Type.STRING)  # a word of SQL, on purpose
clicks = EventStream(
    name="clicks",
    topic="shop.clicks",
    columns=(
        Column("user_id", Type.INT64),
        Column("order", Type.STRING),
        Column("price", Type.FLOAT64),
        Column("seen", Type.TIMESTAMP),
        Column("select", Type.STRING),
        Column("ok", Type.BOOL),
    ),
    partition_by="user_id",
)
spend = FeatureView(
    name="spend",
    source=clicks,
    entities=(user,),
    features=(Feature("price_max", largest("price")), Feature("seen", last("seen"))),
    ttl=hours(2),
)
visits = FeatureView(
    name="visits",
    source=clicks,
    entities=(page, user),
    features=latest("select", "ok"),
    ttl=minutes(30),
)
shop = Repository(
    name="shop",
    views=(spend, visits),
    services=(FeatureService("model", (spend, visits.only("ok"))),),
)

START = datetime(2013, 1, 1, 22, tzinfo=UTC)
STEP = timedelta(minutes=10)
STEPS = 30  # five hours, over midnight
USERS, PAGES = (1, 2, -7), ("a", "b' \"", "ü")


@dataclass(frozen=True)
class Row:
    key: tuple
    event: datetime
    available: datetime
    values: tuple


def random_rows(view: FeatureView, count: int) -> list[Row]:
    """Few keys and instants: duplicates, corrections, ties and clocks that run ahead abound."""
    choose = random.Random(view.name)

    def value(type_):
        return choose.choice(
            {
                Type.FLOAT64: [None, -1.5, 0.0, 2.25],
                Type.TIMESTAMP: [None, START, START + timedelta(milliseconds=1)],
                Type.STRING: [None, "", "x"],
                Type.BOOL: [None, True, False],
            }[type_]
        )

    def row():
        event = START + choose.randrange(STEPS) * STEP
        keys = {"user_id": choose.choice(USERS), "order": choose.choice(PAGES)}
        return Row(
            tuple(keys[key] for key in view.keys),
            event,
            event + choose.choice([-1, 0, 0, 1, 1, 2, 6]) * STEP,
            tuple(value(column.type) for column in view.schema),
        )

    return [row() for _ in range(count)]


def as_arrow(table, view: FeatureView, rows: list[Row]) -> pa.Table:
    names = [*view.keys, "event_time", "available_at", *(c.name for c in view.schema)]
    records = [
        dict(zip(names, (*row.key, row.event, row.available, *row.values), strict=True))
        for row in rows
    ]
    return pa.Table.from_pylist(records, schema=table.schema().as_arrow())


def online(value):
    """As the online store has it: timestamps in milliseconds."""
    return int(value.timestamp() * 1000) if isinstance(value, datetime) else value


def expected(rows, key, at, ttl, known_then):
    """The slow way: look at every row."""
    held = [
        row
        for row in rows
        if row.key == key
        and at - ttl <= row.event <= at
        and (row.available <= at or not known_then)
    ]
    newest = max(held, key=lambda row: (row.event, row.available, rank(row)), default=None)
    return tuple(map(online, newest.values)) if newest else None


def rank(row):
    return [(value is not None, value) for value in row.values]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline")
    where = RegistrySettings(
        registry_uri=f"sqlite:///{folder}/registry.db",
        catalog_uri=f"sqlite:///{folder}/catalog.db",
        warehouse=f"file://{folder}/warehouse",
        redis="127.0.0.1:1",
    )
    catalog = open_catalog(where.catalog_uri, where.warehouse)
    create_tables(catalog, shop.views)
    rows = {}
    for view in shop.views:
        table = catalog.load_table(f"features.{view.name}")
        rows[view.name] = random_rows(view, 220)
        for start in range(0, 220, 55):
            table.append(as_arrow(table, view, rows[view.name][start : start + 55]))
    apply(shop, where)
    return SimpleNamespace(
        where=where, catalog=catalog, rows=rows, store=feature_store("shop", where)
    )


instants = st.builds(
    lambda step, off: START + step * STEP + timedelta(microseconds=off),
    st.integers(-2, STEPS + 15),
    st.sampled_from([-1, 0, 0, 0, 1]),
)
entity_rows = st.lists(
    st.tuples(st.sampled_from([*USERS, 99]), st.sampled_from([*PAGES, "z"]), instants), max_size=25
)
orders = st.permutations(["user_id", "order", "event_timestamp", "label"])


@settings(max_examples=30)
@given(asked=entity_rows, columns=orders, naive=st.booleans(), known=st.booleans())
def test_every_entity_row_gets_what_held_at_its_instant(world, asked, columns, naive, known):
    frame = pd.DataFrame(asked, columns=["user_id", "order", "event_timestamp"])
    frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], utc=True)
    if naive:
        frame["event_timestamp"] = frame["event_timestamp"].dt.tz_localize(None)
    frame["user_id"] = frame["user_id"].astype("int64")
    frame["label"] = range(len(frame))
    found = world.store.get_historical_features(
        frame[columns],
        ["spend:price_max", "spend:seen", "visits:select", "visits:ok"],
        full_feature_names=True,
        filter_by_created_timestamp=known,
    ).to_arrow()

    assert found.column_names[:4] == columns
    assert found.column("label").to_pylist() == list(range(len(asked)))
    for view, names in ((spend, ("price_max", "seen")), (visits, ("select", "ok"))):
        got = zip(*(found.column(f"{view.name}__{n}").to_pylist() for n in names), strict=True)
        ttl = timedelta(seconds=view.ttl.seconds)
        want = [
            expected(world.rows[view.name], key, at, ttl, known) or (None, None)
            for user_id, order, at in asked
            for key in [(user_id,) if view is spend else (order, user_id)]
        ]
        assert list(got) == want


def ask(world, frame, features=("spend:price_max",), **options):
    return world.store.get_historical_features(frame, list(features), **options).to_arrow()


def frame(**columns):
    return pd.DataFrame({"user_id": [1], "event_timestamp": [START], **columns})


def test_a_feature_service_names_its_features(world):
    service = world.store.get_feature_service("model")
    found = world.store.get_historical_features(frame(order=["a"]), service).to_arrow()
    assert found.column_names[3:] == ["price_max", "seen", "ok"]


def test_entity_rows_may_be_wide_text_unordered_or_empty_of_keys(world):
    texts = ask(world, frame(event_timestamp=["2013-01-02T00:00:00Z"]))
    naive = ask(world, frame(event_timestamp=["2013-01-02T00:00:00"]))
    assert texts.column("price_max") == naive.column("price_max")
    for kind in (["2013-01-02T00:00:00Z"], pd.to_datetime(["2013-01-02"], utc=True)):
        category = ask(world, frame(event_timestamp=kind).astype({"event_timestamp": "category"}))
        assert category.column("price_max") == texts.column("price_max")
    lost = frame(user_id=[None]).astype({"user_id": "float64"})
    assert ask(world, lost).column("price_max").to_pylist() == [None]
    small = frame().astype({"user_id": "int16"})
    assert ask(world, small).column("price_max") == ask(world, frame()).column("price_max")


@pytest.mark.parametrize(
    ("asked", "features", "problem"),
    [
        (frame(), ("visits:ok",), r"no column 'order'\. Choices: user_id, event_timestamp\."),
        (frame(user_id=["one"]), ("spend:seen",), "user_id is not int64"),
        (frame(seen=[0]), ("spend:seen",), "seen: two columns"),
        (frame(event_timestamp=[3]), ("spend:seen",), "event_timestamp is int64"),
        ("SELECT 1", ("spend:seen",), "expected a pandas DataFrame"),
    ],
)
def test_entity_rows_that_do_not_fit_are_refused_by_name(world, asked, features, problem):
    with pytest.raises(JoinError, match=problem):
        ask(world, asked, features)


def test_a_range_is_read_without_duplicates(world):
    start, end = START + 5 * STEP, START + 12 * STEP
    found = IcebergOfflineStore.pull_all_from_table_or_query(
        world.store.config,
        world.store.get_data_source("features.spend"),
        ["user_id"],
        ["price_max", "seen"],
        "event_time",
        "available_at",
        start,
        end,
    ).to_arrow()
    newest = {}
    for row in world.rows["spend"]:
        if start <= row.event <= end:
            place = (*row.key, row.event)
            newest[place] = max(newest.get(place, row), row, key=lambda r: (r.available, rank(r)))
    got = {(r["user_id"], r["event_time"]): (r["price_max"], r["seen"]) for r in found.to_pylist()}
    assert got == {place: tuple(map(online, row.values)) for place, row in newest.items()}
    assert found.num_rows == len(newest)


def test_the_newest_rows_are_one_a_key(world):
    found = IcebergOfflineStore.pull_latest_from_table_or_query(
        world.store.config,
        world.store.get_data_source("features.visits"),
        ["order", "user_id"],
        ["select", "ok"],
        "event_time",
        "available_at",
        START,
        START + STEPS * STEP,
    ).to_arrow()
    for_ever = timedelta(days=1)
    assert found.num_rows == len(USERS) * len(PAGES)
    for row in found.to_pylist():
        key, at = (row["order"], row["user_id"]), START + STEPS * STEP
        values = (row["select"], row["ok"])
        assert values == expected(world.rows["visits"], key, at, for_ever, False)


def test_only_the_days_and_columns_asked_for_are_read(world, tmp_path):
    catalog = open_catalog(f"sqlite:///{tmp_path}/c.db", f"file://{tmp_path}")
    create_tables(catalog, [spend])
    table = catalog.load_table("features.spend")
    times = [START + timedelta(days=day) for day in range(10)]
    table.append(as_arrow(table, spend, [Row((1,), at, at, (1.0, None)) for at in times]))
    assert len(list(table.scan().plan_files())) == 10

    def planned(at, key=1, known_then=False):
        lookup = Lookup(
            table,
            {"user_id": "user_id"},
            {"price_max": "price_max"},
            timedelta(hours=2),
            "event_time",
            "available_at",
        )
        asked = pa.table({"user_id": [key], "t": pa.array([at], pa.timestamp("us", "UTC"))})
        scan, _ = plan(asked, "t", lookup, known_then)
        assert {field.name for field in scan.projection().fields} == {
            "user_id",
            "event_time",
            "available_at",
            "price_max",
        }
        return len(list(scan.plan_files()))

    assert planned(times[4] + timedelta(hours=1)) == 1  # one day
    assert planned(times[4] + timedelta(hours=3)) == 0  # nothing that recent
    assert planned(times[4], key=2) == 0  # no such key in any file's bounds
    assert planned(times[4] + timedelta(hours=1), known_then=True) == 1


def test_a_view_may_be_joined_twice_under_other_keys(world):
    asked = frame(user_id=[1, 1], event_timestamp=[START + 9 * STEP] * 2, friend=[2, -7])
    view = world.store.get_feature_view("spend")
    both = {"own_spend": "user_id", "friend_spend": "friend"}
    views = [view.with_name(n).with_join_key_map({"user_id": key}) for n, key in both.items()]
    world.store.apply([feast.FeatureService(name="pair", features=views)])
    service = world.store.get_feature_service("pair")
    found = world.store.get_historical_features(asked, service, full_feature_names=True).to_arrow()
    ttl = timedelta(hours=2)
    for name, key in both.items():
        want = [
            expected(world.rows["spend"], (k,), START + 9 * STEP, ttl, False) or (None,)
            for k in asked[key]
        ]
        assert found.column(f"{name}__price_max").to_pylist() == [values[0] for values in want]


@pytest.mark.parametrize("keys", [("k0",), ("event", "k0"), ("k1", "k0")])
def test_a_table_may_have_columns_of_any_name(tmp_path, keys):
    """Also of the names that the join has for what it reads."""
    columns = tuple(Column(name, Type.STRING) for name in (*keys, "v1", "since"))
    source = EventStream("sources", "sources", columns, keys[0])
    entities = tuple(Entity(name, name) for name in keys)
    view = FeatureView("odd", source, entities, latest("v1", "since"), ttl=hours(2))
    catalog = open_catalog(f"sqlite:///{tmp_path}/c.db", f"file://{tmp_path}")
    create_tables(catalog, [view])
    table = catalog.load_table("features.odd")
    rows = [Row(keys, START, START, ("right", "s")), Row(keys[::-1], START, START, ("left", "t"))]
    table.append(as_arrow(table, view, rows[: len(keys)]))
    asked = pa.table({name: [name, "?"] for name in keys})
    asked = asked.append_column("at", pa.array([START] * 2, pa.timestamp("us", "UTC")))
    names = ({key: key for key in keys}, {"since": "since", "v1": "v1"})
    for known_then in (False, True):
        lookup = Lookup(table, *names, timedelta(hours=2), "event_time", "available_at")
        found = join(asked, "at", [lookup], known_then)
        assert found["v1"].to_pylist() == ["right", None]
        assert found["since"].to_pylist() == ["s", None]
