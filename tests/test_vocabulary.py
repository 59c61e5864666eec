"""A declaration that does not hold together fails where it is written, and says how to mend it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from connectors.ddl import NO_RECORD, identifier
from flink_jobs.sql import condition_column, condition_text, rolling_spec, view_sql
from schemas import (
    EVENT_TIME,
    CdcTable,
    Column,
    Computed,
    DeclarationError,
    Duration,
    Entity,
    EventStream,
    Feature,
    FeatureService,
    FeatureView,
    JoinedStream,
    OnDemandView,
    Repository,
    TemporalJoin,
    Type,
    Window,
    among,
    col,
    count,
    days,
    distinct,
    given,
    hours,
    last,
    last_n,
    latest,
    mean,
    minutes,
    over,
    percentile,
    present,
    rate,
    seconds,
    share,
    unique,
    within,
)
from tests.runbooks import FOLDER
from tests.shop import customer_facts

CLICKS = EventStream(
    "clicks",
    "shop.clicks",
    (Column("user", Type.STRING), Column("price", Type.FLOAT64), Column("page", Type.STRING)),
    partition_by="user",
)
USERS = CdcTable(
    "users",
    "users",
    (
        Column("user", Type.STRING),
        Column("city", Type.STRING),
        Column("updated_at", Type.TIMESTAMP),
    ),
    primary_key="user",
)
USER = Entity("user", "user")


def view(*features, name="spend", source=CLICKS, entity=USER):
    return FeatureView(name, source, (entity,), tuple(features), ttl=days(1))


def clicks(column, **more):
    return replace(CLICKS, columns=(*CLICKS.columns, Column(column, Type.STRING)), **more)


def expecting(*expectations):
    return replace(view(*latest("price", "page")), expectations=expectations, checked=minutes(1))


def test_over_names_a_feature_by_column_op_and_window():
    names = [f.name for f in over([minutes(15), days(7)], count(), mean("price"))]
    assert names == ["count_15m", "count_7d", "price_mean_15m", "price_mean_7d"]


def test_a_length_of_whole_seconds_may_be_told_in_parts_of_a_unit():
    for length, whole in (
        (hours(0.5), 1_800),
        (hours(1.1), 3_960),
        (minutes(1.5), 90),
        (days(0.5), 43_200),
        (seconds(2.0), 2),
    ):
        assert (type(length.seconds), length) == (int, seconds(whole))


def test_types_follow_the_aggregation():
    v = view(*over([hours(1)], count(), mean("price")), *latest("page"))
    assert [c.type for c in v.schema] == [Type.INT64, Type.FLOAT64, Type.STRING]


def test_a_condition_is_data_that_names_the_feature_and_becomes_a_column_of_the_input():
    dear = (col("price") >= 1.5) & (col("page") == "it's")
    v = view(*over([hours(1)], share(dear.called("dear")), count(where=col("price").is_null())))
    v = view(*v.features, *over([hours(1)], percentile("price", 0.995), distinct("page")))
    names = [c.name for c in v.schema]
    assert names == [
        "dear_share_1h",
        "count_where_price_is_null_1h",
        "price_p99_5_1h",
        "page_distinct_1h",
    ]
    assert [c.type for c in v.schema] == [Type.FLOAT64, Type.INT64, Type.FLOAT64, Type.INT64]
    spec = json.loads(rolling_spec(v))["features"]
    assert spec[0]["column"] == "`price` >= 1.5E0 AND `page` = 'it''s'"
    assert spec[1]["filter"] == "`price` IS NULL"
    assert spec[2]["q"] == 0.995
    assert not {"filter", "q", "n"} & spec[3].keys()


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("x" * 248, True),
        ("x" * 249, False),
        ("\N{GRINNING FACE}" * 124, True),
        ("\N{GRINNING FACE}" * 125, False),
    ],
)
def test_a_condition_is_a_column_of_its_own_text_up_to_what_flink_parses(text, fits):
    """256 UTF-16 units, eight of which are not the literal's."""
    where = (col("p") == text).called("long")
    source = replace(CLICKS, columns=(*CLICKS.columns, Column("p", Type.STRING)))
    of = view(*over([hours(1)], count(where=where), share(where)), source=source)
    counted, part = json.loads(rolling_spec(of))["features"]
    name = part["column"]
    assert counted["filter"] == name
    assert (name == condition_text(where)) is fits
    inputs, *_ = view_sql(of)
    assert inputs.count(f"({condition_text(where)}) IS TRUE AS {identifier(name)},\n") == 1
    other = condition_column(col("p") != text)
    assert other != name and len(other) <= 256


