"""One expression, computed for a request and for a training set: the same value, bit for bit."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

import msgspec
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from api import create_app
from api.store import connect
from connectors.computed import evaluator
from connectors.registered import decode, encode, served
from feature_repo.on_demand import TrainingError, compute, training_set
from schemas import (
    Column,
    Computed,
    DeclarationError,
    FeatureService,
    OnDemandView,
    Repository,
    Type,
    since,
    stored,
    when,
)
from schemas import given as asked
from schemas.expressions import (
    Arithmetic,
    Chosen,
    Compared,
    Fixed,
    Given,
    Since,
    Stored,
    document,
    read,
)
from tests.test_api import BADGE, NOW, SPEND, VISITS, RedisServer
from tests.test_offline import START, shop, spend, world  # noqa: F401

ARROW = {
    Type.INT64: pa.int64(),
    Type.FLOAT64: pa.float64(),
    Type.STRING: pa.string(),
    Type.BOOL: pa.bool_(),
    Type.TIMESTAMP: pa.int64(),
}
KNOWN = {f"v:{type_.value}": type_ for type_ in Type}
GIVEN = {type_.value: type_ for type_ in Type}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
VALUES = {
    Type.INT64: st.integers(-(2**63), 2**63 - 1),
    Type.FLOAT64: st.floats(),
    Type.STRING: TEXT,
    Type.BOOL: st.booleans(),
    Type.TIMESTAMP: st.integers(-(2**40), 2**42),
}


@cache
def leaves(type_):
    names = [Type.INT64, Type.FLOAT64] if type_ is Type.FLOAT64 else [type_]
    found = [st.builds(Stored, st.sampled_from([f"v:{t.value}" for t in names]))]
    found.append(st.builds(Given, st.sampled_from([t.value for t in names])))
    if type_ is Type.FLOAT64:
        found.append(st.builds(Fixed, st.floats(allow_nan=False, allow_infinity=False)))
    elif type_ is not Type.TIMESTAMP:
        found.append(st.builds(Fixed, VALUES[type_]))
    return st.one_of(found)


@cache
def expressions(type_, depth=2):
    """Expressions of a type that hold together, up to `depth` operators deep."""
    if depth == 0:
        return leaves(type_)

    def deeper(inner):
        return expressions(inner, depth - 1)

    found = [
        leaves(type_),
        st.deferred(lambda: st.builds(Chosen, deeper(Type.BOOL), deeper(type_), deeper(type_))),
    ]
    if type_ is Type.FLOAT64:
        sign = st.sampled_from("+-*/")
        found.append(
            st.deferred(
                lambda: st.builds(Arithmetic, sign, deeper(Type.FLOAT64), deeper(Type.FLOAT64))
            )
        )
        found.append(st.deferred(lambda: st.builds(Since, deeper(Type.TIMESTAMP))))
    if type_ is Type.BOOL:
        sign = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
        sides = [Type.FLOAT64, Type.STRING, Type.BOOL, Type.TIMESTAMP]
        found.append(
            st.sampled_from(sides).flatmap(
                lambda side: st.builds(Compared, sign, deeper(side), deeper(side))
            )
        )
    return st.one_of(found)


ANY = st.sampled_from([Type.FLOAT64, Type.BOOL, Type.STRING, Type.TIMESTAMP]).flatmap(expressions)
ROWS = st.lists(
    st.fixed_dictionaries(
        {name: st.none() | VALUES[t] for name, t in (KNOWN | GIVEN).items()}
        | {"at": st.integers(0, 2**42)}
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(ANY, ROWS)
def test_a_request_and_a_training_set_compute_the_same(expression, rows):
    inputs = tuple(Column(name, type_) for name, type_ in GIVEN.items())
    view = OnDemandView("made", (Computed("value", expression),), inputs)
    (column,) = view.schema(KNOWN)
    columns = {
        name.replace(":", "__"): pa.array([row[name] for row in rows], ARROW[type_])
        for name, type_ in (KNOWN | GIVEN).items()
    }
    columns["event_timestamp"] = pa.array([row["at"] for row in rows], pa.timestamp("ms", "UTC"))
    trained = compute(pa.table(columns), view, KNOWN).column("made__value").to_pylist()
    evaluate = evaluator(expression, KNOWN, GIVEN)
    served_ = [evaluate(row, row, row["at"]) for row in rows]
    assert list(map(repr, trained)) == list(map(repr, served_))
    python = {Type.FLOAT64: float, Type.BOOL: bool, Type.STRING: str, Type.TIMESTAMP: int}
    assert {type(value) for value in served_} <= {python[column.type], type(None)}
    assert document(read(document(expression))) == document(expression)


PRICE = OnDemandView(
    "offer",
    features=(
        Computed("times_usual", asked("price") / stored("spend:price_mean_1h")),
        Computed("is_dear", when(asked("price") > stored("spend:price_mean_1h") * 2, True, False)),
        Computed("idle", since(asked("seen_at"))),
        Computed("label", when(stored("badge:member"), "member", "guest")),
    ),
    inputs=(Column("price", Type.FLOAT64), Column("seen_at", Type.TIMESTAMP)),
    description="What an offer is to this user",
)
REPOSITORY = Repository(
    "shop",
    (SPEND, BADGE, VISITS),
    (FeatureService("offers", (SPEND,), on_demand=(PRICE,)),),
    on_demand=(PRICE,),
)
NAMES = ["offer:times_usual", "spend:count_1h", "offer:is_dear", "offer:label"]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.write(SPEND, {"user": 7}, NOW - 10, count_1h=3, price_mean_1h=12.5)
    server.write(BADGE, {"user": 7}, NOW - 61, member=True)
    with TestClient(create_app(REPOSITORY, connect(server.url), lambda: NOW)) as running:
        yield running
    server.client.close()
    server.stop()


def ask(client, query="", **body):
    entities = [{"user": 7}, {"user": 8}]
    return client.post(f"/v1/features{query}", json={"entities": entities, **body})


def test_computed_and_stored_features_come_in_the_order_asked(client):
    inputs = [{"price": 30, "seen_at": 0}] * 2
    columns = ask(client, "?orient=columns", features=NAMES, inputs=[{"price": 30}] * 2).json()
    assert columns["columns"] == [[2.4, None], [3, None], [True, False], ["member", "guest"]]
    rows = ask(client, features=NAMES, inputs=[{"price": 30}] * 2).json()
    assert rows == {
        "features": NAMES,
        "rows": [[2.4, 3, True, "member"], [None, None, False, "guest"]],
    }
    service = ask(client, service="offers", inputs=inputs).json()
    assert service["features"][2:] == [f"offer:{f.name}" for f in PRICE.features]
    assert service["rows"][0] == [3, 12.5, 2.4, True, float(NOW), "member"]


def test_a_computed_value_is_as_old_as_the_oldest_and_as_good_as_the_worst(client):
    body = {"features": NAMES, "inputs": [{"price": 30}] * 2}
    first, second = (
        row["features"] for row in ask(client, "?include=metadata", **body).json()["rows"]
    )
    assert (first["offer:times_usual"]["status"], first["offer:times_usual"]["age_seconds"]) == (
        "present",
        10,
    )
    assert (first["offer:label"]["status"], first["offer:label"]["value"]) == ("stale", "member")
    assert second["offer:label"]["status"] == "missing"


BOTH = ["offer:idle", "offer:label"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"features": BOTH}, "$.inputs"),
        ({"features": BOTH, "inputs": []}, "$.inputs"),
        ({"features": BOTH, "inputs": [{}, {}]}, "$.inputs[0].seen_at"),
        (
            {"features": BOTH, "inputs": [{"seen_at": 1.5}, {"seen_at": 1}]},
            "$.inputs[0].seen_at",
        ),
        (
            {"features": BOTH, "inputs": [{"seen_at": 1}, {"seen_at": 1, "prize": 2}]},
            "$.inputs[1].prize",
        ),
        ({"features": ["spend:count_1h"], "inputs": [{}, {}]}, "$.inputs"),
        ({"features": ["offer:idel"]}, "$.features[0]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_their_path(client, body, path):
    problem = ask(client, **body).json()
    assert (problem["status"], problem["path"]) == (400, path)


def test_the_catalog_tells_of_inputs_and_keys(client):
    found = {view["name"]: view for view in client.get("/v1/feature-views").json()}
    assert found["offer"]["keys"] == [{"name": "user", "type": "int64"}]
    assert [column["name"] for column in found["offer"]["inputs"]] == ["price", "seen_at"]
    assert "inputs" not in found["spend"]
    feast = {"features": ["offer:label"], "entities": {"user": [7]}}
    assert client.post("/get-online-features", json=feast).status_code == 400


def test_what_is_registered_has_the_expressions(client):
    digest, data = encode(served(REPOSITORY))
    assert encode(decode(data)) == (digest, data)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        (stored("spend:prize"), "unknown feature, got 'spend:prize'"),
        (asked("pryce"), "unknown input, got 'pryce'"),
        (stored("badge:member") + 1, "needs float64 here, got 'bool'"),
        (when(stored("spend:count_1h"), 1, 2), "needs bool here"),
        (when(stored("badge:member"), 1, "a"), "needs float64 here"),
        (since(stored("spend:count_1h")), "needs timestamp here"),
        (stored("spend:count_1h").equals("3"), "needs float64 here"),
    ],
)
def test_an_expression_that_does_not_hold_together_is_refused_where_it_is_declared(
    expression, told
):
    view = OnDemandView("offer", (Computed("x", expression),), PRICE.inputs)
    with pytest.raises(DeclarationError, match=told):
        Repository("shop", (SPEND, BADGE), (), (view,))
    with pytest.raises(DeclarationError, match="no truth value"):
        bool(stored("spend:count_1h") > 1)


@pytest.mark.parametrize("value", [None, (1,), Decimal(1), 2**63, -(2**63) - 1, math.inf, math.nan])
def test_what_is_no_constant_is_refused_where_it_is_declared(value):
    with pytest.raises(DeclarationError, match=rf"^expression: .*{re.escape(repr(value))}"):
        when(stored("spend:count_1h") > 1, 1.0, value)


def test_each_constant_is_read_as_it_was_written():
    for value in ("", "é", True, False, 0, -(2**63), 2**63 - 1, 0.5, -0.0, 1e300):
        found = read(msgspec.json.decode(msgspec.json.encode(document(Fixed(value)))))
        assert (type(found.value), repr(found.value)) == (type(value), repr(value))


def test_a_training_set_through_feast_has_the_features_as_a_request_would(world):  # noqa: F811
    view = OnDemandView(
        "offer",
        (
            Computed("times_max", asked("price") / stored("spend:price_max")),
            Computed("unseen", since(stored("spend:seen"))),
        ),
        (Column("price", Type.FLOAT64),),
    )
    repository = Repository(shop.name, shop.views, (), (view,))
    rows = pd.DataFrame(
        {
            "user_id": [1, 2, -7, 99],
            "event_timestamp": [START + timedelta(hours=hour) for hour in (1, 2, 3, 4)],
            "price": [1.5, None, 4.5, 0.0],
        }
    )
    names = ["offer:times_max", "spend:price_max", "offer:unseen"]
    found = training_set(world.store, repository, names, rows)
    assert found.column_names == [*rows.columns, *(name.replace(":", "__") for name in names)]
    kept = world.store.get_historical_features(
        rows, ["spend:price_max", "spend:seen"], full_feature_names=True
    ).to_arrow()
    known = repository.stored_types
    for feature in view.features:
        evaluate = evaluator(feature.expression, known, {"price": Type.FLOAT64})
        want = [
            evaluate(
                {
                    "spend:price_max": row["spend__price_max"],
                    "spend:seen": row["spend__seen"],
                },
                {"price": None if pd.isna(price) else price},
                round(at.replace(tzinfo=UTC).timestamp() * 1000),
            )
            for row, price, at in zip(
                kept.to_pylist(),
                rows["price"],
                [datetime.fromisoformat(str(t)) for t in rows["event_timestamp"]],
                strict=True,
            )
        ]
        got = found.column(f"offer__{feature.name}").to_pylist()
        assert got == want
    assert any(value is not None for value in found.column("offer__unseen").to_pylist())
    with pytest.raises(TrainingError, match="unknown feature 'offer:x'"):
        training_set(world.store, repository, ["offer:x"], rows)
    with pytest.raises(TrainingError, match="no column 'price'"):
        training_set(world.store, repository, names, rows.drop(columns="price"))
    assert spend in repository.views


RATIO = OnDemandView(
    "offer",
    (
        Computed("ratio", asked("price") / stored("spend:price_max")),
        Computed("idle", since(asked("left_at")) + stored("spend:price_max") * 0),
    ),
    (Column("price", Type.FLOAT64), Column("left_at", Type.TIMESTAMP)),
)
WITH_RATIO = Repository(shop.name, shop.views, (), (RATIO,))


def trained(world, features=("offer:ratio",), **columns):  # noqa: F811
    """The training set of two rows whose stored value is known, with those columns before all."""
    times = [START + timedelta(hours=1, minutes=minute) for minute in (1, 2)]
    usual = {"user_id": [1, -7], "event_timestamp": times, "price": [4.0, 6.0], "left_at": [0, 0]}
    return training_set(
        world.store, WITH_RATIO, list(features), pd.DataFrame(columns | (usual | columns))
    )


@pytest.mark.parametrize("name", ["Price", "PRICE", "__place", "place", "now", "given:price"])
def test_what_else_the_rows_have_changes_no_computed_value(world, name):  # noqa: F811
    """Neither a name that DuckDB holds to be another one's, nor one that only we would think of."""
    plain = trained(world)["offer__ratio"].to_pylist()
    assert None not in plain
    assert plain[0] != plain[1]
    assert trained(world, **{name: [9, 1]})["offer__ratio"].to_pylist() == plain


