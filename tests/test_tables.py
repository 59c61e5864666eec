"""Iceberg tables follow the declarations, and refuse what would lose data."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from threading import Timer

import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyiceberg.exceptions import NoSuchTableError

from feature_repo.flights.views.origin_weather import origin_weather
from headwater.cli import headwater
from iceberg.archive import StreamArchive
from iceberg.catalog import (
    TableMismatch,
    create_quality,
    create_tables,
    declared,
    empty_branch,
    open_catalog,
    table_names,
)
from schemas import Type, latest
from tests.shop import repository

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def catalog(tmp_path):
    return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}")


def columns(catalog):
    return [f.name for f in catalog.load_table("features.origin_weather").schema().fields]


def test_a_second_run_changes_nothing(catalog):
    assert create_tables(catalog, [origin_weather]) == ["features.origin_weather"]
    before = catalog.load_table("features.origin_weather").metadata_location
    assert create_tables(catalog, [origin_weather]) == []
    assert catalog.load_table("features.origin_weather").metadata_location == before


def blind(monkeypatch, catalog):
    """Whether something is there was looked for just before somebody else made it."""
    loads, exists = catalog.load_table, catalog.table_exists
    loaded, looked = set(), set()

    def load(name):
        if isinstance(name, str) and name not in loaded:
            loaded.add(name)
            raise NoSuchTableError(name)
        return loads(name)

    def table_exists(name):
        seen = name in looked
        looked.add(name)
        return seen and exists(name)

    monkeypatch.setattr(catalog, "load_table", load)
    monkeypatch.setattr(catalog, "table_exists", table_exists)
    monkeypatch.setattr(catalog, "create_namespace_if_not_exists", catalog.create_namespace)


def test_what_somebody_else_creates_at_once_is_there(tmp_path, monkeypatch):
    """Namespace and tables alike; and what is there is checked."""
    first, second = (
        open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}") for _ in range(2)
    )
    narrow = origin_weather.only(origin_weather.schema[0].name)
    weather = origin_weather.source
    assert create_tables(first, [narrow], [weather]) == ["features.origin_weather", "raw.weather"]
    assert create_quality(first, "flights") == ["quality.flights"]
    blind(monkeypatch, second)
    changed = create_tables(second, [origin_weather], [weather])
    assert changed == ["features.origin_weather"], "it is widened"
    assert create_quality(second, "flights") == []
    assert len(columns(first)) == 2 + 1 + len(origin_weather.schema)
    blind(monkeypatch, second)
    other = [replace(one, type=Type.STRING) for one in weather.columns]
    with pytest.raises(TableMismatch, match=r"raw\.weather.* declared"):
        create_tables(second, [], [replace(weather, columns=tuple(other), expectations=())])


@pytest.mark.parametrize("commits", [0, 1])
def test_a_table_that_is_half_made_is_finished_by_the_next_command(catalog, monkeypatch, commits):
    """Whoever made it was killed after so many commits, and a job has written to it since."""
    left = [commits]

    def killed(*given):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return commit(*given)

    with monkeypatch.context() as patch:
        commit = catalog.commit_table
        patch.setattr(catalog, "commit_table", killed)
        with pytest.raises(KeyboardInterrupt):
            create_tables(catalog, [origin_weather])
    table = catalog.load_table("features.origin_weather")
    row = {"origin": "JFK", "event_time": NOON, "available_at": NOON}
    table.append(pa.Table.from_pylist([row], table.schema().as_arrow()))
    assert create_tables(catalog, [origin_weather]) == []
    empty_branch(table, "replay_0001")
    assert table.scan().to_arrow().num_rows == 1
    replayed = table.refs()["replay_0001"].snapshot_id
    assert table.scan(snapshot_id=replayed).to_arrow().num_rows == 0


def test_an_added_feature_becomes_a_column_at_the_end(catalog):
    create_tables(catalog, [origin_weather])
    more = replace(origin_weather, features=(*origin_weather.features, *latest("dewp")))
    assert create_tables(catalog, [more]) == ["features.origin_weather"]
    assert columns(catalog)[-1] == "dewp"


def test_a_feature_that_went_away_is_named(catalog):
    create_tables(catalog, [origin_weather])
    with pytest.raises(TableMismatch, match=r"features\.origin_weather\.temp: .* no longer"):
        create_tables(catalog, [origin_weather.only("humid")])


def test_an_archive_takes_and_gives_no_events_of_another_topic(catalog):
    """They would stand at offsets that are taken, or that nothing is known of."""
    stream = origin_weather.source
    moved = replace(stream, topic="flights.weather.v2", version=2)
    create_tables(catalog, [], [stream])
    assert create_tables(catalog, [], [moved]) == [], "it holds none yet"
    table = catalog.load_table(f"raw.{stream.name}")
    now = datetime.now(UTC)
    known = {"_topic": stream.topic, "_schema_version": 1, "event_time": now, "_archived_at": now}
    rows = [known | {"_partition": 0, "_offset": offset} for offset in range(2)]
    table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()))
    assert create_tables(catalog, [], [stream]) == []
    assert StreamArchive.open(catalog, stream).kept()[0].rows == 2
    refused = r"of the topic flights\.weather, .*v2: .* a new name"
    with pytest.raises(TableMismatch, match=refused):
        create_tables(catalog, [], [moved])
    with pytest.raises(TableMismatch, match=refused):
        StreamArchive.open(catalog, moved)


def test_a_column_that_is_declared_no_more_stays_in_the_archive_and_is_there_when_it_comes_back(
    catalog,
):
    stream = origin_weather.source
    without = replace(stream, columns=stream.columns[:-1])
    name = f"raw.{stream.name}"
    assert create_tables(catalog, [], [stream]) == [name]
    fields = catalog.load_table(name).schema().fields
    assert create_tables(catalog, [], [without]) == []
    assert create_tables(catalog, [], [stream]) == []
    assert catalog.load_table(name).schema().fields == fields
    as_text = (*without.columns, replace(stream.columns[-1], type=Type.STRING))
    with pytest.raises(TableMismatch, match="visib: double in the table, string declared"):
        create_tables(catalog, [], [replace(stream, columns=as_text)])


def test_no_table_is_changed_where_one_does_not_fit(catalog):
    stream = origin_weather.source
    create_tables(catalog, [origin_weather.only("temp")], [stream])
    other = tuple(replace(c, type=Type.STRING) if c.name == "visib" else c for c in stream.columns)
    wanted = [origin_weather, replace(origin_weather.only("temp"), name="another")]
    with pytest.raises(TableMismatch, match="visib"):
        create_tables(catalog, wanted, [replace(stream, columns=other)])
    assert table_names(catalog) == ["features.origin_weather", "raw.weather"]
    assert columns(catalog)[-1] == "temp"


def test_a_feature_of_another_type_is_named(catalog):
    create_tables(catalog, [origin_weather.only("humid")])
    other = replace(origin_weather.only("humid"), features=latest("humid"))
    changed = replace(
        other,
        source=replace(
            other.source,
            columns=tuple(
                replace(c, type=type(c.type)("string")) if c.name == "humid" else c
                for c in other.source.columns
            ),
        ),
    )
    with pytest.raises(TableMismatch, match="humid: double in the table, string declared"):
        create_tables(catalog, [changed])


def make_all(catalog):
    create_tables(catalog, repository.views, repository.archived)
    create_quality(catalog, repository.name)


@pytest.fixture
def waited(tmp_path, monkeypatch):
    """What `headwater tables wait` says, and its code."""
    monkeypatch.setenv("HEADWATER_CATALOG_URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("HEADWATER_WAREHOUSE", f"file://{tmp_path}")
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")

    def waited(seconds):
        done = CliRunner().invoke(headwater, ["tables", "wait", "--seconds", str(seconds)])
        return done.exit_code, done.output

    return waited


def test_what_is_declared_is_what_is_made(catalog):
    make_all(catalog)
    assert declared(repository) == table_names(catalog)


def test_who_needs_the_tables_waits_for_all_of_them(catalog, waited):
    create_tables(catalog, repository.views)
    code, said = waited(0)
    assert code == 1
    assert "no table quality.shop" in said
    assert "features." not in said
    assert "`headwater apply tables` makes them" in said
    later = Timer(1, make_all, [catalog])
    later.start()
    code, said = waited(30)
    later.join()
    assert code == 0
    assert said.endswith("every table is there\n")


def test_who_waits_for_tables_waits_for_their_catalog(waited, monkeypatch, tmp_path):
    (tmp_path / "password").write_text("s3cret")
    monkeypatch.delenv("HEADWATER_CATALOG_URI")
    monkeypatch.setenv("HEADWATER_POSTGRES", "127.0.0.1:9")
    monkeypatch.setenv("HEADWATER_POSTGRES_PASSWORD_FILE", str(tmp_path / "password"))
    code, said = waited(0.1)
    assert code == 1
    assert "127.0.0.1:9 does not answer" in said
    assert "s3cret" not in said
