"""In, dead and late are all that came: offset by offset, and the command says what is missing."""

from __future__ import annotations

import json

import numpy as np
from confluent_kafka import Producer
from pyiceberg.exceptions import CommitFailedException, ValidationException

from headwater.audit import _account
from tests.conftest import catalog, eventually
from tests.corpus import NOON
from tests.shop import purchases


def audit(shop, *arguments):
    done = shop.headwater("audit", *arguments, "--json")
    return done.returncode, json.loads(done.stdout)


def test_a_partition_is_accounted_for_offset_by_offset():
    whole = _account(0, 10, 20, np.arange(10, 18), {18, 19}, set())
    assert (whole.archived, whole.dead, whole.missing, whole.twice, whole.pending) == (
        8,
        2,
        0,
        0,
        0,
    )
    holes = _account(0, 10, 20, np.array([10, 11, 14, 14, 17]), {11, 15}, {12})
    assert (holes.missing, holes.twice, holes.pending) == (2, 2, 2)
    assert holes.where == ["13 to 13", "16 to 16"]
    assert _account(0, 10, 20, np.array([], np.int64), set(), set()).pending == 10
    assert _account(0, 10, 10, np.array([], np.int64), set(), set()).produced == 0


def test_every_record_of_the_shop_is_somewhere_once(shop):
    producer = Producer({"bootstrap.servers": shop.settings.kafka})
    for n in range(50):
        event = {"event_time": NOON + n, "customer": "audited"}
        payload = b"bad" if n % 10 == 0 else json.dumps(event).encode()
        producer.produce(purchases.topic, payload, partition=n % 2, timestamp=NOON + n)
    assert producer.flush(30) == 0
    code, found = audit(shop, "--wait", "60")
    told = {one["topic"]: one for one in found}
    assert code == 0, found
    bought = told[purchases.topic]
    assert bought["produced"] == bought["archived"] + bought["dead"]
    assert bought["dead"] >= 5
    late = bought["late"]["last_purchase"]
    assert bought["in"]["last_purchase"] + late + bought["dead"] == bought["produced"]
    customers = told["shop.public.customers"]
    assert customers["in"]["customer_facts"] + customers["dead"] == customers["produced"] > 500


def test_a_row_too_many_is_found_in_its_time(shop):
    table = catalog(shop.settings).load_table("raw.purchases")
    row = table.scan(row_filter="customer == 'audited'", limit=1).to_arrow().slice(0, 1)

    def appended():
        try:
            table.refresh().append(row.cast(table.schema().as_arrow()))
        except (CommitFailedException, ValidationException):  # the job committed first
            return False
        return True

    assert eventually(appended)
    code, (found,) = audit(shop, "purchases", "--wait", "0")
    assert (code, found["twice"]) == (1, 1)
    code, (found,) = audit(shop, "purchases", "--from", "2100-01-01", "--wait", "0")
    assert (code, found["produced"]) == (0, 0)
