"""A second feature repository, as small as one can be: the platform knows nothing of flights."""

from __future__ import annotations

from dataclasses import replace

from schemas import (
    CdcTable,
    Column,
    Entity,
    EventStream,
    FeatureView,
    Repository,
    Type,
    Window,
    among,
    count,
    days,
    fresh,
    hours,
    latest,
    over,
    present,
    rate,
    seconds,
    unique,
    within,
)

customer = Entity("customer", "customer")

purchases = EventStream(
    name="purchases",
    topic="shop.purchases",
    columns=(
        Column("customer", Type.STRING),
        Column("item", Type.STRING, required=False),
        Column("quantity", Type.INT64, required=False),
        Column("price", Type.FLOAT64, required=False),
        Column("gift", Type.BOOL, required=False),
        Column("wanted_by", Type.TIMESTAMP, required=False),
        Column("channel", Type.STRING, required=False),
        Column("discount", Type.FLOAT64, required=False),
    ),
    partition_by="customer",
    disorder=seconds(60),
    expectations=(
        among("channel", "web", "shop", reject=True),
        within("discount", 0, 1, reject=True),
        present("channel"),
    ),
)

last_purchase = FeatureView(
    name="last_purchase",
    source=purchases,
    entities=(customer,),
    features=(
        *latest("item", "quantity", "price", "gift", "wanted_by"),
        *over([days(1)], count()),
    ),
    ttl=days(7),
)

customers = CdcTable(
    name="customers",
    table="customers",
    columns=(
        Column("customer", Type.STRING),
        Column("note", Type.STRING, required=False),
        Column("points", Type.INT64, required=False),
        Column("small", Type.INT64, required=False),
        Column("balance", Type.FLOAT64, required=False),
        Column("ratio", Type.FLOAT64, required=False),
        Column("member", Type.BOOL, required=False),
        Column("code", Type.STRING, required=False),
        Column("more", Type.STRING, required=False),
        Column("born", Type.INT64, required=False, description="Days since 1970"),
        Column("wakes", Type.INT64, required=False, description="Milliseconds since midnight"),
        Column("seen", Type.TIMESTAMP, required=False),
        Column("updated_at", Type.TIMESTAMP),
    ),
    primary_key="customer",
)

customer_facts = FeatureView(
    name="customer_facts",
    source=customers,
    entities=(customer,),
    features=latest(*(c.name for c in customers.columns[1:-1])),
    ttl=days(7),
)

CUSTOMERS = """
CREATE TABLE IF NOT EXISTS customers (
  customer text PRIMARY KEY,
  note text,
  points integer,
  small smallint,
  balance numeric(12, 2),
  ratio real,
  member boolean,
  code uuid,
  more jsonb,
  born date,
  wakes time,
  seen timestamptz,
  updated_at timestamp(3) NOT NULL DEFAULT (clock_timestamp() AT TIME ZONE 'UTC')
);
CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := clock_timestamp() AT TIME ZONE 'UTC';
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION touch();
"""

visits = EventStream(
    name="visits",
    topic="shop.visits",
    columns=(Column("customer", Type.STRING),),
    partition_by="customer",
    disorder=seconds(2),
    heartbeat=seconds(1),
    expectations=(
        unique("customer"),
        fresh(hours(1)),
        rate(1, 3),
        among("customer", "ahead", "behind", "lonely"),
    ),
    checked=seconds(5),
    traced=True,
)

visit_counts = FeatureView(
    name="visit_counts",
    source=visits,
    entities=(customer,),
    features=over([Window(seconds(20), seconds(1))], count()),
    ttl=days(7),
    expectations=(
        within("count_20s", 0, 5, reject=True),
        unique("customer"),
        fresh(hours(1)),
        rate(1, 4),
        among("customer", "ahead", "behind", "busy", "lonely"),
    ),
    checked=seconds(5),
)

repository = Repository(
    name="shop", views=(last_purchase, customer_facts, visit_counts), services=()
)
untraced = replace(
    repository,
    views=(
        last_purchase,
        customer_facts,
        replace(visit_counts, source=replace(visits, traced=False)),
    ),
)
