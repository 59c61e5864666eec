"""Drift: the index against its plain definition, chance, and the command on real tables."""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from headwater.cli import headwater
from headwater.stability import BINS, ENOUGH, VALUES, stability
from iceberg.catalog import create_tables, open_catalog
from iceberg.offline import rows
from schemas import Feature, FeatureView, Repository, count, days, largest, over, total
from tests.shop import last_purchase

FLOATS = st.lists(
    st.one_of(
        st.none(),
        st.just(math.nan),
        st.integers(-3, 3).map(float),
        st.floats(allow_nan=False),
    ),
    min_size=1,
    max_size=60,
)
WORDS = st.lists(
    st.one_of(st.none(), st.sampled_from("ab"), st.integers(0, 40).map(str)),
    min_size=1,
    max_size=60,
)
BOOLS = st.lists(st.one_of(st.none(), st.booleans()), min_size=1, max_size=60)
KINDS = {pa.float64(): FLOATS, pa.string(): WORDS, pa.bool_(): BOOLS}


def column(values, type_=None):
    """In two chunks, as a table's columns come."""
    middle = len(values) // 2
    return pa.chunked_array([values[:middle], values[middle:]], type_)


def cells(reference, bins):
    """The plain definition of a value's cell, by the values of the reference."""
    known = [value for value in reference if value is not None and value == value]
    if known and isinstance(known[0], float):
        known.sort()
        edges = [known[math.ceil(len(known) * n / bins) - 1] for n in range(1, bins)]

        def cell(value):
            below = sum(edge < value for edge in edges)
            return below, edges.count(value) > 1

    else:
        frequent = sorted(Counter(known).items(), key=lambda one: (-one[1], one[0]))[:VALUES]
        names = {value for value, _ in frequent}

        def cell(value):
            return value if value in names else "others"

    def of(value):
        return "null" if value is None or value != value else cell(value)

    return of


