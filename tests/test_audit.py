"""In, dead and late are all that came: offset by offset, and the command says what is missing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from pyiceberg.exceptions import CommitFailedException, ValidationException

from connectors import log
from connectors.access import KafkaAccess
from connectors.changes import Change, change_of
from connectors.deadletters import DeadLetters
from connectors.heartbeat import payload
from headwater.audit import (
    Audit,
    PartitionAudit,
    Span,
    StreamAudit,
    TableAudit,
    ViewRows,
    _account,
    _unchecked,
    held,
)
from headwater.cli import headwater
from headwater.commands.audit import _of_stream
from iceberg.catalog import create_tables, open_catalog
from iceberg.commits import commit_beside_others
from schemas import seconds
from tests.conftest import catalog, eventually
from tests.corpus import NOON
from tests.shop import customer_facts, customers, last_purchase, purchases, repository


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


def test_what_carries_no_record_is_neither_missing_nor_pending():
    """Such as the mark of a transaction; a record behind it is pending all the same."""
    marked = _account(0, 10, 20, np.array([10, 11, 14, 14]), {16}, {12}, np.array([13, 18]))
    assert (marked.produced, marked.missing, marked.twice, marked.pending) == (8, 1, 1, 2)
    assert marked.where == ["15 to 15"]
    alone = _account(0, 10, 12, np.array([], np.int64), set(), set(), np.array([10, 11]))
    assert (alone.produced, alone.missing, alone.pending) == (0, 0, 0)


class Log:
    """A log of one partition that carries those values, by offset, and begins at `low`."""

    def __init__(self, low, values, end=10**9):
        self.low, self.values, self.end, self.asked = low, values, end, []

    def bounds(self, topic):
        return {0: (self.low, self.end), 1: (0, 0)}

    def messages(self, topic, starts, ends):
        self.asked.append((starts[0], ends[0]))
        for offset, value in self.values.items():
            if max(self.low, starts[0]) <= offset < ends[0]:
                yield SimpleNamespace(offset=lambda at=offset: at, value=lambda of=value: of)


def test_only_what_has_no_trace_is_read_and_what_is_deleted_is_not_said_to_carry_nothing():
    it = Audit(KafkaAccess(""), None, repository)
    it._log = Log(7, {8: b"{}", 300_001: b"{}"})
    untraced = {0: np.array([5, 8, 9, 300_000, 300_001]), 1: np.array([], np.int64)}
    _, bare = it._untraced("t", untraced)
    assert [bare[0].tolist(), bare[1].tolist()] == [[9, 300_000], []]
    assert it._log.asked == [(5, 10), (300_000, 300_002)]


@pytest.fixture
def audited(tmp_path, monkeypatch):
    """Audits the purchases, of what is archived, dead and in Kafka."""
    tables = open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}")
    create_tables(tables, [], [purchases])
    monkeypatch.setattr("headwater.audit.late_counts", lambda *_: {})
    monkeypatch.setattr("headwater.audit.aborted_rows", lambda *_: [])

    def run(log, archived, dead=(), stream=purchases):
        letters = [SimpleNamespace(partition=0, offset=offset) for offset in dead]
        monkeypatch.setattr(DeadLetters, "read", lambda *_: letters)
        at = datetime(2013, 1, 1, tzinfo=UTC)
        rows = [
            {"_topic": purchases.topic, "_partition": 0, "_offset": offset, "_archived_at": at}
            | {"_schema_version": 1, "event_time": at, "customer": "ada"}
            for offset in archived
        ]
        table = tables.load_table("raw.purchases")
        table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
        it = Audit(KafkaAccess(""), tables, repository)
        it._log = log
        (found,) = it.run([stream], None, None, 0)
        return found

    return run


def test_the_beats_of_a_stream_that_declares_none_any_more_are_not_missing(audited):
    assert purchases.heartbeat is None
    found = audited(Log(0, {1: payload(7), 2: b"{}"}, 4), [0, 3])
    (part, _) = found.partitions
    assert (part.heartbeats, part.missing, part.where) == (1, 1, ["2 to 2"])


def test_a_beat_that_was_none_is_a_dead_letter_and_not_there_twice(audited):
    """One of a time to come, and one without a number, between two that are some."""
    values = {0: payload(7), 1: payload(10**14), 2: b'{"$heartbeat":soon}', 4: payload(8)}
    log = Log(0, values | {3: b"{}"}, 5)
    beating = replace(purchases, heartbeat=seconds(10))
    found = audited(log, [3], dead=[1, 2], stream=beating)
    (part, _) = found.partitions
    assert (part.dead, part.heartbeats, part.twice, part.missing) == (2, 2, 0, 0)
    assert found.balanced


def test_what_kafka_deleted_before_it_was_archived_is_lost(audited):
    """Of offsets 2 to 8 one is a dead letter; what is archived and deleted since is no loss."""
    found = audited(Log(9, {9: b"{}"}, 10), [0, 1], dead=[4])
    (part, _) = found.partitions
    assert (part.deleted, part.deleted_where, part.pending) == (6, "2 to 8", 1)
    assert not found.balanced
    assert found.document()["deleted"] == 6
    assert list(_of_stream(found))[-1] == (
        "  partition 0: 6 records of offsets 2 to 8 LOST: Kafka deleted them before they were"
        " archived; unless all were heartbeats or marks of transactions, of which nothing is kept"
    )


def test_what_kafka_deleted_once_it_was_archived_is_no_loss(audited):
    found = audited(Log(2, {}, 4), range(4))
    assert (found.balanced, found.document()["deleted"]) == (True, 0)


SECOND = 1_357_034_400_123
TEXT = "2013-01-01T10:00:00.123999Z"
ADA = {"customer": "ada", "updated_at": SECOND}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"op": "c", "after": ADA}, Change("ada", SECOND, 7)),
        ({"op": "r", "after": ADA | {"updated_at": TEXT}}, Change("ada", SECOND, 7)),
        ({"op": "d", "before": {"customer": "ada"}, "after": None}, Change("ada", 7, 7)),
        ({"op": "u", "after": None}, None),
        ({"op": "u", "after": {"customer": "ada"}}, None),
        ({"op": "u", "after": ADA | {"updated_at": "soon"}}, None),
    ],
)
def test_a_change_is_the_key_and_time_of_its_row(change, told):
    payload = json.dumps(change | {"source": {"ts_ms": 7}}).encode()
    assert change_of(customers, payload) == told
    assert change_of(customers, b"\0\0\0\0\1" + payload) == told


def test_what_is_no_change_is_none():
    for value in (None, b"", b"{", b"\xff", b"[]"):
        assert change_of(customers, value) is None, value


def test_one_row_that_is_missing_and_another_twice_do_not_balance():
    changes = Counter([("ada", 1), ("bob", 1)])
    assert held(Counter(changes), changes) == ViewRows(2, 0, 0)
    assert held(Counter([("ada", 1), ("ada", 1)]), changes) == ViewRows(2, 1, 1)
    assert held(Counter([("ada", 1), ("bob", 2)]), changes) == ViewRows(2, 1, 1)


def test_changes_of_one_time_and_rows_that_a_snapshot_brings_again_count_as_often_as_they_came():
    changes = Counter({("ada", 1): 2, ("bob", 1): 1})
    assert held(Counter(changes), changes) == ViewRows(3, 0, 0)
    assert held(Counter([("ada", 1), ("bob", 1)]), changes) == ViewRows(2, 1, 0)
    assert held(Counter(changes) + Counter([("bob", 1)]), changes) == ViewRows(4, 0, 1)


def test_why_a_captured_table_is_not_checked():
    views, bounds = [customer_facts], {0: (0, 9)}
    assert _unchecked(views, True, bounds) == ""
    assert "no view is made of it" in _unchecked([], True, bounds)
    assert "over the whole log only" in _unchecked(views, False, bounds)
    assert "Kafka has deleted its first changes" in _unchecked(views, True, {0: (3, 9)})


GOOD = TableAudit("t", [Span(0, 0, 9, 1)], {"facts": ViewRows(8, 0, 0)})
WRONG = TableAudit("t", [Span(0, 0, 9, 1)], {"facts": ViewRows(8, 1, 1)})
UNCHECKED = TableAudit("t", [Span(0, 0, 9, 1)], note="not checked: because")


def test_of_what_was_not_checked_no_number_is_told_that_nobody_measured():
    told = UNCHECKED.document()
    assert told["balanced"] is None
    assert (told["produced"], told["dead"], told["note"]) == (9, 1, "not checked: because")
    assert not {"archived", "missing", "twice", "in"} & {*told, *told["partitions"][0]}


def test_of_a_part_of_the_log_nobody_knows_how_many_rows_came_in():
    part = PartitionAudit(0, 0, 9, 1, archived=8, heartbeats=0, twice=0, missing=0, pending=0)
    whole = StreamAudit("s", [part], {"v": 3})
    assert whole.document()["in"] == {"v": 5}
    told = replace(whole, whole=False).document()
    assert "in" not in told
    assert (told["late"], told["balanced"]) == ({"v": 3}, True)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([GOOD], 0),
        ([GOOD, UNCHECKED], 0),
        ([GOOD, WRONG], 1),
        ([UNCHECKED, WRONG], 1),
        ([UNCHECKED], 1),
    ],
)
def test_what_cannot_be_checked_is_said_and_is_no_reason_to_fail_beside_what_can(
    found, code, tmp_path, monkeypatch
):
    monkeypatch.setenv("HEADWATER_CATALOG_URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("HEADWATER_WAREHOUSE", f"file://{tmp_path}/warehouse")
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")
    monkeypatch.setattr(Audit, "run", lambda *_: found)
    done = CliRunner().invoke(headwater, ["audit"])
    assert done.exit_code == code, done.output
    for one, line in (
        (GOOD, "t: 9 produced, 1 dead: balanced\n  facts: 8 rows, 0 missing, 0 twice\n"),
        (WRONG, "t: 9 produced, 1 dead: NOT balanced\n  facts: 8 rows, 1 missing, 1 twice\n"),
        (UNCHECKED, "t: 9 produced, 1 dead: not checked\n  not checked: because\n"),
    ):
        assert (line in done.output) == (one in found)


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
    captured = told["shop.public.customers"]
    assert captured["in"]["customer_facts"] + captured["dead"] == captured["produced"] > 500


def test_transactions_leave_nothing_to_account_for_but_the_events_that_they_committed(shop):
    producer = Producer(
        {"bootstrap.servers": shop.settings.kafka, "transactional.id": "audited by transactions"}
    )
    producer.init_transactions(30)
    end = log.Log(shop.settings.kafka_access).ends(purchases.topic)
    for number, finish in enumerate(
        (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)
    ):
        producer.begin_transaction()
        for partition in (0, 1):
            event = {"event_time": NOON + number, "customer": f"by transaction {number}"}
            producer.produce(
                purchases.topic, json.dumps(event), partition=partition, timestamp=NOON + number
            )
        assert producer.flush(30) == 0
        finish(30)
    code, (found,) = audit(shop, "purchases", "--wait", "60")
    assert code == 0, found
    for part in found["partitions"]:
        assert part["end"] == end[part["partition"]] + 6
        assert part["bare"] >= 4
    table = catalog(shop.settings).load_table("raw.purchases")
    rows = table.scan(row_filter="customer == 'by transaction 1'").to_arrow()
    assert rows.num_rows == 0, "nobody committed it"


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
    assert "in" not in found


def test_a_captured_tables_row_in_the_place_of_another_is_found(shop):
    """As many rows as changes, and yet one is missing."""
    shop.sql("INSERT INTO customers (customer) VALUES ('audited once'), ('audited twice')")
    name = "features.customer_facts"
    stored = catalog(shop.settings)

    def rows(key):
        return stored.load_table(name).scan(row_filter=f"customer = '{key}'").to_arrow()

    assert eventually(lambda: len(rows("audited once")) == len(rows("audited twice")) == 1)
    lost, doubled = rows("audited once"), rows("audited twice")

    def put(key, rows):
        """In the place of all rows of a customer, and of those alone."""
        commit_beside_others(
            name, lambda: stored.load_table(name).overwrite(rows, f"customer = '{key}'")
        )

    put("audited once", doubled)
    try:
        code, (found,) = audit(shop, "customers", "--wait", "0")
        assert code == 1
        assert (found["balanced"], found["missing"], found["twice"]) == (False, 1, 1)
        assert found["in"]["customer_facts"] + found["dead"] == found["produced"]
    finally:
        put("audited twice", doubled)
        put("audited once", lost)
    code, (found,) = audit(shop, "customers", "--wait", "60")
    assert (code, found["missing"], found["twice"]) == (0, 0, 0)


def test_a_captured_table_that_is_joined_with_alone_is_not_said_to_balance(shop):
    without = replace(repository, views=(last_purchase,))
    it = Audit(shop.settings.kafka_access, catalog(shop.settings), without)
    (found,) = it.run([customers], None, None, 30)
    assert found.balanced is None
    assert found.document()["produced"] > 500
    assert "no view is made of it" in found.note
