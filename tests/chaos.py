"""The kill campaign: parts die, pause, stop and lose their data under load; then an oracle.

    python -m tests.chaos [--seed 1] [--minutes 12] [--faults 60]

Seeded, bounded, on the loopback alone, on a platform of its own. Readings come out of order, some
of them bad, some late; rows of a captured table change all the while. Afterwards every feature
row in Iceberg must be there once and equal a recomputation in plain Python, Redis must hold the
newest of them, and dead and late events must be exactly those that were sent. The report is
build/chaos/report.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Lock, Thread

import psycopg
import redis
from confluent_kafka import Producer

from connectors.deadletters import DeadLetters
from connectors.late import late_rows
from connectors.redis_codec import (
    decode_event_time,
    decode_value,
    entity_key,
    feature_field,
    timestamp_field,
)
from flink_jobs.rest import FlinkCluster, FlinkError
from flink_jobs.sql import jobs
from headwater.local.part import PartFailed
from headwater.recompute import instants, matches, recompute
from headwater.stores import catalog
from tests.conftest import ROOT, Running, command
from tests.corpus import cases
from tests.storm import SENSORS, readings, repository, sensor_activity, sensor_facts

REPORT = ROOT / "build" / "chaos" / "report.json"
JOBS = jobs(repository)
KEYS = [f"s{number}" for number in range(12)]
BASE = 1_600_000_000_000
"""The first event time."""

SPEED = 30
"""Event time over wall time."""

RATE = 50
"""Readings a second."""

_REACH = 2 * max(
    f.window.size.seconds * 1000 for f in sensor_activity.features if f.window is not None
)

BAD = [case for case in cases() if case.reason is not None and len(case.payload or b"") < 5000]
"""Bad for the shop's schema, and all the more for this one, if not for the same reason."""


@dataclass
class Sent:
    """What was sent, and what must become of it."""

    good: dict[str, list[dict[str, object]]] = field(default_factory=lambda: defaultdict(list))
    late: list[dict[str, object]] = field(default_factory=list)
    dead: dict[str, bytes | None] = field(default_factory=dict)
    """The payload of each dead letter, by its id."""

    versions: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """Of each sensor's row: version and `updated_at` in milliseconds."""

    acknowledged: int = 0


class Load:
    """Two threads: one sends readings, one changes rows."""

    def __init__(self, running: Running, seed: int, keep: bool = True) -> None:
        """`keep` remembers every good reading, for the oracle."""
        self.running = running
        self.sent = Sent()
        self._keep = keep
        self.may_be_late = Event()
        self._dice = random.Random(seed)
        self._stop = Event()
        self._lock = Lock()
        self._began = time.monotonic()
        self._threads = [Thread(target=self._send), Thread(target=self._change)]
        self.failures: list[str] = []

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, once all that was sent is acknowledged."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def now(self) -> int:
        """The present event time."""
        return BASE + round((time.monotonic() - self._began) * 1000 * SPEED)

    def _producer(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.running.settings.kafka,
                "enable.idempotence": True,
                "message.timeout.ms": 300_000,
                "linger.ms": 5,
                "log_level": 0,
            }
        )

    def _send(self) -> None:
        producer, dice, number = self._producer(), self._dice, 0
        due = time.monotonic()
        while not self._stop.is_set():
            # What it was too slow to send is not made up for.
            due = max(due, time.monotonic() - 1) + 1 / RATE
            producer.poll(0)
            while (left := due - time.monotonic()) > 0:
                producer.poll(left)  # it returns as soon as it has told of something
            number += 1
            kind = dice.random()
            if kind < 0.02:
                case = dice.choice(BAD)
                self._produce(producer, case.payload, number % 2, bad=True)
                continue
            sensor = dice.choice(KEYS)
            event: dict[str, object] = {
                "event_time": self.now() - dice.randrange(50_000),
                "sensor": sensor,
                "value": dice.choice([0.1, 2.5, -7.25, 1e6, 0.0]) * dice.randrange(1, 9),
                "number": dice.randrange(-(2**40), 2**40),
                "tag": dice.choice(["a", "b", "é", None]),
            }
            partition = KEYS.index(sensor) % 2
            late = kind > 0.99 and self.may_be_late.is_set()
            if late:
                event["event_time"] = BASE - dice.randrange(1, 3_600_000)
                self.sent.late.append(event)
            elif self._keep:
                self.sent.good[sensor].append(event)
            self._produce(producer, json.dumps(event).encode(), partition)
        self._close(producer)

    def _close(self, producer: Producer) -> None:
        """One event a partition, so late that every window before it comes to its end."""
        for partition in (0, 1):
            event = {
                "event_time": self.now() + 7_300_000,
                "sensor": f"closing {partition}",
                "value": 0.0,
                "number": 0,
            }
            self._produce(producer, json.dumps(event).encode(), partition)
        if left := producer.flush(300):
            self.failures.append(f"{left} readings were not acknowledged")

    def _produce(
        self, producer: Producer, payload: bytes | None, partition: int, bad: bool = False
    ) -> None:
        def told(error: object, message: object) -> None:
            if error is not None:
                self.failures.append(f"Kafka: {error}")
                return
            self.sent.acknowledged += 1
            if bad:
                id_ = f"{message.topic()}/{message.partition()}/{message.offset()}"  # type: ignore[attr-defined]
                self.sent.dead[id_] = payload

        while True:
            try:
                producer.produce(readings.topic, payload, partition=partition, on_delivery=told)
                return
            except BufferError:
                producer.poll(0.1)

    def _change(self) -> None:
        dice, version = random.Random(self._dice.random()), 0
        while not self._stop.wait(0.05):
            version += 1
            sensor = dice.choice(KEYS)
            changed = BASE + version * 1000
            try:
                url = self.running.settings.postgres_url("storm")
                with psycopg.connect(url, connect_timeout=5) as connection:
                    connection.execute(
                        "INSERT INTO sensors"
                        " VALUES (%s, %s, %s, to_timestamp(%s) AT TIME ZONE 'UTC')"
                        " ON CONFLICT (sensor) DO UPDATE SET version = EXCLUDED.version,"
                        " place = EXCLUDED.place, updated_at = EXCLUDED.updated_at",
                        (sensor, version, f"place {version}", changed / 1000),
                    )
            except psycopg.Error:
                # Whether the commit came through is not known: the table will say.
                self._stop.wait(0.5)


