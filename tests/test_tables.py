"""Iceberg tables follow the declarations, and refuse what would lose data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feature_repo.flights.views.origin_weather import origin_weather
from iceberg.catalog import TableMismatch, create_tables, open_catalog
from schemas import latest


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


def test_an_added_feature_becomes_a_column_at_the_end(catalog):
    create_tables(catalog, [origin_weather])
    more = replace(origin_weather, features=(*origin_weather.features, *latest("dewp")))
    assert create_tables(catalog, [more]) == ["features.origin_weather"]
    assert columns(catalog)[-1] == "dewp"


def test_a_feature_that_went_away_is_named(catalog):
    create_tables(catalog, [origin_weather])
    with pytest.raises(TableMismatch, match=r"features\.origin_weather\.temp: .* no longer"):
        create_tables(catalog, [origin_weather.only("humid")])


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
