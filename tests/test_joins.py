"""Every joined row, held against the plain-Python definition.

Generated streams go through the kernel's timelines in a JVM of their own, with restarts from
serialized state in between; one run goes through Flink SQL as a job would, on both state backends.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.ddl import create_table, identifier, sql_type
from flink_jobs.sql import job_sql, jobs
from headwater.temporal import Version, enrich, versions
from schemas import (
    CdcTable,
    Column,
    DeclarationError,
    Duration,
    Entity,
    EventStream,
    FeatureView,
    JoinedStream,
    Repository,
    TemporalJoin,
    Type,
    count,
    days,
    hours,
    mean,
    minutes,
    over,
)
from schemas.served import served_stream
from tests.pyflink import run_pyflink

ROOT = Path(__file__).parent.parent
KERNEL = ROOT / "build/jars/flink/headwater-kernel-0.1.0.jar"
HARNESS = ROOT / "flink_jobs/kernel/src/test/java/io/headwater/kernel/joins/Harness.java"
FLINK = ROOT / "build/envs/flink/lib/python3.11/site-packages/pyflink"

USER = Column("user", Type.STRING)
VALUES = (
    Column("i", Type.INT64, required=False),
    Column("d", Type.FLOAT64, required=False),
    Column("s", Type.STRING, required=False),
)
CLICKS = EventStream(
    "clicks",
    "clicks",
    (USER, Column("page", Type.STRING), Column("n", Type.INT64)),
    "user",
    traced=True,
)
USERS = CdcTable(
    "users", "users", (USER, *VALUES, Column("updated_at", Type.TIMESTAMP)), primary_key="user"
)
MOODS = EventStream("moods", "moods", (Column("page", Type.STRING), *VALUES), "page")
NAMES = ("i", "d", "s")


def rows():
    return st.fixed_dictionaries(
        {
            "i": st.none() | st.integers(-3, 3) | st.integers(-(2**40), 2**40),
            "d": st.none() | st.sampled_from([-0.0, 0.0, 2.5]) | st.floats(-1e6, 1e6),
            "s": st.none() | st.sampled_from(["", "a", "b", "it's", "é€", "\U0001f6eb"]),
        }
    )


# Milliseconds: ties, steps within the disorder, and gaps longer than what is kept.
STEPS = st.sampled_from([0, 0, 1, 300, 2_000, 10_000, 31_000])
BACK = st.sampled_from([0, 0, 1, 2_500, 5_000, 5_001, 20_000, -7_000])


@st.composite
def runs(draw):
    """Events and versions of a few keys in disorder, watermarks and restarts between them."""
    time, commands = draw(st.integers(-100_000, 100_000)), []
    for number in range(draw(st.integers(1, 30))):
        time += draw(STEPS)
        key, at = draw(st.sampled_from("xyz")), time - draw(BACK)
        if draw(st.booleans()):
            commands.append(("event", key, at, number))
        else:
            deleted = draw(st.sampled_from([False, False, False, True]))
            row = {"user": key, "page": key} | ({} if deleted else draw(rows()))
            commands.append(("version", key, Version(at, row, deleted)))
        after = draw(st.sampled_from(["", "", "watermark", "restart"]))
        if after == "watermark":
            commands.append(("watermark", time - 5_001))
        elif after == "restart":
            commands.append(("restart",))
    return [*commands, ("watermark", 10**15)]


class Kernel:
    """The harness's JVM, running."""

    def __init__(self, classes: Path) -> None:
        jars = ":".join(map(str, [KERNEL, *sorted((FLINK / "lib").glob("*.jar"))]))
        javac = ["javac", "-proc:none", "-nowarn", "-cp", jars, "-d", str(classes), str(HARNESS)]
        subprocess.run(javac, check=True)
        java = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{classes}:{jars}"]
        self.process = subprocess.Popen(
            [*java, "io.headwater.kernel.joins.Harness"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, join: TemporalJoin, commands):
        def encode(command):
            if command[0] != "version":
                return list(command)
            _, key, version = command
            values = None if version.deleted else [version.row[name] for name in NAMES]
            return ["version", key, version.since, values]

        request = {
            "within": join.within.seconds * 1000 if join.within else 0,
            "ties": isinstance(join.source, EventStream),
            "commands": [encode(c) for c in commands],
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer
        return answer


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    if not KERNEL.exists() or shutil.which("javac") is None:
        pytest.skip("needs `make setup` and a JDK")
    kernel = Kernel(tmp_path_factory.mktemp("classes"))
    yield kernel
    kernel.process.stdin.close()
    kernel.process.wait(10)


BY_USER = TemporalJoin(USERS, on="user", columns=NAMES)
BY_PAGE = TemporalJoin(MOODS, on="page", columns=NAMES, within=Duration(15))
QUICK = settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def expected(join: TemporalJoin, commands):
    """What each event gets: the versions that had come when the watermark passed it."""
    joined = JoinedStream("j", CLICKS, (join,))
    known, waiting, result, passed = [], [], {}, -(10**15)
    for command in commands:
        if command[0] == "event" and command[2] > passed:
            waiting.append(command)
        elif command[0] == "version":
            known.append(command[2])
        elif command[0] == "watermark":
            passed = max(passed, command[1])
            for event in [event for event in waiting if event[2] <= passed]:
                waiting.remove(event)
                _, key, at, number = event
                row = {"event_time": at, "user": key, "page": key, "n": number}
                (found,) = enrich(joined, [row], {join.source.name: known})
                result[number] = [found[name] for name in NAMES]
    return result


@QUICK
@given(st.sampled_from([BY_USER, BY_PAGE]), runs())
def test_an_event_has_the_row_that_was_true_at_its_time(kernel, join, commands):
    if join is BY_PAGE:  # an event is not deleted
        commands = [c for c in commands if c[0] != "version" or not c[2].deleted]
    answer = kernel.run(join, commands)
    emitted = {number: values or [None] * 3 for number, values in answer["rows"]}
    assert len(emitted) == len(answer["rows"])
    assert repr(emitted) == repr({n: expected(join, commands)[n] for n in emitted})
    assert emitted.keys() == expected(join, commands).keys()
    if join is BY_PAGE:  # nothing is kept for ever
        assert answer["states"] == 0


@QUICK
@given(st.sampled_from([BY_USER, BY_PAGE]), runs())
def test_what_comes_after_the_watermark_is_counted(kernel, join, commands):
    if join is BY_PAGE:
        commands = [c for c in commands if c[0] != "version" or not c[2].deleted]
    late, passed, seen = set(kernel.run(join, commands)["late"]), -(10**15), set()
    for position, command in enumerate(commands):
        if command[0] == "watermark":
            passed = max(passed, command[1])
        elif command[0] == "event":
            assert (position in late) == (command[2] <= passed)
        elif command[0] == "version":
            since = command[2].since
            assert since <= passed or position not in late
            if (command[1], since) not in seen:
                assert (position in late) == (since <= passed)
            seen.add((command[1], since))


@QUICK
@given(runs())
def test_a_replay_gives_the_same_rows(kernel, commands):
    """The same records in the order of their times, if none of them was late."""
    commands = [c for c in commands if c[0] != "version" or not c[2].deleted]
    late = set(kernel.run(BY_PAGE, commands)["late"])
    commands = [c for position, c in enumerate(commands) if position not in late]
    live = kernel.run(BY_PAGE, commands)["rows"]
    events = sorted((c for c in commands if c[0] == "event"), key=lambda c: c[2])
    known = sorted((c for c in commands if c[0] == "version"), key=lambda c: c[2].since)
    replayed = kernel.run(BY_PAGE, [*known, *events, ("watermark", 10**15)])["rows"]
    assert sorted(live) == sorted(replayed)


SCRIPT = """
import json, sys
from pyflink.table import EnvironmentSettings, TableEnvironment
from flink_jobs.runner import statement_set
for sql in json.load(sys.stdin):
    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    statement_set(table, sql, {}).execute().wait()
"""
JOINED = JoinedStream(
    "clicks_known",
    CLICKS,
    (
        TemporalJoin(USERS, on="user", columns=NAMES, prefix="user_"),
        TemporalJoin(MOODS, on="page", columns=("d", "s"), within=minutes(10)),
    ),
)
VIEW = FeatureView(
    "v", JOINED, (Entity("user", "user"),), over([hours(1)], count(), mean("user_d")), ttl=days(1)
)


def script(backend: str, files: dict[str, Path], sink: Path) -> str:
    """The derived job up to the joined stream, its topics and its sinks replaced by files."""

    def reading(path):
        return f"WITH ('connector' = 'filesystem', 'path' = '{path.as_uri()}', 'format' = 'json')"

    job, _ = jobs(Repository("r", (VIEW,), ()))  # the other archives
    kept = []
    for statement in job_sql(job).split(";\n"):
        statement = statement.strip()
        if found := re.match(r"CREATE TABLE sources\.`(\w+)`", statement):
            # A file is not read from Kafka: no record of it is dead, or has a place in a log,
            # and what its headers would say of a trace is a column.
            statement = re.sub(r"`_headers` .*\n *", "", statement)
            statement = re.sub(r"(`_traceparent`) AS .*,", r"\1 STRING,", statement)
            statement = re.sub(
                r"(`\w+`) (\S+) METADATA FROM '\S+' VIRTUAL", r"\1 AS CAST(NULL AS \2)", statement
            )
            kept.append(re.sub(r"WITH \(.*", reading(files[found[1]]), statement, flags=re.DOTALL))
        elif re.match(r"CREATE (DATABASE|TEMPORARY|VIEW joined)", statement):
            kept.append(statement)
    columns = [f"{identifier(c.name)} {sql_type(c.type)}" for c in JOINED.columns]
    columns += ["`at` TIMESTAMP_LTZ(3)", "`trace` STRING"]
    names = ", ".join(identifier(c.name) for c in JOINED.columns)
    options = {"connector": "filesystem", "path": sink.as_uri(), "format": "json"}
    return ";\n".join(
        [
            f"SET 'state.backend.type' = '{backend}'",
            "SET 'parallelism.default' = '1'",
            "SET 'table.local-time-zone' = 'UTC'",
            "SET 'pipeline.auto-watermark-interval' = '1 ms'",
            f"SET 'execution.checkpointing.dir' = '{sink.parent.as_uri()}'",
            "SET 'execution.checkpointing.interval' = '50 ms'",
            *kept,
            create_table("written", columns, options).removesuffix(";\n"),
            "BEGIN STATEMENT SET",
            "INSERT INTO written"
            f" SELECT {names}, `rowtime`, `_traceparent` FROM joined.`clicks_known`",
            "END",
        ]
    )


def recorded(random: Random):
    """Clicks, a table's change log as Debezium writes it with its versions, and moods."""
    start, bound = 10**9, 240_000
    clicks = [
        {
            "event_time": start + n * 6_000,
            "user": random.choice("uvwx"),
            "page": random.choice("pqr"),
            "n": n,
        }
        for n in range(300)
    ]
    moods = [
        {
            "event_time": start + n * 60_000,
            "page": random.choice("pq"),
            "i": n,
            "d": random.choice([None, n / 7]),
            "s": random.choice([None, "it's", "é"]),
        }
        for n in range(-5, 20)
    ]
    for events in (clicks, moods):
        events.sort(key=lambda e: e["event_time"] + random.randrange(0, bound, 1_000))
    changes, known, rows = [], [], {}
    for n in range(40):
        # Three rows of a snapshot, then changes, some of them to what was true a while ago.
        user = "uvw"[n] if n < 3 else random.choice("uvw")
        committed = start + max(0, n - 3) * 50_000
        before, after = rows.get(user), None
        if before is None or random.random() < 0.8:
            after = {
                "user": user,
                "i": n,
                "d": random.choice([None, n / 3]),
                "s": f"v{n}",
                "updated_at": start - 1 if n < 3 else committed - random.choice([0, 0, 59_000]),
            }
        op = "d" if after is None else "r" if n < 3 else "c" if before is None else "u"
        snapshot = ("first", "true", "last")[n] if n < 3 else "false"
        source = {"snapshot": snapshot, "ts_ms": committed}
        changes.append(
            {"before": before, "after": after, "op": op, "ts_ms": committed, "source": source}
        )
        since = committed if after is None else after["updated_at"]
        known.append(Version(since, after or {"user": user}, deleted=after is None))
        rows[user] = after
    return clicks, changes, known, moods


def test_flink_sql_joins_the_same_on_both_state_backends(tmp_path):
    if not KERNEL.exists():
        pytest.skip("needs `make setup`")
    clicks, changes, known, moods = recorded(Random(11))
    traces = {n: f"of {n}" for n in range(0, len(clicks), 7)}
    sent = [click | {"_traceparent": traces.get(click["n"])} for click in clicks]
    files = {}
    for name, lines in {"clicks": sent, "users": changes, "moods": moods}.items():
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    sinks = [tmp_path / "hashmap", tmp_path / "rocksdb"]
    run_pyflink(SCRIPT, [script(sink.name, files, sink) for sink in sinks], tmp_path)
    wanted = {
        event["n"]: event
        for event in enrich(JOINED, clicks, {"users": known, "moods": versions(MOODS, moods)})
    }
    assert {e["user_s"] for e in wanted.values()} > {None}, "some users are known, some are not"
    for sink in sinks:
        found = {}
        for part in sorted(sink.rglob("part-*")):
            for line in part.read_text().splitlines():
                row = json.loads(line)
                at = int(datetime.fromisoformat(row.pop("at")).timestamp()) * 1000
                assert row["n"] not in found
                assert row.pop("trace", None) == traces.get(row["n"])
                found[row["n"]] = {name: row.get(name) for name in wanted[row["n"]]}
                found[row["n"]]["event_time"] = at
        assert found == wanted


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (
            lambda: TemporalJoin(USERS, on="user", columns=("j",)),
            ("join.users.columns", "'j'", "user, i, d, s"),
        ),
        (lambda: TemporalJoin(USERS, on="user", columns=()), ("join.users.columns",)),
        (
            lambda: TemporalJoin(MOODS, on="page", columns=("i",)),
            ("join.moods.within", "how long"),
        ),
        (
            lambda: TemporalJoin(USERS, on="user", columns=("i",), within=hours(1)),
            ("join.users.within", "1h"),
        ),
        (
            lambda: TemporalJoin(USERS, on="user", columns=("i",), key="i"),
            ("join.users.key", "'i'", "user"),
        ),
        (
            lambda: JoinedStream("j", CLICKS, (TemporalJoin(USERS, on="usr", columns=("i",)),)),
            ("joined_stream.j.joins.users.on", "did you mean 'user'"),
        ),
        (
            lambda: JoinedStream("j", CLICKS, (TemporalJoin(USERS, on="n", columns=("i",)),)),
            ("joined_stream.j.joins.users.on", "int64 n", "user, page"),
        ),
        (
            lambda: JoinedStream("j", CLICKS, (BY_USER, BY_PAGE)),
            ("joined_stream.j.columns", "'i'"),
        ),
        (
            lambda: JoinedStream(
                "j",
                CLICKS,
                (TemporalJoin(CLICKS, on="user", columns=("n",), within=hours(1)),),
            ),
            ("joined_stream.j.joins", "itself", "'clicks'"),
        ),
        (
            lambda: JoinedStream(
                "j",
                CLICKS,
                (
                    TemporalJoin(
                        replace(USERS, columns=(*USERS.columns, Column("time", Type.TIMESTAMP))),
                        on="user",
                        columns=("time",),
                        prefix="row",
                    ),
                ),
            ),
            ("joined_stream.j.columns", "'rowtime'"),
        ),
        (
            lambda: FeatureView(
                "v", JOINED, (Entity("user", "user"),), over([hours(1)], mean("user_dd")), days(1)
            ),
            ("view.v.features.user_dd_mean_1h.column", "did you mean 'user_d'"),
        ),
    ],
)
def test_an_error_names_path_value_and_choices(make, parts):
    with pytest.raises(DeclarationError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def test_an_event_whose_joined_key_is_not_known_is_no_row_of_the_view():
    of = FeatureView("v", JOINED, (Entity("level", "user_i", Type.INT64),), VIEW.features, days(1))
    script = job_sql(jobs(Repository("r", (of,), ()))[0])
    (given,) = re.findall(r"CREATE VIEW inputs\.`v` AS\n[^;]*;", script)
    assert given.endswith("WHERE `user_i` IS NOT NULL;")


def test_what_is_only_joined_is_read_too():
    repository = Repository("r", (VIEW,), ())
    assert repository.streams == (CLICKS, MOODS)
    assert repository.tables == (USERS,)
    job, archive = jobs(repository)  # no job of its own for what no view aggregates
    assert job.sources == (CLICKS, USERS, MOODS)
    assert archive.sources == (CLICKS, MOODS, served_stream("r"))
