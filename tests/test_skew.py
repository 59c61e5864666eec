"""The feature log and what it is held against: the API, Kafka, the archive and a recomputation."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
import redis
import requests
from click.testing import CliRunner

from api.feature_log import KafkaFeatureLog
from api.lookup import Found, Part
from api.plan import Plan
from connectors.access import KafkaAccess
from connectors.heartbeat import payload as heartbeat
from connectors.redis_codec import encode_event_time, encode_value, entity_key, feature_field
from connectors.registered import served as registered
from feature_repo.flights.views.origin_delays import origin_delays
from headwater import skew
from headwater.cli import headwater as command
from iceberg.catalog import create_tables, open_catalog
from iceberg.offline import Lookup, join
from iceberg.tables import archive_schema
from observability.metrics import ApiMetrics
from schemas import Column, Entity, EventStream, FeatureView, Repository, Type, latest
from schemas import days as for_days
from schemas.served import served_stream
from tests import shop
from tests.conftest import catalog, eventually, produce_awake
from tests.recorded import DAY, FIRST, of_days
from tests.test_platform import headwater

MAY = FIRST + 120 * DAY
FEATURES = [
    *("origin_delays:count_1d", "origin_delays:dep_delay_mean_1d", "origin_delays:late_share_1d"),
    *("origin_weather:temp", "airport_facts:name"),
]
ORIGINS = ("JFK", "LGA", "EWR")


def days(start, end):
    """The recorded events of those days of May 2013, by stream."""
    return of_days(MAY, start, end)


def look_up(running, trace_id=None):
    """The answer for the three airports."""
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-00"} if trace_id else {}
    reply = requests.post(
        f"{running.settings.api_url}/v1/features",
        json={
            "features": FEATURES,
            "entities": [{"origin": name, "faa": name} for name in ORIGINS],
        },
        headers=headers,
        timeout=5,
    )
    assert reply.status_code == 200, reply.text
    return reply.json()["rows"]


def logged(running):
    """The rows of the log in Iceberg."""
    return catalog(running.settings).load_table("raw.flights_served").scan().to_arrow().to_pylist()


@pytest.fixture(scope="module")
def may(flying):
    """A platform with two days of May through it, and its facts, also if Redis lost them before."""
    running = flying()
    done = headwater(running, "online", "rebuild", "airport_facts")
    assert done.returncode == 0, done.stderr
    produce_awake(running.settings.kafka_access, days(0, 2))
    wanted = MAY + 2 * DAY - 4 * 3_600_000

    def through():
        with redis.Redis(port=running.settings.ports.redis) as online:
            key = entity_key("flights", origin_delays.entities, {"origin": "JFK"})
            found = online.hget(key, b"_ep:origin_delays")
        return found and int(found.split(b":")[1]) > wanted

    assert eventually(through)
    return running


def test_what_is_served_is_what_the_log_says(may):
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    trace_id = f"{time.time_ns():032x}"
    rows = look_up(may, trace_id)

    def arrived():
        return [row for row in logged(may) if row["trace_id"] == trace_id]

    # One event for each airport and view.
    found = eventually(lambda: len(arrived()) == 9 and arrived())
    assert found, logged(may)[-3:]
    assert {row["view"] for row in found} == {"origin_delays", "origin_weather", "airport_facts"}
    jfk = next(r for r in found if r["view"] == "origin_delays" and "JFK" in r["entity"])
    assert json.loads(jfk["entity"]) == {"origin": "JFK"}
    assert json.loads(jfk["answered"]) == {
        "count_1d": rows[0][0],
        "dep_delay_mean_1d": rows[0][1],
        "late_share_1d": rows[0][2],
    }
    done = headwater(may, "skew", "--from", since, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["origin_delays"]["answers"] == 3
    assert report["airport_facts"]["answers"] == 3
    equal = {name: one["equal"] for name, one in report["origin_delays"]["features"].items()}
    assert equal == {"count_1d": 3, "dep_delay_mean_1d": 3, "late_share_1d": 3}


def test_a_served_value_that_is_wrong_is_found_with_its_trace(may):
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    key = entity_key("flights", origin_delays.entities, {"origin": "LGA"})
    field = feature_field("origin_delays", "count_1d")
    trace_id = f"{time.time_ns():032x}"
    with redis.Redis(port=may.settings.ports.redis) as online:
        right = online.hget(key, field)
        online.hset(key, field, encode_value(Type.INT64, 123_456))
        try:
            assert look_up(may, trace_id)[1][0] == 123_456
        finally:
            online.hset(key, field, right)
    assert eventually(lambda: any(row["trace_id"] == trace_id for row in logged(may)))
    done = headwater(may, "skew", "--from", since)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "count_1d: 1 of 3 values differ" in done.stdout
    assert "served 123456, expected" in done.stdout
    assert trace_id in done.stdout
    assert "late_share_1d" not in done.stdout


def test_where_nothing_was_logged_it_says_so(may):
    done = headwater(may, "skew", "--to", "2013-01-01")
    assert done.returncode == 1
    assert "no answer was logged" in done.stderr


def test_what_the_jobs_wrote_is_held_against_the_day_before(may):
    table = catalog(may.settings).load_table("features.origin_delays")
    days_of = ("2013-05-01", "2013-05-02", "2013-05-03")

    def written(start, end):
        span = f"event_time >= '{start}T00:00:00+00:00' and event_time < '{end}T00:00:00+00:00'"
        keys = table.refresh().scan(span, selected_fields=("origin", "event_time")).to_arrow()
        return keys.group_by(["origin", "event_time"]).aggregate([]).num_rows

    assert eventually(lambda: written(*days_of[1:]) > 100)
    reference = written(*days_of[:2])
    span = ("--last", "1d", "--against", "1d", "--to", days_of[2])
    done = headwater(may, "drift", "origin_delays", *span, "--format", "json")
    assert done.returncode in (0, 1), done.stderr
    told = {one["feature"]: one for one in json.loads(done.stdout)["features"]}
    assert told.keys() == {feature.name for feature in origin_delays.features}
    assert {one["reference_rows"] for one in told.values()} == {reference}
    # A day's number of flights, early on the first recorded day and late on the second.
    assert told["count_1d"]["psi"] > 1
    assert done.returncode == any(one["moved"] for one in told.values())


EQUAL = skew.ViewSkew(answers=2, features={"count_1d": skew.FeatureSkew(equal=2)})
DIFFERS = skew.ViewSkew(answers=2, features={"count_1d": skew.FeatureSkew(1, 1)})
PARTLY = skew.ViewSkew(answers=1, unknown=3)
BLIND = skew.ViewSkew(unknown=3)
MISSING = skew.ViewSkew(answers=1, missing=3, lost=2)


@pytest.mark.parametrize(
    ("report", "code"),
    [
        ({"last_purchase": EQUAL}, 0),
        ({"last_purchase": PARTLY}, 0),
        ({"last_purchase": MISSING}, 0),
        ({"last_purchase": skew.ViewSkew(missing=3, lost=2), "customer_facts": EQUAL}, 1),
        ({"last_purchase": EQUAL, "of_last_year": BLIND}, 0),
        ({"last_purchase": DIFFERS}, 1),
        ({"last_purchase": BLIND}, 1),
        ({"last_purchase": BLIND, "customer_facts": EQUAL}, 1),
        ({"of_last_year": BLIND}, 1),
    ],
)
def test_what_could_not_be_compared_is_not_said_to_be_equal(report, code, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWATER_CATALOG_URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("HEADWATER_WAREHOUSE", f"file://{tmp_path}/warehouse")
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")
    monkeypatch.setattr(skew.Skew, "compare", lambda *_: report)
    done = CliRunner().invoke(command, ["skew"])
    assert done.exit_code == code, done.output
    told = "1 answers compared, 3 entities answered with nothing, 2 of which had values in Iceberg"
    assert (told in done.output) is (MISSING in report.values())


class Full:
    """A producer whose queue is full, and one that Kafka does not answer."""

    def __init__(self, full: bool) -> None:
        self.full = full

    def produce(self, *arguments: Any, on_delivery: Any, **more: Any) -> None:
        if self.full:
            raise BufferError
        on_delivery("timed out", None)


@pytest.mark.parametrize("producer", [Full(True), Full(False), None], ids=["full", "late", "long"])
def test_what_the_log_cannot_take_is_dropped_and_counted(producer):
    """A queue that is full, a Kafka that does not answer, and an event that no producer takes."""
    metrics = ApiMetrics()

    def dropped():
        name = "headwater_api_feature_log_events_total"
        return metrics.registry.get_sample_value(name, {"result": "dropped"}) or 0

    # Where Feast was imported first, metrics of one name share their values.
    metrics.logged.labels("dropped")
    before = dropped()
    log = KafkaFeatureLog("flights", KafkaAccess("nowhere:1"), 1.0, metrics, producer)
    log._send({"event_time": 1, "trace_id": "1", "entity": "k" * (1 << 20)})
    assert dropped() - before == 1


class Kept:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def produce(self, _topic, value, _key, on_delivery, **more):
        self.events.append(json.loads(value))
        on_delivery(None, None)

    def poll(self, _):
        """Nothing is left to hear of."""

    def flush(self, _):
        return 0


def counted(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"headwater_api_{name}_total", labels) or 0


def visits_found(metrics, count, value=lambda n: encode_value(Type.INT64, n)):
    """An answer of so many customers, and its rows: one customer is in the last row again."""
    selection = Plan(registered(shop.repository)).features(["visit_counts:count_20s"])
    (group,) = selection.groups
    (slot,) = group.slots
    rows = [{"customer": f"c{n}"} for n in [*range(count), 0]]
    keys = list(map(group.key_of, rows))
    replies: list[list[bytes | None]] = [[None] * group.fields for _ in range(count)]
    for n, reply in enumerate(replies):
        reply[slot.value_at], reply[slot.time_at] = value(n), encode_event_time(n)
    part = Part(group, keys, dict.fromkeys(keys), replies)
    return Found(selection, len(rows), 9.0, [part], metrics), rows


def noted_in(metrics, producer):
    return KafkaFeatureLog("shop", KafkaAccess("nowhere:1"), 1.0, metrics, producer)


def test_a_large_answer_is_noted_between_what_else_there_is_to_do():
    producer, metrics = Kept(), ApiMetrics()
    log = noted_in(metrics, producer)

    async def turns():
        await log.start()
        log.note(*visits_found(metrics, 330), "t")
        seen = [0, len(producer.events)]
        ends = time.monotonic() + 10
        while seen[-1] < 330 and time.monotonic() < ends:
            await asyncio.sleep(0)
            seen.append(len(producer.events))
        await log.stop()
        return seen

    seen = asyncio.run(turns())
    assert max(after - before for before, after in pairwise(seen)) <= 50
    assert [json.loads(one["entity"]) for one in producer.events] == [
        {"customer": f"c{n}"} for n in range(330)
    ]
    assert [json.loads(one["answered"]) for one in producer.events] == [
        {"count_20s": n} for n in range(330)
    ]
    assert [one["value_time"] for one in producer.events] == list(range(330))


def test_of_large_answers_so_many_wait_and_the_others_are_dropped_and_counted():
    producer, metrics = Kept(), ApiMetrics()
    before = counted(metrics, "feature_log_events", result="dropped")
    log = noted_in(metrics, producer)
    for _ in range(25):
        log.note(*visits_found(metrics, 1000), "t")
    dropped = counted(metrics, "feature_log_events", result="dropped") - before
    assert 0 < dropped < 5000
    asyncio.run(log.stop())
    assert len(producer.events) + dropped == 25 * 1000


def test_what_cannot_be_read_is_noted_as_null_and_not_counted_again():
    producer, metrics = Kept(), ApiMetrics()
    found, rows = visits_found(metrics, 3, lambda _: b"\xff")
    found.columns()
    before = counted(metrics, "unreadable_values", view="visit_counts")
    assert before >= 3
    noted_in(metrics, producer).note(found, rows, "t")
    assert [json.loads(one["answered"]) for one in producer.events] == [{"count_20s": None}] * 3
    assert counted(metrics, "unreadable_values", view="visit_counts") == before


def test_a_part_of_a_view_is_compared_with_that_part_of_the_whole(monkeypatch):
    """Of two events at one time the view takes the one that is greater in all that it reads."""
    columns = [Column("zone", Type.STRING, required=False), Column("fare", Type.FLOAT64)]
    rides = EventStream("rides", "rides", (Column("taxi", Type.STRING), *columns), "taxi")
    view = FeatureView(
        "v", rides, (Entity("taxi", "taxi"),), latest("zone", "fare"), ttl=for_days(1)
    )
    events = [
        {"taxi": "a", "event_time": 7, "zone": None, "fare": 3.0},
        {"taxi": "a", "event_time": 7, "zone": "A", "fare": 5.0},
    ]
    monkeypatch.setattr(skew, "late_rows", lambda *_: [])
    monkeypatch.setattr(skew.Skew, "_events", lambda *_: events)
    monkeypatch.setattr(skew.Skew, "_archived", lambda *_: 7)
    compare = skew.Skew(Repository("r", (view,), ()), None, None)._against_events
    whole, part = skew.ViewSkew(), skew.ViewSkew()
    compare(view, rides, [skew.Answered("v", ("a",), 7, {"zone": "A", "fare": 3.0}, "")], whole)
    compare(view, rides, [skew.Answered("v", ("a",), 7, {"fare": 3.0}, "")], part)
    assert (whole.answers, whole.mismatched) == (1, 0)
    assert (part.answers, part.mismatched) == (1, 0)
    assert part.features.keys() == {"fare"}


START = datetime(2026, 1, 1, tzinfo=UTC)


class Record:
    """A record in Kafka: its partition and its value."""

    def __init__(self, partition, value=b"{}"):
        self.partition, self.value = (lambda: partition), (lambda: value)


class Topic:
    """What Kafka has of visits: its ends, and what lies behind the archive's."""

    def __init__(self, *behind):
        self.behind = behind

    def __call__(self, _):
        return self

    def bounds(self, _):
        return {0: (0, 99), 1: (0, 99)}

    def messages(self, _, starts):
        assert starts == {0: 3, 1: 1}
        yield from self.behind


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Three visits of a customer, 3 seconds apart, and one of another 4 seconds after the first.

    `answer` notes what was served; `compare` what comes of it, with so much still in Kafka.
    """
    tables = open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")
    log = served_stream("shop")
    create_tables(tables, shop.repository.views, [shop.visits, log])
    offsets = Counter()

    def put(stream, at, partition=0, **row):
        place = {"_topic": stream.topic, "_partition": partition, "_schema_version": 1}
        place |= {"_offset": offsets[stream.name, partition], "_archived_at": START}
        offsets[stream.name, partition] += 1
        found = [{**place, "event_time": START + timedelta(seconds=at), **row}]
        schema = archive_schema(stream).as_arrow()
        tables.load_table(f"raw.{stream.name}").append(pa.Table.from_pylist(found, schema=schema))

    for at in (0, 3, 6):
        put(shop.visits, at, customer="a")
    put(shop.visits, 4, 1, customer="b")

    def answer(at, count, customer="a", key="customer", view="visit_counts", name="count_20s"):
        time = None if at is None else START + timedelta(seconds=at)
        entity, answered = json.dumps({key: customer}), json.dumps({name: count})
        row = {"trace_id": f"{offsets}", "view": view, "value_time": time}
        put(log, 3600, entity=entity, answered=answered, **row)

    def compare(*behind, view="visit_counts"):
        monkeypatch.setattr(skew, "Log", Topic(*behind))
        monkeypatch.setattr(skew, "late_rows", lambda *_: [])
        return skew.Skew(shop.repository, tables, None).compare(None, None, 100)[view]

    return tables, answer, compare


@pytest.mark.parametrize(
    ("behind", "found"),
    [
        # All that Kafka has is archived; also of the partition whose newest event is older.
        ((), (4, 0, 1)),
        ((Record(0, heartbeat(9)), Record(1, heartbeat(9))), (4, 0, 1)),
        # Events may come two seconds out of order: the next one of a partition may be that old.
        ((Record(0),), (2, 2, 0)),
        ((Record(0, heartbeat(9)), Record(1)), (1, 3, 0)),
    ],
)
def test_what_the_archive_may_not_have_yet_is_not_said_to_differ(served, behind, found):
    """The last answer counts two visits that are not archived: they may be on their way."""
    _, answer, compare = served
    for at, count in ((0, 1), (3, 2), (6, 3), (9, 5)):
        answer(at, count)
    view = compare(*behind)
    assert (view.answers, view.unknown, view.mismatched) == found


def test_what_is_served_as_missing_is_told_of(served):
    """By entity; Iceberg has a row of one of them, a minute and more before it was asked for."""
    tables, answer, compare = served
    for customer in ("a", "a", "b", "nobody"):
        answer(None, None, customer)
    assert compare() == skew.ViewSkew(missing=3)
    table = tables.load_table("features.visit_counts")
    rows = [
        {"customer": customer, "event_time": START, "count_20s": 1}
        | {"available_at": START + timedelta(seconds=at)}
        for customer, at in (("a", 3500), ("b", 3580))
    ]
    table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
    found = compare()
    assert found == skew.ViewSkew(missing=3, lost=1)
    assert found.is_blind
    answer(6, 3)
    found = compare()
    assert (found.answers, found.mismatched, found.missing, found.lost) == (1, 0, 3, 1)


def test_only_an_empty_log_has_no_answers(served):
    _, answer, compare = served
    with pytest.raises(skew.SkewError, match="no answer was logged"):
        compare()
    answer(None, None)
    assert compare().missing == 1


def test_an_answer_of_a_key_that_the_view_no_longer_has_is_not_compared(served):
    """By another name, or of another type: the log has what was asked for at that time."""
    _, answer, compare = served
    answer(3, 2)
    for customer, key in (("a", "visitor"), (7, "customer")):
        answer(3, 2, customer, key)
        answer(None, None, customer, key)
    found = compare()
    assert (found.answers, found.unknown, found.mismatched) == (1, 2, 0)
    assert (found.missing, found.lost) == (2, 0)


def test_of_rows_of_one_time_the_one_is_expected_that_training_reads(served):
    """Whichever the table has first: of a captured row, two changes in one millisecond."""
    tables, answer, compare = served
    table = tables.load_table("features.customer_facts")
    pairs = {"a": (150, 200), "b": (200, 150), "c": (None, 150), "d": (150, None)}
    for customer, both in pairs.items():
        rows = [
            {"customer": customer, "event_time": START, "available_at": START, "points": points}
            for points in both
        ]
        table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
    asked = pa.table(
        {"customer": list(pairs), "at": pa.array([START] * 4, pa.timestamp("us", "UTC"))}
    )
    names = ({"customer": "customer"}, {"points": "points"})
    lookup = Lookup(table, *names, None, "event_time", "available_at")
    trained = join(asked, "at", [lookup])["points"].to_pylist()
    assert trained == [200, 200, 150, 150]
    for customer, points in zip(pairs, trained, strict=True):
        answer(0, points, customer, view="customer_facts", name="points")
    found = compare(view="customer_facts")
    assert (found.answers, found.mismatched) == (4, 0)
