"""The exporter: what features are like, kept while the catalog is away, served to Prometheus."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from math import nan

import numpy as np
import pyarrow as pa
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families as parsed

from headwater.distribution import QUANTILES, distribution
from headwater.exporter import Exporter, Measure, Windows, measures
from headwater.settings import Settings
from iceberg.catalog import create_quality, create_tables, open_catalog
from iceberg.tables import quality_schema
from observability import queries as q
from observability.textfile import metrics
from tests.conftest import ROOT, eventually
from tests.ports import free_ports
from tests.shop import repository
from tests.test_drift import NOW, append, column, purchases

FLOATS = st.lists(
    st.one_of(st.none(), st.just(nan), st.integers(-9, 9).map(float), st.floats(1, 1e6)), min_size=1
)
WORDS = st.lists(st.one_of(st.none(), st.sampled_from("abc")), min_size=1)


@given(FLOATS)
def test_numbers_are_told_by_their_quantiles(values):
    found = distribution(column(values, pa.float64()))
    known = [value for value in values if value is not None and value == value]
    assert found.nulls == pytest.approx(1 - len(known) / len(values))
    assert found.distinct == len(set(known))
    for share, value in found.quantiles.items():
        assert value == pytest.approx(np.quantile(known, share), abs=1e-6)
    assert set(found.quantiles) == (set(QUANTILES) if known else set())


@given(WORDS)
def test_words_are_told_by_the_most_frequent(values):
    found = distribution(column(values, pa.string()))
    known = [value for value in values if value is not None]
    most = max((known.count(value) for value in known), default=0)
    assert found.frequent == pytest.approx(most / len(values))
    assert (found.nulls, found.distinct, found.quantiles) == (
        pytest.approx(1 - len(known) / len(values)),
        len(set(known)),
        {},
    )


def test_of_no_rows_nothing_is_null():
    assert distribution(column([], pa.string())).nulls == 0


class Away:
    """A measure that can be taken away."""

    def __init__(self) -> None:
        self.value = 1.0
        self.there = True

    def __call__(self):
        if not self.there:
            raise ConnectionError("nobody answers")
        return metrics({"x": ("headwater_x", "X")}, (), [{"x": self.value}])


def samples(text):
    """By name and labels, which come by their names: feature, measure, quantile, table, view."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parsed(text)
        for sample in family.samples
    }


def told(exporter):
    registry = CollectorRegistry()
    registry.register(exporter)
    return samples(generate_latest(registry).decode())


def test_what_was_found_stays_while_nothing_can_be_measured(monkeypatch):
    now, away, said = [1000.0], Away(), []
    monkeypatch.setattr("headwater.exporter.time.time", lambda: now[0])
    nothing = Measure(900, lambda: metrics({}, (), []))
    exporter = Exporter({"away": Measure(60, away), "there": nothing})
    assert told(exporter)[q.DUE, "away"] == 0
    exporter.measure(said.append)
    assert told(exporter)[q.DUE, "away"] == 1060
    # Nothing is due yet.
    away.there, away.value, now[0] = False, 2.0, 1059.0
    exporter.measure(said.append)
    assert said == []
    now[0] = 1100.0
    exporter.measure(said.append)
    found = told(exporter)
    assert said == ["away could not be measured: ConnectionError: nobody answers"]
    assert found["headwater_x",] == 1
    assert (found[q.DUE, "away"], found[q.DUE, "there"]) == (1060, 1900)
    assert found["headwater_exporter_failures_total", "away"] == 1
    away.there = True
    exporter.measure(said.append)
    assert told(exporter)["headwater_x",] == 1
    now[0] = 1130.0
    exporter.measure(said.append)
    found = told(exporter)
    assert (found["headwater_x",], found[q.DUE, "away"]) == (2, 1190)


def test_what_fails_is_tried_more_and_more_seldom(monkeypatch):
    """It may have read much until it did; up to as seldom as if it were well."""
    now, tried, said = [1000.0], [], []
    monkeypatch.setattr("headwater.exporter.time.time", lambda: now[0])

    def away():
        tried.append(now[0] - 1000)
        raise ConnectionError

    exporter = Exporter({"away": Measure(200, away)})
    for _ in range(100):
        exporter.measure(said.append)
        now[0] += 10
    assert tried == [0, 30, 90, 210, 410, 610, 810]


def test_a_view_that_cannot_be_read_stops_no_other(place):
    _, table = place
    append(table, purchases(100, (24, 0), 1))
    uri, warehouse = (table.catalog.properties[name] for name in ("uri", "warehouse"))
    catalog, day, said = open_catalog(uri, warehouse), 86_400_000, []
    catalog.drop_table("features.visit_counts")
    found = measures(repository, lambda: catalog, Windows(day, day, 1000), 1, 1)
    exporter = Exporter(found)
    exporter.measure(said.append)
    (line,) = said
    assert "features.visit_counts could not be measured: DriftError: there is no table" in line
    now = told(exporter)
    assert now["headwater_feature_rows", "price", "last_purchase"] == 100
    assert now[q.DUE, "features.last_purchase"] > now[q.DUE, "features.visit_counts"] == 0


def test_what_several_measures_say_of_one_metric_stands_together():
    """Prometheus reads each name's type once."""
    both = {
        name: Measure(
            1, lambda n=name: metrics({"x": ("headwater_x", "X")}, ("of",), [{"of": n, "x": 1}])
        )
        for name in ("a", "b")
    }
    exporter = Exporter(both)
    exporter.measure(print)
    registry = CollectorRegistry()
    registry.register(exporter)
    for _ in range(2):
        text = generate_latest(registry).decode()
        assert text.count("# TYPE headwater_x gauge") == 1
        assert text.count('headwater_x{of="') == 2