class Faults:
    """The ways in which parts fail, and how each is healed by what an operator would do."""

    def __init__(self, running: Running, dice: random.Random) -> None:
        self.running = running
        self.dice = dice
        self.counts: Counter[str] = Counter()
        self.cluster = FlinkCluster(running.settings.flink_url)
        self.refused = 0
        self._savepoints: list[str] = []
        parts = ("taskmanager", "kafka", "redis", "connect", "postgres", "api")
        self.kinds: dict[str, Callable[[], None]] = {
            **{f"kill {part}": lambda part=part: self.kill(part) for part in parts},
            **{f"pause {part}": lambda part=part: self.pause(part) for part in (*parts, "flink")},
            **{
                f"restart {part}": lambda part=part: self.restart(part)
                for part in ("taskmanager", "kafka", "redis", "connect")
            },
            "kill jobmanager": self.kill_jobmanager,
            "kill taskmanager at a checkpoint": self.kill_at_checkpoint,
            "wipe redis": self.wipe_redis,
            "stop and submit": self.stop_and_submit,
            "an older savepoint": self.older_savepoint,
            "maintain tables": self.maintain,
        }

    def run(self, kind: str) -> None:
        """Inject one fault and heal it."""
        self.kinds[kind]()
        self.counts[kind] += 1

    def headwater(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, on the campaign's platform."""
        environ = os.environ | self.running.environ
        return command(environ | {"HEADWATER_REPOSITORY": "tests.storm:repository"}, *arguments)

    def must(self, *arguments: str) -> str:
        """The command's output; it must end well."""
        done = self.headwater(*arguments)
        if done.returncode:
            raise AssertionError(f"headwater {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def kill(self, part: str) -> None:
        """kill -9, and up again."""
        self._signal(part, signal.SIGKILL)
        time.sleep(self.dice.uniform(0, 3))
        self._up(part)

    def pause(self, part: str) -> None:
        """It hangs for some seconds: connections stay, answers do not come."""
        self._signal(part, signal.SIGSTOP)
        time.sleep(self.dice.uniform(1, 8))
        self._signal(part, signal.SIGCONT)

    def restart(self, part: str) -> None:
        """Down in good order, and up again."""
        self.running.platform.down([part], lambda _: None)
        self._up(part)

    def kill_jobmanager(self) -> None:
        """It forgets its jobs: they are submitted again, from their newest checkpoints."""
        self._signal("flink", signal.SIGKILL)
        self._up("flink")
        self._up("taskmanager")
        self.must("jobs", "submit")

    def kill_at_checkpoint(self) -> None:
        """Right after a checkpoint is complete, which is when Iceberg's commit is due."""
        running = self._jobs()
        if not running:
            return
        before = self._completed(running[0])
        deadline = time.monotonic() + 30
        while self._completed(running[0]) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        self.kill("taskmanager")

    def wipe_redis(self) -> None:
        """All data is gone, and comes back by one command."""
        self._signal("redis", signal.SIGKILL)
        shutil.rmtree(self.running.settings.state / "redis")
        self._up("redis")
        self._calm()
        self.must("online", "rebuild")

    def stop_and_submit(self) -> None:
        """A job is stopped with a savepoint and goes on from it."""
        self._calm()
        stopped = self.must("jobs", "stop")
        self._savepoints += [word for word in stopped.split() if word.startswith("file:")]
        self.must("jobs", "submit")

    def older_savepoint(self) -> None:
        """Going on from a savepoint that Iceberg is ahead of must be refused."""
        if not self._savepoints:
            self.stop_and_submit()
        self._calm()
        self.must("jobs", "stop", "storm-readings")
        old = next(path for path in self._savepoints)
        done = self.headwater("jobs", "submit", "storm-readings", "--from", old)
        if done.returncode == 2 and "write them twice" in done.stderr:
            self.refused += 1
        else:
            raise AssertionError(f"an older savepoint was taken: {done.stdout}{done.stderr}")
        self.must("jobs", "submit")

    def maintain(self) -> None:
        """Files are put together and snapshots forgotten while the jobs write."""
        self.must(
            *("tables", "maintain", "--min-files", "2", "--keep-snapshots", "0"),
            *("features.sensor_activity", "features.sensor_facts"),
        )

    def heal(self) -> None:
        """Everything up, and the jobs running."""
        self.running.up()
        self._calm()

    def _up(self, part: str) -> None:
        for attempt in range(3):
            try:
                self.running.up(part)
                return
            except PartFailed:
                if attempt == 2:
                    raise
                time.sleep(1)

    def _signal(self, part: str, how: signal.Signals) -> None:
        process = self.running.platform.process(self.running.platform.parts[part]).find()
        if process is None:
            return
        children = process.children(recursive=True) if how is signal.SIGKILL else []
        os.kill(process.pid, how)
        if how is signal.SIGKILL:
            process.wait(20)
            for child in children:  # PostgreSQL's own end when their parent is gone
                child.wait(20)

    def _jobs(self) -> list[str]:
        try:
            return [
                job.id
                for job in self.cluster.jobs()
                if job.name.startswith("storm-") and job.state == "RUNNING"
            ]
        except FlinkError:
            return []

    def _completed(self, job: str) -> int:
        try:
            return self.cluster.completed(job)
        except FlinkError:
            return -1

    def _calm(self) -> None:
        """All jobs run and make a checkpoint."""
        deadline = time.monotonic() + 300
        wanted: dict[str, int] = {}
        while time.monotonic() < deadline:
            running = self._jobs()
            if len(running) == len(JOBS):
                for job in running:
                    wanted.setdefault(job, self._completed(job) + 1)
                if all(self._completed(job) >= wanted[job] for job in running):
                    return
            time.sleep(0.3)
        raise AssertionError("the jobs did not come back in five minutes")


def campaign(running: Running, seed: int, seconds: float, faults: int) -> dict[str, object]:
    """Everything, on a running platform; the report."""
    began = time.monotonic()
    dice = random.Random(seed)
    storm = Faults(running, dice)
    prepare(storm)
    for arguments in (("apply",), ("jobs", "submit")):
        storm.must(*arguments)
    load = Load(running, seed)
    load.start()
    try:
        assert _soon(lambda: all(_online(running, sensor_activity, key) for key in KEYS), 90)
        storm._calm()
        storm._calm()
        load.may_be_late.set()
        deadline = time.monotonic() + seconds
        kinds: list[str] = []
        while time.monotonic() < deadline and sum(storm.counts.values()) < faults:
            if not kinds:  # each kind once before any comes again
                kinds = sorted(storm.kinds)
                dice.shuffle(kinds)
            kind = kinds.pop()
            print(f"{time.monotonic() - began:6.1f} s  {kind}", flush=True)
            storm.run(kind)
            time.sleep(dice.uniform(0, 4))
        storm.heal()
    finally:
        load.stop()
    found = Oracle(running, load.sent)
    settled = _soon(found.settled, 180)
    report: dict[str, object] = {
        "seed": seed,
        "faults": sum(storm.counts.values()),
        "by_kind": dict(sorted(storm.counts.items())),
        "refused_savepoints": storm.refused,
        "events": load.sent.acknowledged,
        "settled": settled,
        "failures": load.failures,
        "seconds": 0.0,
        **found.compare(),
    }
    report["seconds"] = round(time.monotonic() - began, 1)
    return report


def prepare(storm: Faults) -> None:
    """The campaign's database and its table."""
    storm.must("up", "postgres")
    url = storm.running.settings.postgres_url("storm")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SENSORS)


class Oracle:
    """What must have become of everything that was sent."""

    def __init__(self, running: Running, sent: Sent) -> None:
        self.running = running
        self.sent = sent
        self.letters = DeadLetters(running.settings.kafka_access, [readings.topic])

    def settled(self) -> bool:
        """Whether the last rows are there."""
        rows = self._rows(sensor_activity.name)
        last = {key: instants(sensor_activity, own)[-1] for key, own in self.sent.good.items()}
        with psycopg.connect(self.running.settings.postgres_url("storm")) as connection:
            table = dict(connection.execute("SELECT sensor, version FROM sensors").fetchall())
        facts = {key: max(rows_)[1][0] for key, rows_ in self._rows(sensor_facts.name).items()}
        return (
            all(rows.get(key) and max(rows[key])[0] >= at for key, at in last.items())
            and facts == table
            and len(self.letters.read(readings.topic)) >= len(self.sent.dead)
            and self._late().total() >= len(self.sent.late)
        )

    def compare(self) -> dict[str, object]:
        """Every row, every letter, every late event."""
        counts: Counter[str] = Counter(lost=0, duplicated=0, wrong=0, rows=0)
        examples: list[str] = []
        rows = self._rows(sensor_activity.name)
        each = [(key, own, rows.get(key, [])) for key, own in self.sent.good.items()]
        # Not by forks, since the parts that were started run in threads of this process too.
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            for its_counts, its_examples in pool.map(_readings, *zip(*each, strict=True)):
                counts.update(its_counts)
                examples += its_examples
        self._table(counts, examples)
        self._online(counts, examples)
        self._dead(counts, examples)
        late = self._late()
        sent = Counter((event["sensor"], event["event_time"]) for event in self.sent.late)
        counts["lost"] += (sent - late).total()
        counts["wrong"] += (late - sent).total()
        examples += [f"late: {one} was sent and is not there" for one in sent - late]
        examples += [f"late: {one} is there and was not late" for one in late - sent]
        return {
            "rows": counts["rows"],
            "lost": counts["lost"],
            "duplicated": counts["duplicated"],
            "wrong": counts["wrong"],
            "dead": len(self.sent.dead),
            "late": len(self.sent.late),
            "examples": examples[:20],
        }

    def _table(self, counts: Counter[str], examples: list[str]) -> None:
        """Debezium sends a change again after a kill: the same row, which counts as one."""
        rows = self._rows(sensor_facts.name)
        with psycopg.connect(self.running.settings.postgres_url("storm")) as connection:
            table = connection.execute("SELECT sensor, version, place FROM sensors").fetchall()
        for sensor, version, place in table:
            newest = max(rows.get(sensor, []), default=(0, (None, None)))
            if newest[1] != (version, place):
                counts["wrong"] += 1
                examples.append(f"{sensor}: {newest} in Iceberg, {version} in PostgreSQL")
        for sensor, own in rows.items():
            counts["rows"] += len(set(own))
            if len({at for at, _ in own}) != len(set(own)):
                counts["wrong"] += 1
                examples.append(f"{sensor}: two values of one change")

    def _online(self, counts: Counter[str], examples: list[str]) -> None:
        for view in (sensor_activity, sensor_facts):
            for key, rows in self._rows(view.name).items():
                at, values = max(rows, key=lambda row: row[0])
                if _online(self.running, view, key) != (at, values):
                    counts["wrong"] += 1
                    examples.append(
                        f"{view.name} of {key}: {_online(self.running, view, key)} in Redis,"
                        f" {(at, values)} in Iceberg"
                    )

    def _dead(self, counts: Counter[str], examples: list[str]) -> None:
        found = self.letters.read(readings.topic)
        there = self.letters.with_payloads(readings.topic, found)
        letters = {letter.id: letter.payload for letter in there}
        for id_, payload in self.sent.dead.items():
            if letters.get(id_, b"none") != payload:
                counts["lost" if id_ not in letters else "wrong"] += 1
                examples.append(f"{id_}: no dead letter, or another payload")
        for id_ in letters.keys() - self.sent.dead.keys():
            counts["wrong"] += 1
            examples.append(f"{id_}: a dead letter that should not be")

    def _late(self) -> Counter[tuple[object, object]]:
        rows = late_rows(self.running.settings.kafka_access, readings)
        return Counter((row.entity["sensor"], row.event_time) for row in rows)

    def _rows(self, view: str) -> dict[str, list[tuple[int, tuple[object, ...]]]]:
        """Event time and values of each row, by key."""
        found: dict[str, list[tuple[int, tuple[object, ...]]]] = defaultdict(list)
        table = catalog(self.running.settings).load_table(f"features.{view}")
        names = [c.name for v in repository.views if v.name == view for c in v.schema]
        for row in table.scan().to_arrow().to_pylist():
            at = round(row["event_time"].timestamp() * 1000)
            if not row["sensor"].startswith("closing"):
                found[row["sensor"]].append((at, tuple(row[name] for name in names)))
        return found


def _readings(
    key: str, own: list[dict[str, object]], rows: list[tuple[int, tuple[object, ...]]]
) -> tuple[Counter[str], list[str]]:
    """What is wrong with the rows of one key."""
    counts: Counter[str] = Counter()
    examples: list[str] = []
    times = {event["event_time"] for event in own}
    emitted = dict(rows)
    counts["rows"] += len(rows)
    counts["duplicated"] += len(rows) - len(emitted)
    wanted = instants(sensor_activity, own)  # type: ignore[arg-type]
    for at in emitted.keys() - set(wanted):
        counts["wrong"] += 1
        examples.append(f"{key}: a row at {at} that should not be")
    ordered = sorted(own, key=_at)
    in_force = None
    for at in wanted:
        if at in times and at not in emitted:
            counts["lost"] += 1
            examples.append(f"{key}: no row at {at}")
            continue
        in_force = emitted.get(at, in_force)
        # No window reaches further back; all events for each instant would take an hour.
        first = bisect_left(ordered, at - _REACH, key=_at)
        end = bisect_right(ordered, at, key=_at)
        its = ordered[first:end]
        expected = recompute(sensor_activity, its, at)  # type: ignore[arg-type]
        for feature, value in zip(sensor_activity.features, in_force or (), strict=True):
            if not matches(feature, value, expected[feature.name], its):  # type: ignore[arg-type]
                counts["wrong"] += 1
                examples.append(
                    f"{key} at {at}: {feature.name} is {value}, not {expected[feature.name]}"
                )
                break
    return counts, examples


def _at(event: dict[str, object]) -> int:
    time_ = event["event_time"]
    assert isinstance(time_, int)
    return time_


def _online(running: Running, view: object, key: str) -> tuple[int, tuple[object, ...]] | None:
    assert view in (sensor_activity, sensor_facts)
    names = [column.name for column in view.schema]  # type: ignore[attr-defined]
    stored = entity_key("storm", view.entities, {"sensor": key})  # type: ignore[attr-defined]
    fields = [feature_field(view.name, name) for name in names]  # type: ignore[attr-defined]
    with redis.Redis(port=running.settings.ports.redis) as online:
        time_, *found = online.hmget(stored, timestamp_field(view.name), *fields)  # type: ignore[attr-defined,misc]
    if time_ is None:
        return None
    values = tuple(None if value is None else decode_value(value) for value in found)
    return decode_event_time(time_), values


def _soon(check: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if check():
                return True
        except (redis.RedisError, psycopg.Error):
            pass  # it is on its way up
        time.sleep(0.5)
    return False


def well(report: dict[str, object]) -> bool:
    """Whether nothing was lost, doubled or wrong."""
    bad = ("lost", "duplicated", "wrong", "failures")
    return bool(report["settled"]) and not any(report[name] for name in bad)


def write(report: dict[str, object], path: Path = REPORT) -> None:
    """The report as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def main() -> None:
    """The campaign as a command; exits with 1 unless all is well."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--minutes", type=float, default=12)
    options.add_argument("--faults", type=int, default=70)
    given = options.parse_args()
    state = ROOT / "build" / f"chaos-platform-{os.getpid()}"
    running = Running(state)
    try:
        running.up()
        report = campaign(running, given.seed, given.minutes * 60, given.faults)
    finally:
        running.down()
        shutil.rmtree(REPORT.parent / "logs", ignore_errors=True)
        if (state / "logs").exists():
            shutil.copytree(state / "logs", REPORT.parent / "logs")
        running.platform.erase()
    write(report)
    print(json.dumps(report, indent=2))
    sys.exit(0 if well(report) else 1)


if __name__ == "__main__":
    main()