def test_literals_that_read_alike_have_labels_of_their_own():
    labels = {(col("page") == text).label for text in ("a-b", "a_b", "a b", "", "é")}
    assert len(labels) == 5
    assert (col("price") < -1.5).label == "price_lt_minus_1_5"


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (
            lambda: view(*over([hours(1)], mean("prize"))),
            ("view.spend.features.prize_mean_1h.column", "'prize'", "did you mean 'price'", "page"),
        ),
        (
            lambda: view(*over([hours(1)], mean("page"))),
            ("view.spend.features.page_mean_1h.column", "'page'", "string", "Choices: price."),
        ),
        (lambda: Window(seconds(90), tile=seconds(60)), ("window.90s.size", "1m", "'90s'")),
        (lambda: view(*latest("page"), *latest("page")), ("view.spend.features", "'page'")),
        (
            lambda: view(*latest("page"), entity=Entity("user", "user", Type.INT64)),
            ("view.spend.entities.user", "'int64'", "string"),
        ),
        (
            lambda: view(*over([hours(1)], count()), source=USERS),
            ("view.spend.features.count_1h", "latest"),
        ),
        (lambda: percentile("price", 1.5), ("aggregation.percentile.q", "at most 1", "1.5")),
        (lambda: last_n("price", 0), ("aggregation.last_n.n", "1 to 1000", "0")),
        (
            lambda: view(*over([hours(1)], share(col("prize") > 1))),
            ("share_1h", "'prize'", "did you mean 'price'"),
        ),
        (
            lambda: view(*over([hours(1)], count(where=col("price") > "1"))),
            ("where.price", "float64", "'1'"),
        ),
        (lambda: 1 < col("price") < 5, ("condition", "join with &", "price_gt_1")),
        (lambda: col("page") == "${kafka}", ("condition.page", "${kafka}")),
        (
            lambda: view(Feature("page", last("page", where=col("city") == "X")), source=USERS),
            ("view.spend",),
        ),
        (
            lambda: replace(CLICKS, expectations=(rate(1),)),
            ("stream.clicks.checked", "rate needs the length of its window"),
        ),
        (
            lambda: replace(CLICKS, expectations=(rate(5, 1),), checked=minutes(1)),
            ("stream.clicks.expectations.rate", "low must not be above high"),
        ),
        (
            lambda: replace(CLICKS, expectations=(unique("pages"),), checked=minutes(1)),
            ("pages_unique", "'pages'", "did you mean 'page'"),
        ),
        (
            lambda: replace(CLICKS, expectations=(unique("page"), unique("page"))),
            ("stream.clicks.expectations", "'page_unique'"),
        ),
        (
            lambda: replace(view(*latest("price")), expectations=(within("price", 0, 1),)),
            ("view.spend.checked", "belong together", "None"),
        ),
        (
            lambda: expecting(within("price_max", 0, 1)),
            ("view.spend.expectations.price_max_within", "'price_max'", "user, price, page"),
        ),
        (
            lambda: expecting(among("user", "a", reject=True)),
            ("view.spend.expectations.user_among", "a key cannot be rejected", "price, page"),
        ),
        (
            lambda: replace(
                view(*latest("city"), source=USERS),
                expectations=(present("city"),),
                checked=minutes(1),
            ),
            ("view.spend.expectations", "those of the table users", "city_present"),
        ),
        *(
            (
                lambda name=name: replace(
                    USERS, columns=tuple(replace(c, required=c.name != name) for c in USERS.columns)
                ),
                (f"table.users.columns.{name}.required", "must be True", "False"),
            )
            for name in ("user", "updated_at")
        ),
        *(
            (
                lambda name=name: clicks(name),
                ("stream.clicks.columns", "choose another", f"'{name}'"),
            )
            for name in (EVENT_TIME, "event_time_day", "rowtime", *NO_RECORD)
        ),
        (
            lambda: view(Feature("event_time_day", count())),
            ("view.spend.features", "choose another", "'event_time_day'"),
        ),
        (
            lambda: clicks("window_start", checked=minutes(1)),
            ("stream.clicks.columns", "choose another", "'window_start'"),
        ),
        (
            lambda: replace(expecting(rate(1)), features=(Feature("window_end", last("page")),)),
            ("view.spend.features", "choose another", "'window_end'"),
        ),
        (
            lambda: view(
                *latest("page"), source=clicks("result"), entity=Entity("result", "result")
            ),
            ("view.spend.entities", "choose another", "'result'"),
        ),
        (
            lambda: view(*(Feature(f"f{n}", count(where=col("price") > n)) for n in range(65))),
            ("view.spend.features", "at most 64", "two views", "65"),
        ),
        *(
            (lambda make=make, n=n: make(n), (path, "from -2^63 to 2^63 - 1", str(n)))
            for n in (2**63, -(2**63) - 1, 10**400)
            for make, path in (
                (lambda n: col("price") > n, "condition.price"),
                (lambda n: within("price", None, n), "expectation.price_within"),
                (rate, "expectation.rate"),
            )
        ),
        (lambda: within("price", 0, float("inf")), ("expectation.price_within", "None", "inf")),
        (lambda: within("price", float("nan"), 1), ("expectation.price_within", "None", "nan")),
        (lambda: among("page", "a", "${usd}"), ("expectation.page_among", "${usd}")),
        (lambda: among("page", "a;\nEND"), ("expectation.page_among", "printable")),
        (lambda: Entity("User", "user"), ("entity.name", "'User'", "lower_snake_case")),
        (lambda: minutes(0), ("duration", "positive", "0")),
        (lambda: minutes(0.025), ("duration", "come to whole seconds", "0.025")),
        (lambda: seconds(1.5), ("duration", "whole seconds", "1.5")),
        (lambda: hours(float("nan")), ("duration", "finite", "nan")),
        (lambda: Duration(1800.0), ("duration", "whole seconds", "1800.0")),
    ],
)
def test_an_error_names_path_value_and_choices(make, parts):
    with pytest.raises(DeclarationError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def test_a_value_that_is_rejected_is_null_and_a_narrowed_view_rejects_it_too():
    wanted = expecting(within("price", 0, 1, reject=True), among("page", "a"), present("page"))
    assert wanted.let_out({"price": 2.0, "page": "b"}) == {"price": None, "page": "b"}
    assert wanted.let_out({"price": 1.0, "page": None}) == {"price": 1.0, "page": None}
    assert wanted.let_out({"price": None, "page": "a"}) == {"price": None, "page": "a"}
    assert [one.name for one in wanted.only("price").expectations] == ["price_within"]
    assert wanted.only("price").let_out({"price": -1}) == {"price": None}
    assert [one.holds(None) for one in wanted.expectations] == [True, True, False]
    Repository("shop", (wanted,), (FeatureService("rank", (wanted.only("page"),)),))


def test_names_that_jobs_have_only_elsewhere_can_be_chosen():
    names = ("rowtime", "result", "window_start", "dead_reason")
    view(*(Feature(name, last("page")) for name in names))
    clicks("window_start")
    clicks("result")


def test_a_view_may_read_64_columns_and_conditions():
    wheres = [(col("price") > n).called(f"over_{n}") for n in range(63)]
    again = (col("price") > 0).called("again")
    view(*over([hours(1)], count(), mean("price"), *(count(where=w) for w in (*wheres, again))))


def test_a_window_has_a_derived_tile_that_divides_it():
    for size in (seconds(30), minutes(15), hours(6), days(7), days(90)):
        assert size.seconds % Window(size).resolution.seconds == 0


def test_a_repository_refuses_two_views_of_one_name():
    with pytest.raises(DeclarationError, match=r"repository\.views.*'spend'"):
        Repository("shop", (view(*latest("page")), view(*latest("price"))), ())


def test_a_repository_refuses_streams_that_could_not_be_told_apart():
    first = view(*latest("page"))
    other = replace(first.source, name="others")
    with pytest.raises(DeclarationError, match=rf"repository\.topics.*'{first.source.topic}'"):
        Repository("shop", (first, replace(first, name="other", source=other)), ())
    for name in ("tables", "archive"):
        called = replace(first, source=replace(first.source, name=name))
        with pytest.raises(DeclarationError, match=rf"stream\.{name}\.name: a job of another kind"):
            Repository("shop", (called, customer_facts), ())
        if name == "tables":
            Repository("shop", (called,), ())  # there is no other


@pytest.mark.parametrize(
    "topic", ["", ".", "..", "a/b", "my topic", "übung", "clicks\n", "x" * 245, "${kafka}"]
)
def test_a_topic_is_called_as_kafka_takes_it_and_what_is_added(topic):
    with pytest.raises(DeclarationError, match=r"stream\.clicks\.topic: .* a-z A-Z 0-9 \. _ -"):
        replace(CLICKS, topic=topic)
    replace(CLICKS, topic="Clicks-2._" + "x" * 234)


@pytest.mark.parametrize(
    "topic",
    [
        "shop.clicks.dead",
        "shop.clicks.late",
        "shop.served",
        "shop.served.dead",
        "shop.public.customers",
        "shop.public.customers.dead",
    ],
)
def test_a_repository_refuses_a_topic_that_is_there_for_something_else(topic):
    first = view(*latest("page"))
    other = replace(CLICKS, name="others", topic=topic)
    views = (first, replace(first, name="other", source=other), customer_facts)
    with pytest.raises(DeclarationError, match=rf"repository\.topics: .* others.*'{topic}'"):
        Repository("shop", views, ())


def test_a_repository_refuses_a_captured_table_whose_topic_kafka_does_not_take():
    users = replace(USERS, table="my users")
    with pytest.raises(DeclarationError, match=r"table\.users\.table: .*'shop\.public\.my users'"):
        Repository("shop", (view(*latest("city"), source=users),), ())


def joined_views(*joined):
    return tuple(view(*latest("page"), name=f"v{n}", source=j) for n, j in enumerate(joined))


def test_a_repository_refuses_two_tables_or_operators_of_one_name_in_a_job():
    """What it makes of a declaration has a name that another may be declared with."""
    moods = EventStream("moods", "moods", (Column("user", Type.STRING),), "user")
    city = TemporalJoin(USERS, "user", ("city",))
    mood = TemporalJoin(moods, "user", ("user",), within=hours(1), prefix="mood_")
    checked = replace(CLICKS, expectations=(rate(1),), checked=minutes(1))
    pairs = {
        "enriched_1": joined_views(
            JoinedStream("enriched", CLICKS, (city, mood)),
            JoinedStream("enriched_1", CLICKS, (city,)),
        ),
        "enriched_users_by_user": joined_views(
            JoinedStream("enriched", CLICKS, (city,)),
            JoinedStream("enriched_users_by_user", CLICKS, (mood,)),
        ),
        "clicks_checked": joined_views(
            checked, replace(moods, name="clicks_checked", columns=CLICKS.columns)
        ),
        **{
            f"clicks_{part}": joined_views(
                JoinedStream(
                    "enriched",
                    CLICKS,
                    (replace(mood, source=replace(moods, name=f"clicks_{part}")),),
                )
            )
            for part in ("archive", "log")
        },
    }
    for name, views in pairs.items():
        refused = rf"repository\.sources: a job has a table of that name for .* and .*'{name}'"
        with pytest.raises(DeclarationError, match=refused):
            Repository("shop", views, ())
    (one,) = joined_views(JoinedStream("enriched", CLICKS, (city,)))
    called = replace(one, name="enriched_users_by_user")
    with pytest.raises(DeclarationError, match=r"repository\.views: a job has an operator .*"):
        Repository("shop", (called,), ())


def test_names_that_two_jobs_have_can_be_chosen():
    """A stream's job and another's, a job of the archive that sums nothing up, and a table's."""
    others = replace(CLICKS, name="clicks_log", topic="log")
    checked = replace(CLICKS, expectations=(rate(1),), checked=minutes(1))
    city = TemporalJoin(USERS, "user", ("city",))
    Repository(
        "shop", joined_views(CLICKS, others, replace(others, name="clicks_checked", topic="c")), ()
    )
    Repository(
        "shop",
        joined_views(
            JoinedStream("enriched", CLICKS, (city, replace(city, on="page", prefix="page_"))),
            JoinedStream("enriched_1", others, (city,)),
        ),
        (),
    )
    captured = view(*latest("city"), name="w", source=replace(USERS, name="clicks_checked"))
    Repository("shop", (*joined_views(checked), captured), ())


def test_a_service_may_narrow_a_view_but_not_redefine_it():
    whole = view(*latest("page", "price"))
    Repository("shop", (whole,), (FeatureService("rank", (whole.only("page"),)),))
    other = view(*over([hours(1)], count()), name="spend")
    with pytest.raises(DeclarationError, match="unknown feature"):
        Repository("shop", (whole,), (FeatureService("rank", (other,)),))


def test_the_runbook_of_late_rows_has_the_lengths_that_a_stream_has_by_itself():
    text = (FOLDER / "rows-late.md").read_text("utf-8")
    assert CLICKS.ahead == CLICKS.drift == hours(1)
    assert "`drift` of it (an hour)" in text
    assert "`ahead` (an hour)" in text


MISTYPED = {
    "a type as text": (
        lambda: Column("sku", "string"),
        "column.sku.type: must be a Type, got 'string' Choices: Type.STRING, Type.INT64,",
    ),
    "an entity's type": (
        lambda: Entity("user", "user", "int64"),
        "entity.user.type: must be a Type, got 'int64' Choices: Type.STRING, Type.INT64,",
    ),
    "no name": (lambda: Column(5, Type.INT64), "column.name: must be lower_snake_case, 1 to"),
    "no topic": (lambda: replace(CLICKS, topic=None), "stream.clicks.topic: must be 1 to 244"),
    "no comma behind an entity": (
        lambda: replace(view(*latest("page")), entities=(USER)),
        "view.spend.entities: must be a tuple: (one,) has a comma behind it, got Entity(name='u",
    ),
    "an entity by name": (
        lambda: replace(view(*latest("page")), entities=("user",)),
        "view.spend.entities[0]: must be an Entity, got 'user'",
    ),
    "seconds for a duration": (
        lambda: replace(view(*latest("page")), ttl=86400),
        "view.spend.ttl: must be a Duration, such as hours(24), got 86400",
    ),
    "no * before latest": (
        lambda: view(*over([hours(1)], count()), latest("page")),
        "view.spend.features[1]: must be a Feature: several, as they are made by a function, take"
        " a * before it, got (Feature(name='page'",
    ),
    "a list of columns": (
        lambda: replace(CLICKS, columns=[*CLICKS.columns]),
        "stream.clicks.columns: must be a tuple: (one,) has a comma behind it, got [Column(name=",
    ),
    "a list of a table's columns": (
        lambda: replace(USERS, columns=[*USERS.columns]),
        "table.users.columns: must be a tuple",
    ),
    "columns by name": (
        lambda: replace(CLICKS, columns=("user",)),
        "stream.clicks.columns[0]: must be a Column, got 'user'",
    ),
    "a stream's disorder": (
        lambda: replace(CLICKS, disorder=60),
        "stream.clicks.disorder: must be a Duration, such as hours(24), got 60",
    ),
    "a stream's heartbeat": (
        lambda: replace(CLICKS, heartbeat=60),
        "stream.clicks.heartbeat: must be a Duration, such as hours(24), got 60",
    ),
    "a source by name": (
        lambda: view(*latest("page"), source="clicks"),
        "view.spend.source: must be an EventStream or a CdcTable or a JoinedStream, got 'clicks'",
    ),
    "one window": (
        lambda: over(hours(1), count()),
        "over.windows: must be a list, also of a single one, got Duration(seconds=3600)",
    ),
    "a window in seconds": (
        lambda: over([3600], count()),
        "window.size: must be a Duration, such as hours(24), got 3600",
    ),
    "an aggregation by name": (
        lambda: over([hours(1)], "count"),
        "over.aggregations[0]: must be an Aggregation, got 'count'",
    ),
    "an aggregation that is not called": (
        lambda: Feature("n", count),
        "feature.n.aggregation: must be an Aggregation, got <function count",
    ),
    "a share of a column": (
        lambda: share("price"),
        "aggregation.share.condition: must be a Condition, got 'price'",
    ),
    "a condition for a column": (
        lambda: count(col("price") > 1),
        "aggregation.count.column: must be a str, got ",
    ),
    "a joined column without a comma": (
        lambda: TemporalJoin(USERS, "user", ("city")),
        "join.users.columns: must be a tuple: (one,) has a comma behind it, got 'city'",
    ),
    "a join without a comma": (
        lambda: JoinedStream("enriched", CLICKS, (TemporalJoin(USERS, "user", ("city",)))),
        "joined_stream.enriched.joins: must be a tuple: (one,) has a comma behind it",
    ),
    "a joined stream's length": (
        lambda: TemporalJoin(CLICKS, "user", ("page",), within=60),
        "join.clicks.within: must be a Duration, such as hours(24), got 60",
    ),
    "an expectation without a comma": (
        lambda: replace(CLICKS, expectations=(present("page"))),
        "stream.clicks.expectations: must be a tuple: (one,) has a comma behind it",
    ),
    "a computed feature": (
        lambda: OnDemandView("offer", (Computed("one", 1),)),
        "feature.one.expression: must be an Expression, got 1",
    ),
    "a list of computed features": (
        lambda: OnDemandView("offer", [Computed("one", given("price"))]),
        "view.offer.features: must be a tuple",
    ),
    "a service of names": (
        lambda: FeatureService("rank", ("spend",)),
        "service.rank.views[0]: must be a FeatureView, got 'spend'",
    ),
    "a list of views": (
        lambda: Repository("shop", [view(*latest("page"))], ()),
        "repository.views: must be a tuple",
    ),
    "a table with its schema": (
        lambda: replace(USERS, table="crm.users"),
        "table.users.table: is a name without its schema: table='users', schema='crm', got"
        " 'crm.users'",
    ),
}


@pytest.mark.parametrize(("declare", "said"), MISTYPED.values(), ids=MISTYPED)
def test_what_is_of_another_type_is_named_with_what_it_must_be(declare, said):
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert str(caught.value).startswith(said)
