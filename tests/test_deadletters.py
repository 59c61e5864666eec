"""Nothing that comes is lost: every bad record is a dead letter, every good one a value."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import click
import pytest
from confluent_kafka import Producer

from connectors.deadletters import AGAIN, DeadLetters, Replayed, UnknownLetter
from connectors.late import late_rows
from connectors.topics import Topic, create_topics
from feature_repo.flights.repository import repository as flights
from flink_jobs.replay import Reading, resumed_sql
from flink_jobs.rest import FlinkCluster
from flink_jobs.sql import job_sql, jobs
from headwater.commands import deadletters as commands
from headwater.locks import Busy
from schemas import JoinedStream
from schemas.served import served_stream
from schemas.topics import dead_topic
from tests.conftest import ROOT, eventually
from tests.corpus import NOON, cases, equal
from tests.shop import last_purchase, purchases

CASES = cases()
BAD = [case for case in CASES if case.reason is not None]
GOOD = [case for case in CASES if case.reason is None]


def send(running, records, settings=None):
    """Produce (payload, partition) pairs; the id that each would have as a dead letter."""
    ids = {}
    producer = Producer(
        {
            "bootstrap.servers": running.settings.kafka,
            "message.max.bytes": 2_000_000,
            **(settings or {}),
        }
    )
    for number, (payload, partition) in enumerate(records):

        def told(error, message, number=number):
            assert error is None, error
            ids[number] = f"{message.topic()}/{message.partition()}/{message.offset()}"

        producer.produce(
            purchases.topic, payload, partition=partition, timestamp=NOON, on_delivery=told
        )
        producer.poll(0)
    assert producer.flush(60) == 0
    return [ids[number] for number in range(len(ids))]


def close(running, minutes):
    """An event that much later on each partition: all windows before it come to their values."""
    event = {"event_time": NOON + minutes * 60_000, "customer": "closing"}
    send(running, [(json.dumps(event).encode(), partition) for partition in (0, 1)])


def interrupt(letters, topic, ids):
    """Replay letters, and die when they are sent and that is not noted yet."""
    note = letters._note

    def die_after_sending(topic, state, batch, more=None):
        if state == "replayed":
            raise KeyboardInterrupt
        note(topic, state, batch, more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(letters, "_note", die_after_sending)
        with pytest.raises(KeyboardInterrupt):
            letters.replay(topic, ids)


def sent_again(letters, topic):
    """The ids of the letters that were sent to their topic again, each as often as it was."""
    headers = [pair for record in letters._log.messages(topic) for pair in record.headers() or ()]
    return [value.decode() for name, value in headers if name == AGAIN]


@pytest.fixture(scope="module")
def sent(running, shop):
    """The whole corpus, sent through the shop's job; the id of each case by its name."""
    ids = send(running, [(case.payload, number % 2) for number, case in enumerate(CASES)])
    close(running, 10)
    return dict(zip((case.name for case in CASES), ids, strict=True))


def test_every_bad_record_is_a_dead_letter_with_its_reason_and_its_bytes(running, shop, sent):
    letters = DeadLetters(running.settings.kafka_access, [purchases.topic])

    eventually(lambda: len(letters.read(purchases.topic)) >= len(BAD))
    there = letters.with_payloads(purchases.topic, letters.read(purchases.topic))
    found = {letter.id: letter for letter in there}
    wrong = []
    for case in BAD:
        letter = found.pop(sent[case.name], None)
        if letter is None:
            wrong.append(f"{case.name}: no letter")
        elif (letter.kind, letter.payload) != (case.reason, case.payload):
            wrong.append(f"{case.name}: {letter.reason}, not {case.reason}")
        elif letter.time != NOON:
            wrong.append(f"{case.name}: of another time")
    assert not wrong
    assert not found, "no letter that should not be"


def test_every_good_record_is_its_values(running, shop, sent):
    def wrong():
        different = []
        for case in GOOD:
            found = shop.values(last_purchase, case.customer) or {}
            for name, value in case.values:
                if not equal(found.get(name, "nothing"), value):
                    different.append((case.name, name, found.get(name, "nothing"), value))
        return different

    assert eventually(lambda: not wrong()), wrong()
    assert shop.values(last_purchase, "nobody") is None


