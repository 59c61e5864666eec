"""Feast's registry says what the declarations say, and holds no secret."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from feast import ValueType
from feast.types import Bool, Float64, Int64, String

from feature_repo.offline_store import IcebergSource
from feature_repo.registration import (
    RegistrySettings,
    apply,
    describe_feast,
    feast_objects,
    feature_store,
)
from schemas import (
    CdcTable,
    Column,
    Entity,
    EventStream,
    FeatureService,
    FeatureView,
    Repository,
    Type,
    count,
    days,
    hours,
    latest,
    mean,
    over,
)
from tests.conftest import ROOT

rider = Entity("rider", "rider_id", Type.INT64, "Who rides")
town = Entity("town", "town")
rides = EventStream(
    name="rides",
    topic="bikes.rides",
    columns=(
        Column("rider_id", Type.INT64),
        Column("town", Type.STRING),
        Column("km", Type.FLOAT64),
    ),
    partition_by="rider_id",
)
riders = CdcTable(
    name="riders",
    table="riders",
    columns=(
        Column("rider_id", Type.INT64),
        Column("nick", Type.STRING, description="Chosen name"),
        Column("member", Type.BOOL),
        Column("updated_at", Type.TIMESTAMP),
    ),
    primary_key="rider_id",
)
ridden = FeatureView(
    name="ridden",
    source=rides,
    entities=(rider, town),
    features=over([hours(1)], count(), mean("km")),
    ttl=hours(3),
    description="Rides by rider and town",
)
facts = FeatureView(
    name="rider_facts",
    source=riders,
    entities=(rider,),
    features=latest("nick", "member", "updated_at"),
    ttl=days(30),
)
bikes = Repository(
    name="bikes",
    views=(ridden, facts),
    services=(FeatureService("fare", (ridden.only("km_mean_1h"), facts), "What to charge"),),
)


@pytest.fixture
def where(tmp_path):
    """The catalog and Redis are nowhere: registering needs neither."""
    return RegistrySettings(
        registry_uri=f"sqlite:///{tmp_path}/registry.db",
        catalog_uri="postgresql+psycopg://headwater:hunter2@nowhere/headwater",
        warehouse="file:///nowhere",
        redis="127.0.0.1:1,password=hunter3",
    )


def test_the_registry_gives_back_what_was_declared(where):
    apply(bikes, where)
    store = feature_store("bikes", where)
    entities = {e.name: (e.join_key, e.value_type, e.description) for e in store.list_entities()}
    assert entities == {
        "rider": ("rider_id", ValueType.INT64, "Who rides"),
        "town": ("town", ValueType.STRING, ""),
    }
    view = store.get_feature_view("ridden")
    assert view.entities == ["rider", "town"]
    assert view.ttl == timedelta(hours=3)
    assert view.description == "Rides by rider and town"
    assert view.tags["headwater_source"] == "topic bikes.rides"
    assert {f.name: f.dtype for f in view.entity_columns} == {"rider_id": Int64, "town": String}
    assert {f.name: f.dtype for f in view.features} == {"count_1h": Int64, "km_mean_1h": Float64}
    source = view.batch_source
    assert isinstance(source, IcebergSource)
    assert (source.table, source.timestamp_field, source.created_timestamp_column) == (
        "features.ridden",
        "event_time",
        "available_at",
    )
    fields = {f.name: f for f in store.get_feature_view("rider_facts").features}
    assert {name: f.dtype for name, f in fields.items()} == {
        "nick": String,
        "member": Bool,
        "updated_at": Int64,
    }
    assert fields["nick"].description == "Chosen name"
    assert fields["updated_at"].tags == {"unit": "milliseconds since 1970 UTC"}
    [service] = store.list_feature_services()
    assert {p.name: [f.name for f in p.features] for p in service.feature_view_projections} == {
        "ridden": ["km_mean_1h"],
        "rider_facts": ["nick", "member", "updated_at"],
    }
    assert store.list_on_demand_feature_views() == []


def registered(where):
    with sqlite3.connect(where.registry_uri.removeprefix("sqlite:///")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
        return {
            table: sorted(database.execute(f'SELECT * FROM "{table}"').fetchall(), key=repr)
            for table in tables
            if not table.startswith(("sqlite_", "idx_"))
            and database.execute(
                "SELECT type FROM sqlite_master WHERE name = ?", (table,)
            ).fetchone()
            == ("table",)
        }


def test_a_second_run_changes_nothing(where):
    assert len(apply(bikes, where)) == 2 + 2 + 2 + 1
    before = registered(where)
    assert apply(bikes, where) == []
    assert registered(where) == before


def test_what_feast_materialized_is_no_change_and_is_kept(where):
    apply(bikes, where)
    store = feature_store("bikes", where)
    hour = (datetime(2026, 1, 1, 11, tzinfo=UTC), datetime(2026, 1, 1, 12, tzinfo=UTC))
    store.registry.apply_materialization(store.get_feature_view("ridden"), "bikes", *hour)
    assert apply(bikes, where) == []
    assert apply(Repository("bikes", (replace(ridden, ttl=hours(9)), facts), ()), where)
    assert feature_store("bikes", where).get_feature_view("ridden").most_recent_end_time == hour[1]


def test_a_change_is_registered_and_what_is_no_longer_declared_is_removed(where):
    apply(bikes, where)
    longer = replace(ridden, ttl=hours(4))
    assert apply(Repository("bikes", (longer, facts), ()), where) == [
        "+view ridden",
        "-service fare",
    ]
    assert apply(Repository("bikes", (facts,), ()), where) == [
        "-source features.ridden",
        "-entity town",
        "-view ridden",
    ]
    store = feature_store("bikes", where)
    assert [view.name for view in store.list_feature_views()] == ["rider_facts"]
    assert [entity.name for entity in store.list_entities()] == ["rider"]
    assert [source.name for source in store.list_data_sources()] == ["features.rider_facts"]
    assert store.list_feature_services() == []


def test_no_secret_reaches_the_registry_or_a_log(where, tmp_path):
    apply(bikes, where)
    written = (tmp_path / "registry.db").read_bytes()
    assert b"features.ridden" in written
    shown = f"{where!r}{feature_store('bikes', where).config.offline_store!r}"
    for secret in ("hunter2", "hunter3", "nowhere/headwater"):
        assert secret.encode() not in written
        assert secret not in shown


def test_feasts_classes_are_not_compiled_anew_at_each_import():
    told = "print('typeguard' in feast.FeatureView.__init__.__code__.co_names)"
    for first, compiled in (("feast", "True\n"), ("feature_repo.registration, feast", "False\n")):
        run = subprocess.run(
            [sys.executable, "-c", f"import {first}; {told}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert run.stdout == compiled, run.stderr


def test_deriving_the_objects_again_gives_equal_objects():
    assert feast_objects(bikes) == feast_objects(bikes)


def test_the_plan_is_text_a_reviewer_reads():
    text = describe_feast(Repository("bikes", (facts,), ()))
    assert text == (
        "project bikes\n\n"
        "entity rider by rider_id INT64 -- Who rides\n\n"
        "view rider_facts of rider\n"
        "  from features.rider_facts by event_time, available_at\n"
        "  ttl 30d\n"
        "  tag headwater_plan = feature_repo/bikes/plan\n"
        "  tag headwater_source = table public.riders\n"
        "  nick String -- Chosen name\n"
        "  member Bool\n"
        "  updated_at Int64\n"
    )
    assert "service fare -- What to charge\n  ridden: km_mean_1h\n" in describe_feast(bikes)
