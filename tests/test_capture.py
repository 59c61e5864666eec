"""A PostgreSQL table as features: every kind of change, and every change of the table."""

from __future__ import annotations

import json
import random
import string
import time
from dataclasses import replace

import pytest
import requests

from connectors.deadletters import DeadLetters
from connectors.log import Log
from connectors.topics import KafkaUnavailable
from headwater.apply import apply_connector, apply_source
from schemas import CdcTable, Column, Entity, FeatureView, Type, days, latest
from tests.conftest import catalog, eventually
from tests.shop import customer_facts, repository

TOPIC = "shop.public.customers"


def facts(shop, key):
    return shop.values(customer_facts, key)


def becomes(shop, key, **wanted):
    """Whether the customer's values come to be those."""

    def check():
        found = facts(shop, key)
        return found is not None and {name: found[name] for name in wanted} == wanted

    return eventually(check) or facts(shop, key)


def offline(shop, key):
    """The customer's rows in Iceberg, by event time."""
    table = catalog(shop.settings).load_table("features.customer_facts")
    rows = table.scan(row_filter=f"customer = '{key}'").to_arrow().to_pylist()
    return sorted(rows, key=lambda row: (row["event_time"], row["available_at"]))


def letters(shop):
    return DeadLetters(shop.settings.kafka_access, [TOPIC]).read(TOPIC)


def test_the_first_snapshot_and_the_changes_join_without_gap(shop):
    keys = [(f"old {n}", n) for n in range(1, 501)]
    keys += [(f"new {n}", n) for n in range(1, shop.written + 1)]
    assert shop.written > 20

    def missing():
        return [key for key, n in keys if (facts(shop, key) or {}).get("points") != n]

    assert eventually(lambda: not missing()), missing()


def test_every_type_is_its_value(shop):
    shop.sql(
        "INSERT INTO customers VALUES ('types', 'é\t😀', 2147483647, -32768, 12345678.25, 0.5,"
        " true,"
        " '6f9619ff-8b86-d011-b42d-00c04fc964ff', '{\"a\": [1]}', '1969-12-31', '23:59:59.999',"
        " '2013-01-01 12:00:00.123456+02')"
    )
    assert (
        becomes(
            shop,
            "types",
            note="é\t😀",
            points=2147483647,
            small=-32768,
            balance=12345678.25,
            ratio=0.5,
            member=True,
            code="6f9619ff-8b86-d011-b42d-00c04fc964ff",
            more='{"a": [1]}',
            born=-1,
            wakes=86_399_999,
            seen=1_357_034_400_123,
        )
        is True
    )
    shop.sql("INSERT INTO customers (customer) VALUES ('nulls')")
    assert becomes(shop, "nulls", **{c.name: None for c in customer_facts.schema}) is True


def test_a_null_is_no_default_of_its_column(shop):
    """Of a row that comes with one, and of one that is changed to one."""
    shop.sql("ALTER TABLE customers ALTER COLUMN small SET DEFAULT 3")
    try:
        shop.sql("INSERT INTO customers (customer, points) VALUES ('as it comes', 1)")
        assert becomes(shop, "as it comes", points=1, small=3) is True
        shop.sql("INSERT INTO customers (customer, points, small) VALUES ('a null', 1, NULL)")
        assert becomes(shop, "a null", points=1, small=None) is True
        shop.sql("UPDATE customers SET small = NULL, points = 2 WHERE customer = 'as it comes'")
        assert becomes(shop, "as it comes", points=2, small=None) is True
    finally:
        shop.sql("ALTER TABLE customers ALTER COLUMN small DROP DEFAULT")


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [("balance", "NaN", "type"), ("seen", "infinity", "type"), ("seen", "20000-01-01", "range")],
)
def test_a_value_no_feature_can_hold_is_a_dead_letter(shop, column, value, kind):
    before = len(letters(shop))
    shop.sql(
        f"INSERT INTO customers (customer, {column}) VALUES (%s, %s)", f"{column} {value}", value
    )
    assert eventually(lambda: len(letters(shop)) == before + 1)
    letter = letters(shop)[-1]
    assert letter.kind == kind, letter.reason
    assert f"$.after.{column}" in letter.reason
    # What it was is no reason to refuse what it became.
    key = f"{column} {value}"
    shop.sql(f"UPDATE customers SET {column} = NULL, points = 8 WHERE customer = %s", key)
    assert becomes(shop, key, points=8) is True