def test_columns_without_a_name_stay_as_and_where_they_are(world):  # noqa: F811
    """Such as the label that pandas.concat adds: its name is the number 0."""
    rows = pd.DataFrame({"user_id": [1], "event_timestamp": [START + timedelta(hours=1)]})
    rows = pd.concat([rows, pd.Series([17])], axis=1)
    assert list(rows.columns) == ["user_id", "event_timestamp", 0]
    found = training_set(world.store, WITH_RATIO, ["spend:price_max"], rows)
    assert found.column_names == ["user_id", "event_timestamp", "0", "spend__price_max"]
    assert found["0"].to_pylist() == [17]


@pytest.mark.parametrize("feature", ["offer:ratio", "spend:price_max"])
def test_rows_that_have_the_feature_already_are_refused(world, feature):  # noqa: F811
    column = feature.replace(":", "__")
    with pytest.raises(TrainingError, match=rf"{column}.*{feature}"):
        trained(world, [feature], **{column: [1.0, 1.0]})


def test_an_input_of_a_time_is_milliseconds_or_a_timestamp(world):  # noqa: F811
    times = [START, START + timedelta(milliseconds=1500)]
    aware = pd.Series(times)
    naive = aware.dt.tz_localize(None)
    given_as = [
        [round(time.timestamp() * 1000) for time in times],
        aware,
        aware.dt.tz_convert("America/New_York"),
        *(naive.astype(f"datetime64[{unit}]") for unit in ("ms", "us", "ns")),
    ]
    for left_at in given_as:
        found = trained(world, ["offer:idle"], left_at=left_at)
        assert found["offer__idle"].to_pylist() == [3660.0, 3718.5]
    nothing = trained(world, ["offer:idle"], left_at=pd.to_datetime([None, None]))
    assert nothing["offer__idle"].to_pylist() == [None, None]
    with pytest.raises(TrainingError, match=r"left_at is .*string.* a timestamp"):
        trained(world, ["offer:idle"], left_at=["2013-01-01", "yesterday"])