def test_no_record_stopped_the_job(running, shop, sent):
    cluster = FlinkCluster(running.settings.flink_url)
    (job,) = (job for job in cluster.jobs() if job.name == "shop-purchases")
    assert job.state == "RUNNING"
    assert cluster.exception(job.id) == ""


def test_a_late_event_that_is_just_small_enough_is_kept_though_its_row_is_twice_as_large(
    running, shop, sent
):
    item = '"' * 470_000
    event = {"event_time": NOON, "customer": "late", "item": item}
    send(running, [(json.dumps(event).encode(), 0)])

    def kept():
        rows = late_rows(running.settings.kafka_access, purchases)
        return [row.view for row in rows if row.entity == {"customer": "late"}]

    assert eventually(kept) == [last_purchase.name]


def test_letters_are_counted_by_reason(running, shop, sent):
    reasons = Counter(case.reason for case in BAD)
    done = shop.headwater("deadletters", "list", "--json")
    assert done.returncode == 1, "open letters are for somebody to look at"
    assert {row["reason"]: row["count"] for row in json.loads(done.stdout)} == reasons
    cluster = FlinkCluster(running.settings.flink_url)
    (job,) = (job for job in cluster.jobs() if job.name == "shop-purchases")
    for reason, number in reasons.items():
        counted = lambda: cluster.metric(job.id, f"reason.{reason}", "deadLetters")  # noqa: B023, E731
        assert eventually(lambda: counted() == number), (reason, counted(), number)  # noqa: B023


def test_a_letter_is_shown_with_its_payload(running, shop, sent):
    id_ = sent["an event and text"]
    done = shop.headwater("deadletters", "show", id_, "--json")
    shown = json.loads(done.stdout)
    payload = next(case.payload for case in BAD if case.name == "an event and text")
    assert bytes.fromhex(shown["payload_hex"]) == payload
    assert shown["reason"].startswith("malformed: not JSON - at byte")
    assert "nobody" not in shown["reason"], "a reason holds no values"
    unknown = shop.headwater("deadletters", "show", "shop.purchases/0/999999")
    assert unknown.returncode == 2
    assert "shop.purchases/0/999999" in unknown.stderr


def test_a_replayed_letter_comes_again_and_once(running, shop, sent):
    letters = DeadLetters(running.settings.kafka_access, [purchases.topic])
    before = len(letters.read(purchases.topic))
    chosen = [sent[name] for name in ("no payload", "an empty object")]
    replay = ("deadletters", "replay", *chosen, "--json")
    with ThreadPoolExecutor() as pool:
        at_once = [pool.submit(shop.must, *replay) for _ in range(2)]
    counts = [json.loads(done.result().stdout)["sent"] for done in at_once]
    assert sorted(count[purchases.topic] for count in counts) == [0, 2]
    assert letters.replay(purchases.topic, chosen).sent == 0
    # Nothing was fixed: they are new letters, of the same reasons.
    assert eventually(lambda: len(letters.read(purchases.topic)) == before + 2)
    states = {letter.id: letter.state for letter in letters.read(purchases.topic)}
    assert [states[id_] for id_ in chosen] == ["replayed", "replayed"]
    assert Counter(states.values()) == {"open": before, "replayed": 2}
    with pytest.raises(UnknownLetter, match="/0/999999"):
        letters.find("shop.purchases/0/999999")
    with pytest.raises(UnknownLetter, match="/0/999999"):
        letters.replay(purchases.topic, [*chosen, "shop.purchases/0/999999"])


def test_a_replay_that_was_interrupted_sends_no_letter_twice(running, shop, sent):
    letters = DeadLetters(running.settings.kafka_access, [purchases.topic])
    chosen = [sent[name] for name in ("an array", "a string", "a number")]
    interrupt(letters, purchases.topic, chosen[:2])
    assert letters.replay(purchases.topic, chosen).sent == 1
    again = sent_again(letters, purchases.topic)
    assert [again.count(id_) for id_ in chosen] == [1, 1, 1]