def test_a_row_with_a_time_may_change_and_go(shop):
    shop.sql("INSERT INTO customers (customer, points, seen) VALUES ('seen', 1, now())")
    assert becomes(shop, "seen", points=1) is True
    shop.sql("UPDATE customers SET points = 2 WHERE customer = 'seen'")
    assert becomes(shop, "seen", points=2) is True
    shop.sql("DELETE FROM customers WHERE customer = 'seen'")
    assert becomes(shop, "seen", points=None, seen=None) is True


def test_a_large_text_that_did_not_change_keeps_its_value(shop):
    note = "".join(random.Random(1).choices(string.ascii_letters, k=100_000))
    shop.sql("INSERT INTO customers (customer, note, points) VALUES ('toast', %s, 1)", note)
    assert becomes(shop, "toast", points=1, note=note) is True
    shop.sql("UPDATE customers SET points = 2 WHERE customer = 'toast'")
    assert becomes(shop, "toast", points=2, note=note) is True


def test_a_changed_key_moves_the_values(shop):
    shop.sql("INSERT INTO customers (customer, points) VALUES ('maiden', 5)")
    assert becomes(shop, "maiden", points=5) is True
    shop.sql("UPDATE customers SET customer = 'married' WHERE customer = 'maiden'")
    assert becomes(shop, "married", points=5) is True
    assert becomes(shop, "maiden", points=None) is True
    assert eventually(lambda: [row["points"] for row in offline(shop, "maiden")] == [5, None])
    assert eventually(lambda: [row["points"] for row in offline(shop, "married")] == [5])


def test_a_deleted_row_is_null_online_and_offline_and_may_come_back(shop):
    shop.sql("INSERT INTO customers (customer, points) VALUES ('leaver', 5)")
    shop.sql("DELETE FROM customers WHERE customer = 'leaver'")
    assert becomes(shop, "leaver", points=None) is True
    assert eventually(lambda: [row["points"] for row in offline(shop, "leaver")] == [5, None])
    shop.sql("INSERT INTO customers (customer, points) VALUES ('leaver', 6)")
    assert becomes(shop, "leaver", points=6) is True


def test_a_row_that_comes_back_before_its_deletion_is_read_stays(shop):
    shop.sql("INSERT INTO customers (customer, points) VALUES ('regretful', 5)")
    assert becomes(shop, "regretful", points=5) is True
    shop.must("connectors", "pause")
    assert eventually(lambda: "PAUSED" in shop.headwater("connectors", "status").stdout)
    shop.sql("DELETE FROM customers WHERE customer = 'regretful'")
    shop.sql("INSERT INTO customers (customer, points) VALUES ('regretful', 6)")
    time.sleep(1)  # the connector reads both long after the second
    shop.must("connectors", "resume")
    assert becomes(shop, "regretful", points=6) is True
    assert eventually(lambda: [r["points"] for r in offline(shop, "regretful")] == [5, None, 6])


def test_apply_is_idempotent_and_shows_what_differs(shop):
    same = shop.headwater("connectors", "apply", "--check")
    assert (same.returncode, same.stdout) == (0, "")
    url = f"{shop.settings.connect_url}/connectors/shop-tables/config"
    config = requests.get(url, timeout=10).json() | {"heartbeat.interval.ms": "5", "extra": "1"}
    requests.put(url, json=config, timeout=10).raise_for_status()
    before = len(offline(shop, "old 250"))
    shop.sql("ALTER PUBLICATION headwater_shop DROP TABLE customers")
    shop.sql("INSERT INTO customers (customer, points) VALUES ('unpublished', 1)")
    shop.sql("ALTER TABLE customers REPLICA IDENTITY DEFAULT")
    found = json.loads(shop.headwater("connectors", "apply", "--check", "--json").stdout)
    assert found["connector"] == {
        "extra": {"found": "1", "wanted": None},
        "heartbeat.interval.ms": {"found": "5", "wanted": "10000"},
    }
    assert [change["what"] for change in found["postgres"]] == [
        "public.customers replica identity",
        "publication headwater_shop",
    ]
    status = shop.headwater("connectors", "status")
    assert status.returncode == 1
    assert "PostgreSQL: publication headwater_shop: " in status.stdout
    done = shop.headwater("connectors", "apply")
    assert done.returncode == 0, done.stderr
    assert "- heartbeat.interval.ms = 5\n+ heartbeat.interval.ms = 10000\n" in done.stdout
    assert "sends the present rows of customers" in done.stdout
    assert shop.headwater("connectors", "apply", "--check").returncode == 0
    assert shop.headwater("connectors", "status").returncode == 0
    assert becomes(shop, "unpublished", points=1) is True
    # All rows come again: the tests after this one count those of their own.
    assert eventually(lambda: len(offline(shop, "old 250")) == before + 1)