def plain(reference, present):
    """The index as its definition says it, value by value."""
    n, m = len(reference), len(present)
    of = cells(reference, max(2, min(BINS, min(n, m) // ENOUGH)))
    before, now = Counter(map(of, reference)), Counter(map(of, present))
    nulls = before["null"] / n, now["null"] / m
    for cell in before | now:
        if (before[cell] + now[cell]) / (n + m) * min(n, m) < ENOUGH:
            for counts in (before, now):
                counts["rare"] += counts.pop(cell, 0)
    cells_ = [cell for cell in before | now if before[cell] + now[cell]]
    psi = 0.0
    for cell in cells_:
        p, q = (
            (counts[cell] + 0.5) / (rows + 0.5 * len(cells_))
            for counts, rows in ((before, n), (now, m))
        )
        psi += (q - p) * math.log(q / p)
    return psi, *nulls


pairs = st.one_of([st.tuples(st.just(kind), some, some) for kind, some in KINDS.items()])


@given(pairs)
def test_it_is_what_its_definition_says(pair):
    kind, reference, present = pair
    found = stability(column(reference, kind), column(present, kind))
    assert (found.psi, found.reference_nulls, found.nulls) == pytest.approx(
        plain(reference, present), abs=1e-9
    )
    assert found.psi >= 0


@given(pairs, st.randoms(use_true_random=False))
def test_the_same_values_in_another_order_have_not_moved(pair, chosen):
    kind, reference, _ = pair
    other = chosen.sample(reference, len(reference))
    found = stability(column(reference, kind), column(other, kind))
    assert found.psi == pytest.approx(0, abs=1e-12)
    assert not found.moved(0)


def test_by_hand():
    """Halves that become nine tenths and one: (0.9 - 0.5) ln 1.8 + (0.1 - 0.5) ln 0.2."""
    reference = column([True, False] * 50_000)
    present = column([True] * 90_000 + [False] * 10_000)
    found = stability(reference, present)
    assert found.psi == pytest.approx(0.4 * math.log(1.8) - 0.4 * math.log(0.2), rel=1e-3)
    # χ² of one degree of freedom exceeds 10.83 once in a thousand; of two windows of 100,000.
    assert found.chance == pytest.approx(10.83 * 2e-5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "now"),
    [
        ("a shift", lambda x: x + 1),
        ("a wider spread", lambda x: 2 * x),
        ("nulls", lambda x: np.where(np.arange(len(x)) % 4, x, np.nan)),
        ("a constant", lambda x: np.zeros(len(x))),
        ("other units", lambda x: x * 1000),
    ],
)
def test_what_has_moved_is_seen(name, now):
    values = np.random.default_rng(1).normal(size=20_000)
    found = stability(column(values[:15_000]), column(now(values[15_000:])))
    assert found.moved(0.2), name


@pytest.mark.parametrize("step", [-1, 1])
def test_a_value_that_was_always_the_same_is_seen_to_move_either_way(step):
    found = stability(column([5] * 1000), column([5 + step] * 1000))
    assert found.moved(0.2)
    assert not stability(column([5] * 1000), column([5] * 30)).moved(0)


def test_a_value_that_is_new_is_seen():
    words = ["web", "shop"] * 500
    assert stability(column(words), column([*words, *["app"] * 500])).moved(0.2)
    assert not stability(column(words), column(words[:100])).moved(0.2)


@pytest.mark.parametrize("count", [5, 20, 200, 2000])
@pytest.mark.parametrize("kind", ["number", "word"])
def test_chance_alone_moves_nothing(count, kind):
    """However few the rows are; 0.001 of the comparisons may be over it."""
    choose = np.random.default_rng(count)
    over = 0
    for _ in range(300):
        both = [choose.normal(size=size) for size in (5000, count)]
        if kind == "word":
            both = [np.floor(values).astype(str) for values in both]
        found = stability(column(both[0]), column(both[1]))
        over += found.moved(0)
    assert over <= 3


def test_it_is_no_loop_over_rows():
    values = np.random.default_rng(1).normal(size=1_000_000)
    words = column(np.floor(values).astype("int64").astype(str))
    # Both together in well under a second; by rows they would take many.
    began = time.process_time()
    stability(column(values), column(values))
    stability(words, words)
    assert time.process_time() - began < 3


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A catalog with the tables of the shop, which the command finds by its settings."""
    uri, warehouse = f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse"
    monkeypatch.setenv("HEADWATER_CATALOG_URI", uri)
    monkeypatch.setenv("HEADWATER_WAREHOUSE", warehouse)
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")
    catalog = open_catalog(uri, warehouse)
    create_tables(catalog, [last_purchase])
    return catalog.load_table("features.last_purchase")


def purchases(count, hours, seed, **changed):
    """Rows of purchases, one every so often over those hours before now."""
    choose = random.Random(seed)
    first, last = hours
    for n in range(count):
        at = NOW - timedelta(hours=first) + n * timedelta(hours=first - last) / count
        yield {
            "customer": f"c{choose.randrange(50)}",
            "event_time": at,
            "available_at": at,
            "item": choose.choice(["tea", "milk", None]),
            "quantity": choose.randrange(5),
            "price": choose.gauss(10, 2),
            "gift": choose.random() < 0.3,
            "wanted_by": at + timedelta(hours=choose.uniform(1, 9)),
            "count_1d": choose.randrange(3),
        } | {name: value(choose, at) for name, value in changed.items()}


def append(table, found):
    table.append(pa.Table.from_pylist(list(found), schema=table.schema().as_arrow()))


def drift(*arguments):
    done = CliRunner().invoke(
        headwater, ["drift", "last_purchase", "--to", "2026-03-01T12:00", *arguments]
    )
    return done.exit_code, done.output + str(done.exception or "")


def test_a_window_is_held_against_the_days_before_it(place):
    append(place, purchases(7000, (192, 24), 1))
    append(place, purchases(1000, (24, 0), 2))
    # What came later is of no window.
    append(place, purchases(500, (-1, -2), 3, price=lambda c, _: 1e6))
    code, told = drift("--format", "json")
    found = json.loads(told)
    assert code == 0, told
    assert [one["feature"] for one in found["features"]] == [c.name for c in last_purchase.schema]
    for one in found["features"]:
        assert (one["rows"], one["reference_rows"]) == (1000, 7000)
        assert one["psi"] < 0.05
    assert found["empty"] == []


def test_a_feature_that_has_moved_is_named(place):
    append(place, purchases(7000, (192, 24), 1))
    append(
        place,
        purchases(
            1000,
            (24, 0),
            2,
            price=lambda c, _: c.gauss(14, 2),
            item=lambda *_: None,
            # Its age, not the time itself, which moves with every day.
            wanted_by=lambda c, at: at + timedelta(hours=c.uniform(1, 9)),
        ),
    )
    code, told = drift()
    assert code == 1
    lines = {
        line.split()[0].split(":")[1]: line for line in told.splitlines() if ":" in line.split()[0]
    }
    assert {name for name, line in lines.items() if "MOVED" in line} == {"price", "item"}
    assert "100.0%" in lines["item"]
    code, told = drift("--max-psi", "20")
    assert (code, "MOVED" in told) == (0, False)
    code, told = drift("--format", "prometheus")
    assert code == 0
    told = told.splitlines()
    assert 'headwater_feature_null_ratio{feature="item",view="last_purchase"} 1.0' in told
    assert 'headwater_feature_rows{feature="price",view="last_purchase"} 1000.0' in told
    assert any(line.startswith("headwater_drift_psi") for line in told)


@pytest.mark.parametrize(("customers", "moved"), [(1, False), (50, True)])
def test_rows_of_one_window_are_not_drawn_for_themselves(place, customers, moved):
    """A day's count of one customer has one value a day, however often it is written."""
    who = {"customer": lambda c, _: f"c{c.randrange(customers)}"}
    append(place, purchases(7000, (192, 24), 1, **who))
    more = {"count_1d": lambda c, _: c.choice((0, 1, 2, 2, 2, 2, 2))}
    append(place, purchases(1000, (24, 0), 2, **who, **more))
    code, told = drift("--format", "json")
    assert code == moved
    features = json.JSONDecoder().raw_decode(told)[0]["features"]
    (found,) = (one for one in features if one["feature"] == "count_1d")
    assert 0.4 < found["psi"] < 3
    assert found["moved"] is moved


@pytest.mark.parametrize(("customers", "moved"), [(20, False), (800, True)])
def test_a_value_that_lasts_is_drawn_once_for_each_entity(place, customers, moved):
    """What each customer bought last is as ever; those of one item come four times as often."""
    choose = random.Random(1)

    def bought(count, hours, weights):
        weights = [weights[n % 4] for n in range(customers)]
        for row in purchases(count, hours, 1):
            (n,) = choose.choices(range(customers), weights)
            yield row | {"customer": f"c{n}", "item": f"i{n % 4}"}

    append(place, bought(7000, (192, 24), (1, 1, 1, 1)))
    append(place, bought(1000, (24, 0), (4, 1, 1, 1)))
    code, told = drift("--format", "json")
    features = json.JSONDecoder().raw_decode(told)[0]["features"]
    (found,) = (one for one in features if one["feature"] == "item")
    assert 0.3 < found["psi"] < 0.7
    assert (found["moved"], code) == (moved, moved), found


LIFELONG = FeatureView(
    "lifelong",
    last_purchase.source,
    last_purchase.entities,
    (
        *(Feature("times", count()), Feature("spent", total("price"))),
        *(Feature("dearest", largest("price")), *over([days(1)], count())),
    ),
    ttl=days(7),
)
lifelong = Repository("shop", (LIFELONG,), ())


def test_what_only_grows_has_not_moved(place, monkeypatch):
    """A count of all there ever was is another one every day; its greatest value need not be."""
    catalog = open_catalog(place.catalog.properties["uri"], place.catalog.properties["warehouse"])
    create_tables(catalog, [LIFELONG])
    table = catalog.load_table("features.lifelong")
    rows_of = [
        {"customer": f"c{n % 400}", "event_time": at, "available_at": at}
        | {"times": n // 10, "spent": n * 9.5, "dearest": n % 97.0, "count_1d": n % 3}
        for n in range(8000)
        for at in [NOW - timedelta(hours=192) + n * timedelta(hours=192) / 8000]
    ]
    append(table, rows_of)
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.test_drift:lifelong")
    arguments = ("drift", "--to", "2026-03-01T12:00")
    done = CliRunner().invoke(headwater, arguments)
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line.split()[-1] for line in done.output.splitlines()[1:]}
    assert (lines["lifelong:times"], lines["lifelong:spent"]) == ("grows", "grows")
    # Nobody is told of them by Prometheus either.
    told = CliRunner().invoke(headwater, (*arguments, "--format", "prometheus")).output
    drawn = set(re.findall(r'headwater_drift_psi{feature="(\w+)"', told))
    assert drawn == {"dearest", "count_1d"}
    assert 'headwater_feature_rows{feature="times",view="lifelong"} 1000.0' in told


def test_a_correction_takes_its_originals_place(place):
    append(place, purchases(700, (192, 24), 1))
    wrong = list(purchases(100, (24, 0), 2, price=lambda *_: -1.0))
    append(place, wrong)
    right = purchases(100, (24, 0), 2)
    append(place, ({**row, "available_at": NOW} for row in right))
    code, told = drift("--format", "json")
    assert code == 0, told
    assert {one["rows"] for one in json.loads(told)["features"]} == {100}


def test_a_window_without_rows_is_said(place):
    code, told = drift()
    assert code == 1
    assert "nothing to compare: last_purchase: no rows from 2026-02-28T12:00Z up to" in told
    append(place, purchases(70, (192, 24), 1))
    code, told = drift()
    assert (code, "nothing to compare" in told) == (1, True)
    append(place, purchases(10, (1, 0), 1))
    code, told = drift("--last", "1h", "--against", "1d")
    assert (code, "nothing to compare" in told) == (1, True)


def test_a_view_without_rows_stops_no_other(place, monkeypatch):
    from tests.shop import repository

    catalog = open_catalog(place.catalog.properties["uri"], place.catalog.properties["warehouse"])
    create_tables(catalog, repository.views)
    append(place, purchases(700, (192, 24), 1))
    append(place, purchases(100, (24, 0), 2))
    done = CliRunner().invoke(headwater, ["drift", "--to", "2026-03-01T12:00"])
    assert done.exit_code == 0, done.output
    assert "visit_counts: no rows in that time" in done.output
    assert "last_purchase:price" in done.output


def test_a_wrong_name_is_answered_by_the_right_ones(place):
    done = CliRunner().invoke(headwater, ["drift", "last_purchaze"])
    assert "choices: last_purchase, customer_facts, visit_counts" in str(done.exception)


def test_a_sample_is_the_same_each_time_and_as_large_as_it_was_told(place):
    append(place, purchases(4000, (24, 0), 2))

    def sampled(one_in):
        found = rows(place, ["customer"], ["price"], "event_time", "available_at", one_in=one_in)
        return set(found["price"].to_pylist())

    everything, some = sampled(1), sampled(8)
    assert len(everything) == 4000
    assert some < everything
    assert 350 < len(some) < 650
    assert sampled(8) == some
    append(place, purchases(7000, (192, 24), 1))
    _, told = drift("--format", "json", "--sample", "1000")
    for one in json.loads(told)["features"]:
        assert 250 < one["rows"] < 1500 and 500 < one["reference_rows"] < 1500


def test_of_a_window_within_a_file_as_many_rows_are_read(place):
    """A file has the rows of up to a day."""
    append(place, purchases(8000, (24, 0), 2))
    span = ("--last", "1h", "--against", "5h", "--sample", "200")
    _, told = drift("--format", "json", *span)
    for one in json.loads(told)["features"]:
        assert 100 < one["rows"] < 300 and 100 < one["reference_rows"] < 300