def test_a_purged_letter_has_no_payload_and_still_counts(running, shop, sent):
    letters = DeadLetters(running.settings.kafka_access, [purchases.topic])
    eventually(lambda: len(letters.read(purchases.topic)) == len(BAD) + 5)
    before = {letter.id for letter in letters.read(purchases.topic)}
    done = shop.headwater("deadletters", "purge", purchases.topic, "--all", "--json")
    assert json.loads(done.stdout) == {"purged": len(before)}
    found = letters.read(purchases.topic)
    assert {letter.id for letter in found} == before
    assert {letter.state for letter in found} == {"purged"}
    assert letters.find(found[0].id).payload is None
    assert list(letters.with_payloads(purchases.topic, found)) == []
    assert letters.purge(purchases.topic) == 0
    listed = shop.headwater("deadletters", "list")
    assert listed.returncode == 0, listed.stdout


def test_of_a_record_that_is_too_large_the_letter_has_the_beginning(running, shop, sent):
    event = {"event_time": NOON, "customer": "huge", "item": "z" * 5_000_000}
    # Small enough for its topic as it comes, and far too large for the one of the letters.
    (id_,) = send(
        running,
        [(json.dumps(event).encode(), 0)],
        {"message.max.bytes": 10_000_000, "compression.type": "gzip"},
    )
    letters = DeadLetters(running.settings.kafka_access, [purchases.topic])
    assert eventually(lambda: [x for x in letters.read(purchases.topic) if x.id == id_])
    letter = letters.find(id_)
    assert (letter.kind, len(letter.payload), letter.state) == ("size", 1 << 20, "open")
    done = shop.headwater("deadletters", "replay", id_, "--json")
    told = {"sent": {purchases.topic: 0}, "cut": {purchases.topic: 1}}
    assert (done.returncode, json.loads(done.stdout)) == (1, told)
    assert letters.find(id_).state == "open"
    assert letters.purge(purchases.topic) == 1


def test_a_bad_record_of_a_log_that_no_view_reads_is_a_letter_of_the_archives_job(running, shop):
    topic = served_stream("shop").topic
    producer = Producer({"bootstrap.servers": running.settings.kafka})
    producer.produce(topic, b"no answer", partition=0, timestamp=NOON)
    assert producer.flush(30) == 0
    letters = DeadLetters(running.settings.kafka_access, [topic])
    assert eventually(lambda: letters.read(topic))
    (letter,) = letters.with_payloads(topic, letters.read(topic))
    assert (letter.kind, letter.payload) == ("malformed", b"no answer")
    assert shop.headwater("deadletters", "list").returncode == 1
    assert letters.purge(topic) == 1


class Apart:
    """The letters of a topic that no job reads, so that a test writes them itself."""

    def __init__(self, running):
        self.settings = {"bootstrap.servers": running.settings.kafka}
        self.topic = f"apart.{uuid4().hex}"
        self.ids = [f"{self.topic}/0/{offset}" for offset in range(5)]
        self.letters = DeadLetters(running.settings.kafka_access, [self.topic])

    def write(self):
        """All letters, each of a minute after the one before, as a job writes them."""
        producer = Producer(self.settings)
        for offset in range(len(self.ids)):
            where = {"topic": self.topic, "partition": "0", "offset": str(offset)}
            headers = list({"reason": "type: text - at item", **where}.items())
            time = NOON + offset * 60_000
            producer.produce(dead_topic(self.topic), b"{", None, 0, timestamp=time, headers=headers)
        assert producer.flush(30) == 0

    def states(self):
        """The state of each letter."""
        found = {letter.id: letter.state for letter in self.letters.read(self.topic)}
        return [found[id_] for id_ in self.ids]


@pytest.fixture
def apart(running):
    apart = Apart(running)
    names = [apart.topic, dead_topic(apart.topic)]
    create_topics(running.settings.kafka_access, dict.fromkeys(names, Topic(1)))
    apart.write()
    return apart


def test_a_purge_leaves_the_state_of_what_stays_where_letters_came_a_second_time(apart):
    """The job goes on from an older checkpoint and writes them again, behind their notes."""
    letters, topic, ids = apart.letters, apart.topic, apart.ids
    assert letters.replay(topic, ids[1:2]).sent == 1
    interrupt(letters, topic, ids[2:3])
    apart.write()
    interrupt(letters, topic, ids[3:4])
    assert letters.purge(topic, NOON + 60_000) == 1
    assert apart.states() == ["purged", "replayed", "sending", "sending", "open"]
    assert letters.replay(topic, ids).sent == 1
    assert apart.states() == ["purged", *["replayed"] * 4]
    assert sent_again(letters, topic) == ids[1:]
    apart.write()
    assert letters.purge(topic, NOON + 180_000) == 3
    assert apart.states() == [*["purged"] * 3, *["replayed"] * 2]