@pytest.fixture
def place(tmp_path):
    """The environment of a catalog with the tables of the shop, and one of its tables."""
    uri, warehouse = f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse"
    catalog = open_catalog(uri, warehouse)
    create_tables(catalog, repository.views)
    create_quality(catalog, repository.name)
    environ = free_ports() | {
        "HEADWATER_CATALOG_URI": uri,
        "HEADWATER_WAREHOUSE": warehouse,
        "HEADWATER_REPOSITORY": "tests.shop:repository",
    }
    return environ, catalog.load_table("features.last_purchase")


def started(environ):
    return subprocess.Popen(
        [sys.executable, "-m", "headwater", "exporter"],
        env=os.environ | environ,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_prometheus_reads_what_tables_and_features_are_like(place):
    """Rows of long ago: the newest day there is."""
    environ, table = place
    append(table, purchases(700, (192, 24), 1))
    append(table, purchases(100, (24, 0), 2, price=lambda c, _: c.gauss(90, 2)))
    port = Settings.read(environ).ports.exporter
    process = started(environ)

    def read():
        try:
            text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
        except requests.ConnectionError:
            return None
        found = samples(text)
        return found if (q.PSI, "price", "last_purchase") in found else None

    try:
        found = eventually(read)
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert found["headwater_table_rows", "features.last_purchase"] == 800
    assert found["headwater_feature_rows", "price", "last_purchase"] == 100
    assert found[q.QUANTILE, "price", "0.5", "last_purchase"] == pytest.approx(90, abs=1)
    assert found[q.PSI, "price", "last_purchase"] > 1 > found[q.PSI, "quantity", "last_purchase"]
    assert found[q.NULLS, "item", "last_purchase"] == pytest.approx(1 / 3, abs=0.15)
    assert found["headwater_exporter_failures_total", "features.last_purchase"] == 0


@pytest.fixture
def checked(place):
    """Takes windows of `visits` by how long ago they ended; and what is told of them."""
    _, table = place
    properties = table.catalog.properties
    catalog = open_catalog(properties["uri"], properties["warehouse"])
    schema, now = quality_schema().as_arrow(), datetime.now(UTC)

    def summed_up(*windows, expectation="fresh"):
        rows = [
            {"source": "visits", "expectation": expectation, "events": 10, "broken": broken}
            | {"event_time": now - ago - timedelta(seconds=5), "until": now - ago}
            for ago, broken in windows
        ]
        table = catalog.load_table("quality.shop")
        table.append(pa.Table.from_pylist(rows, schema=schema))

    measure = measures(repository, lambda: catalog, None, 900, 1)["expectations"]

    def look(gauge=q.BROKEN_IN_WINDOW):
        (found,) = (metric for metric in measure.metrics() if metric.name == gauge)
        return {tuple(sample.labels.values()): sample.value for sample in found.samples}

    return summed_up, look


def test_an_expectation_is_told_of_while_it_is_declared(checked):
    summed_up, look = checked
    summed_up((timedelta(days=9), 3), (timedelta(hours=6), 2))
    summed_up((timedelta(hours=1), 1), expectation="called_otherwise")
    assert look() == {("visits", "fresh"): 2}


def test_all_windows_since_the_look_before_are_told_of(checked):
    """Not the newest alone; at the first look those of a quarter of an hour."""
    summed_up, look = checked
    second = timedelta(seconds=1)
    summed_up((2000 * second, 9), *((ago * second, 7 * (ago > 105)) for ago in range(105, 800, 5)))
    assert look() == {("visits", "fresh"): 7 * 138}
    summed_up((100 * second, 1), (95 * second, 2), (90 * second, 0))
    assert look() == {("visits", "fresh"): 3}


def test_a_source_that_falls_silent_is_told_of_once(checked):
    summed_up, look = checked
    summed_up((timedelta(minutes=9), 2))
    assert [look(), look()] == [{("visits", "fresh"): 2}, {("visits", "fresh"): 0}]
    (ended,) = look("headwater_expectation_window_end_seconds").values()
    assert ended < datetime.now(UTC).timestamp() - 500


def test_windows_of_another_day_are_not_read_again(checked):
    summed_up, look = checked
    summed_up((timedelta(days=6), 2))
    assert look() == {}


def test_events_that_have_not_happened_yet_are_left_out(place, monkeypatch):
    from headwater.drift import newest

    _, table = place
    append(table, purchases(100, (24, 0), 1))
    append(table, purchases(50, (-1, -2), 2))
    now, hour = int(NOW.timestamp() * 1000), 3_600_000
    catalog = open_catalog(table.catalog.properties["uri"], table.catalog.properties["warehouse"])
    (view,) = (view for view in repository.views if view.name == "last_purchase")
    assert newest(view, catalog, now, 24 * hour, hour, 1000).rows == 100
    assert newest(view, catalog, now + 3 * hour, 24 * hour, hour, 1000).rows > 140
    assert newest(view, catalog, now + 9000 * hour, 24 * hour, hour, 1000).rows > 140


def test_a_port_that_is_taken_is_named(place):
    environ, _ = place
    port = Settings.read(environ).ports.exporter
    with socket.create_server(("127.0.0.1", port)):
        process = started(environ)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened on" in said
    assert "HEADWATER_EXPORTER_PORT" in said