def test_a_paused_connector_misses_nothing(shop):
    assert shop.headwater("connectors", "pause").returncode == 0
    assert eventually(lambda: "PAUSED" in shop.headwater("connectors", "status").stdout)
    shop.sql("INSERT INTO customers (customer, points) VALUES ('patient', 1)")
    assert facts(shop, "patient") is None
    assert shop.headwater("connectors", "resume").returncode == 0
    assert becomes(shop, "patient", points=1) is True
    assert shop.headwater("connectors", "restart").returncode == 0
    shop.sql("UPDATE customers SET points = 2 WHERE customer = 'patient'")
    assert becomes(shop, "patient", points=2) is True


def test_a_snapshot_beside_the_changes_ends_with_the_newest_rows(shop):
    before = len(offline(shop, "old 250"))
    done = shop.headwater("connectors", "snapshot", "customers")
    assert done.returncode == 0, done.stderr
    for n in range(1, 101):
        shop.sql("UPDATE customers SET points = %s WHERE customer = %s", 1000 + n, f"old {n}")
    wanted = [(f"old {n}", 1000 + n) for n in range(1, 101)] + [("old 250", 250)]

    def wrong():
        return [key for key, n in wanted if (facts(shop, key) or {}).get("points") != n]

    assert eventually(lambda: not wrong()), wrong()
    assert eventually(lambda: len(offline(shop, "old 250")) == before + 1), "it came again"
    assert not wrong()
    unknown = shop.headwater("connectors", "snapshot", "costumers")
    assert unknown.returncode == 2
    assert "'costumers'" in unknown.stderr


def test_the_rows_come_of_a_table_that_is_declared_later(shop):
    shop.sql(
        "CREATE TABLE public.pets (pet text PRIMARY KEY, age int, updated_at timestamptz NOT NULL)"
    )
    shop.sql("INSERT INTO public.pets SELECT 'pet ' || n, n, now() FROM generate_series(1, 500) n")
    columns = (
        Column("pet", Type.STRING),
        Column("age", Type.INT64, required=False),
        Column("updated_at", Type.TIMESTAMP),
    )
    pets = CdcTable("pets", "pets", columns, primary_key="pet")
    view = FeatureView("pet_facts", pets, (Entity("pet", "pet"),), latest("age"), ttl=days(1))
    more = replace(repository, views=(*repository.views, view))
    log, topic = Log(shop.settings.kafka_access), "shop.public.pets"

    def there():
        try:
            return {json.loads(message.value())["after"]["pet"] for message in log.messages(topic)}
        except KafkaUnavailable:
            return set()  # no topic yet

    said = []
    try:
        for _ in range(2):
            apply_source(shop.settings, more, said.append)
            apply_connector(shop.settings, more, said.append)
        shop.sql("INSERT INTO public.pets VALUES ('newcomer', 0, now())")
        assert eventually(lambda: len(there()) == 501), len(there())
        assert sum("sends the present rows of pets" in text for text in said) == 1
    finally:
        apply_connector(shop.settings, repository, print)
        shop.sql("DROP TABLE public.pets")