def test_a_letter_that_was_sent_behind_an_open_transaction_is_not_sent_twice(apart):
    letters, topic, ids = apart.letters, apart.topic, apart.ids
    another = Producer(apart.settings | {"transactional.id": "another"})
    another.init_transactions(30)
    another.begin_transaction()
    another.produce(topic, b"not committed", partition=0)
    assert another.flush(30) == 0
    interrupt(letters, topic, ids[:1])
    assert letters.replay(topic, ids[:2]).sent == 1
    assert sent_again(letters, topic) == ids[:2]
    another.abort_transaction(30)


@pytest.mark.parametrize("first", ["replay", "purge"])
def test_one_command_at_a_time_works_on_the_letters_of_a_topic(first, tmp_path, monkeypatch):
    arguments = {
        "replay": ["replay", "shop.purchases/0/17"],
        "purge": ["purge", "shop.purchases", "--all"],
    }
    refused = []

    def meanwhile(*_):
        for second in arguments.values():
            with pytest.raises(Busy) as caught:
                commands.deadletters(second, standalone_mode=False)
            refused.append(str(caught.value))
        return Replayed(0, 0) if first == "replay" else 0

    monkeypatch.setenv("HEADWATER_STATE", str(tmp_path))
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")
    monkeypatch.setattr(commands, "_WAIT_SECONDS", 0)
    monkeypatch.setattr(DeadLetters, first, meanwhile)
    commands.deadletters(arguments[first], standalone_mode=False)
    (text,) = set(refused)
    who = f"`headwater deadletters {first}`, process {os.getpid()}"
    assert text.startswith(f"dead letters of shop.purchases: {who}")
    assert len(refused) == 2
    assert Busy.exit_code == 1


@pytest.mark.parametrize("chosen", [[], ["--all", "--before", "2013-02-01"]])
def test_payloads_are_removed_for_who_says_of_which_letters(chosen, monkeypatch):
    monkeypatch.setattr(DeadLetters, "purge", lambda *_: pytest.fail("nobody said which"))
    with pytest.raises(click.UsageError, match="say --before TIME, or --all"):
        commands.deadletters(["purge", purchases.topic, *chosen], standalone_mode=False)


@pytest.mark.parametrize("command", ["replay", "show"])
def test_a_kind_of_reason_that_there_is_not_is_refused_with_those_there_are(command):
    with pytest.raises(click.BadParameter) as caught:
        commands.deadletters([command, "--reason", "expectatio"], standalone_mode=False)
    for kind in commands._KINDS:
        assert f"'{kind}'" in str(caught.value)
    assert {case.reason for case in BAD} <= {*commands._KINDS}
    source = ROOT / "flink_jobs/kernel/src/main/java/io/headwater/kernel/json/BadRecord.java"
    kinds = re.findall(r"^    ([A-Z]+)[,;]$", source.read_text("utf-8"), re.MULTILINE)
    assert [kind.lower() for kind in kinds] == [*commands._KINDS]


def test_each_sources_bad_records_are_one_jobs():
    """Also of a table that is only joined with: the job of a view over a stream skips them."""
    joined = tuple(view for view in flights.views if isinstance(view.source, JoinedStream))
    lonely = replace(flights, views=joined, services=())
    for repository in (flights, lonely):
        found = Counter(source.name for job in jobs(repository) for source in job.apart)
        assert found == Counter(s.name for s in {*repository.archived, *repository.tables})
    *_, archive = jobs(lonely)
    tables = {table.name for table in lonely.tables}
    assert tables
    assert {source.name for source in archive.apart} > tables
    bounds = {stream.name: Reading(stream.topic, {0: (7, 9)}) for stream in archive.sources}
    for script in (job_sql(archive), resumed_sql(archive, bounds)):
        for name in tables:
            assert script.count(f"CREATE TABLE sources.`{name}`") == 1
            assert script.count(f"INSERT INTO dead.`{name}`") == 1
            assert f"INSERT INTO headwater.`raw`.`{name}`" not in script