def test_the_rows_come_of_a_table_that_is_made_anew_under_its_name(shop):
    """As migrations do that copy a table: its changes are read again, and what it had meanwhile."""
    shop.sql("INSERT INTO customers (customer, points) VALUES ('moved', 1)")
    assert becomes(shop, "moved", points=1) is True
    before = len(offline(shop, "old 250"))
    shop.sql("CREATE TABLE public.copied (LIKE public.customers INCLUDING ALL)")
    shop.sql("INSERT INTO public.copied SELECT * FROM public.customers")
    shop.sql("ALTER TABLE public.customers RENAME TO left_behind")
    shop.sql("ALTER TABLE public.copied RENAME TO customers")
    shop.sql(
        "CREATE TRIGGER touch BEFORE UPDATE ON public.customers"
        " FOR EACH ROW EXECUTE FUNCTION public.touch()"
    )
    try:
        shop.sql("UPDATE customers SET points = 2 WHERE customer = 'moved'")
        assert shop.headwater("connectors", "status").returncode == 1
        shop.must("connectors", "apply")
        assert becomes(shop, "moved", points=2) is True
        shop.sql("UPDATE customers SET points = 3 WHERE customer = 'moved'")
        assert becomes(shop, "moved", points=3) is True
        shop.must("connectors", "status")
        assert eventually(lambda: len(offline(shop, "old 250")) == before + 1)
    finally:
        shop.sql("DROP TABLE public.left_behind")


def test_a_connector_that_was_deleted_and_made_again_sends_the_rows(shop):
    before = len(offline(shop, "old 250"))
    url = f"{shop.settings.connect_url}/connectors/shop-tables"
    requests.delete(url, timeout=10).raise_for_status()
    shop.sql("INSERT INTO customers (customer, points) VALUES ('orphan', 1)")
    done = shop.must("connectors", "apply")
    assert "sends the present rows of customers" in done.stdout
    assert becomes(shop, "orphan", points=1) is True
    assert eventually(lambda: len(offline(shop, "old 250")) == before + 1)
    shop.must("connectors", "status")


def test_a_table_may_change(shop):
    shop.sql("INSERT INTO customers (customer, note, points) VALUES ('schema', 'n', 1)")
    assert becomes(shop, "schema", points=1) is True
    shop.sql("ALTER TABLE customers ADD COLUMN extra text DEFAULT 'x'")
    shop.sql("UPDATE customers SET points = 2 WHERE customer = 'schema'")
    assert becomes(shop, "schema", points=2, note="n") is True, "an added column is passed over"
    shop.sql("ALTER TABLE customers ALTER COLUMN points TYPE bigint")
    shop.sql("UPDATE customers SET points = 1099511627776 WHERE customer = 'schema'")
    assert becomes(shop, "schema", points=1099511627776) is True, "a wider type holds more"
    shop.sql("ALTER TABLE customers DROP COLUMN extra")
    assert shop.headwater("connectors", "status").returncode == 0
    shop.sql("ALTER TABLE customers RENAME COLUMN note TO remark")
    shop.sql("UPDATE customers SET points = 3 WHERE customer = 'schema'")
    assert becomes(shop, "schema", points=3, note=None) is True, "an optional column goes to null"
    status = shop.headwater("connectors", "status", "--json")
    assert status.returncode == 1
    assert json.loads(status.stdout)["drift"] == [
        "public.customers.note: declared, and not in the table"
    ]
    assert shop.headwater("connectors", "apply").returncode == 1, "and nothing is applied"
    shop.sql("ALTER TABLE customers RENAME COLUMN remark TO note")
    shop.sql("UPDATE customers SET points = 4 WHERE customer = 'schema'")
    assert becomes(shop, "schema", points=4, note="n") is True


def test_without_a_required_column_every_change_is_a_dead_letter(shop):
    shop.sql("INSERT INTO customers (customer, points) VALUES ('required', 1)")
    assert becomes(shop, "required", points=1) is True
    before = len(letters(shop))
    shop.sql("DROP TRIGGER touch ON customers")
    shop.sql("ALTER TABLE customers RENAME COLUMN updated_at TO changed_at")
    shop.sql("UPDATE customers SET points = 2 WHERE customer = 'required'")
    assert eventually(lambda: len(letters(shop)) == before + 1)
    assert letters(shop)[-1].reason == "missing: required `timestamp` - at `$.after.updated_at`"
    assert facts(shop, "required")["points"] == 1
    shop.sql("ALTER TABLE customers RENAME COLUMN changed_at TO updated_at")
    shop.sql("UPDATE customers SET points = 3, updated_at = now() WHERE customer = 'required'")
    assert becomes(shop, "required", points=3) is True
