"""Every row the kernel emits, held against the plain-Python definition.

Generated streams go through the real engine in a JVM of its own, with restarts from serialized
state in between; one stream goes through Flink SQL as a job would, on both state backends.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from itertools import repeat
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.ddl import REASON, create_table, identifier, sql_type
from flink_jobs.sql import condition_column, job_sql, jobs, rolling_spec
from headwater.local.flink import environment, jobmanager
from headwater.recompute import holds, instants, matches, recompute
from headwater.settings import Settings
from schemas import (
    Column,
    Duration,
    Entity,
    EventStream,
    Feature,
    FeatureView,
    Repository,
    Type,
    Window,
    col,
    count,
    days,
    distinct,
    first,
    largest,
    last,
    last_n,
    mean,
    over,
    percentile,
    share,
    smallest,
    stddev,
    total,
    variance,
)

ROOT = Path(__file__).parent.parent
KERNEL = ROOT / "build/jars/flink/headwater-kernel-0.1.0.jar"
HARNESS = ROOT / "flink_jobs/kernel/src/test/java/io/headwater/kernel/rolling/Harness.java"
FLINK = ROOT / "build/envs/flink/lib/python3.11/site-packages/pyflink"

VISITS = EventStream(
    "visits",
    "visits",
    (
        Column("user", Type.STRING),
        Column("i", Type.INT64, required=False),
        Column("d", Type.FLOAT64, required=False),
        Column("b", Type.BOOL, required=False),
        Column("s", Type.STRING, required=False),
    ),
    partition_by="user",
)
WINDOWS = [
    Window(Duration(60), Duration(10)),
    Window(Duration(20), Duration(10)),
    Window(Duration(40), Duration(1)),
    Window(Duration(90), Duration(45)),
]
POSITIVE = col("d") > 0
PICKED = (col("s") == "it's") & col("i").is_not_null()
AGGREGATIONS = (
    *(how(c) for c in ("i", "d", "b", "s") for how in (count, first, last, distinct)),
    *(how(c) for c in ("i", "d") for how in (total, mean, smallest, largest, stddev, variance)),
    *(percentile(c, q) for c in ("i", "d") for q in (0.07, 0.5, 0.999)),
    *(last_n(c, 3) for c in ("i", "d", "b", "s")),
    last_n("i", 1),
    count(),
    count(where=POSITIVE),
    count("i", where=col("b") == True),  # noqa: E712 - a condition, not a test
    mean("d", where=PICKED),
    first("s", where=POSITIVE),
    last("s", where=POSITIVE),
    last_n("s", 2, where=col("d").is_null()),
    distinct("s", where=POSITIVE),
    percentile("i", 0.5, where=col("d") <= 2.5),
    share(POSITIVE),
    share(col("i") >= -3, where=col("s") != "b"),
)


def view(*features):
    return FeatureView("v", VISITS, (Entity("user", "user"),), features, ttl=days(1))


def features():
    """Every aggregation over the same windows, or a few, each over its own."""
    lifetime = tuple(Feature(f"{a.label}_ever", a) for a in AGGREGATIONS)
    few = st.lists(
        st.sampled_from(AGGREGATIONS), min_size=1, max_size=4, unique_by=lambda a: a.label
    )
    windows = st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=3, unique=True)
    return st.builds(lambda w, a: over(w, *a), windows, few) | st.sampled_from(
        [over([w], *AGGREGATIONS) for w in WINDOWS] + [lifetime]
    )


def maybe(values):
    return st.none() | values


VALUES = st.fixed_dictionaries(
    {
        "i": maybe(st.integers(-5, 5) | st.integers(-(2**40), 2**40)),
        "d": maybe(st.sampled_from([-0.0, 0.0, 2.5, -7.25]) | st.floats(-1e6, 1e6)),
        "b": maybe(st.booleans()),
        "s": maybe(st.sampled_from(["", "a", "b", "it's", "é\u20ac", "\U0001f6eb"])),
    }
)
# Milliseconds since the event before: ties, steps within a tile, and gaps that empty a window.
STEPS = st.sampled_from([0, 0, 1, 300, 2_000, 9_999, 10_000, 31_000, 200_000])


@st.composite
def streams(draw, bound):
    """Commands for the harness: rows in disorder around `bound`, watermarks and restarts."""
    time, commands, newest = draw(st.integers(-100_000, 100_000)), [], None
    for _ in range(draw(st.integers(1, 25))):
        time += draw(STEPS)
        back = draw(st.sampled_from([0, 0, 1, bound // 2, bound, bound + 1, 4 * bound]))
        event = {"user": draw(st.sampled_from("xyz")), "event_time": time - back}
        commands.append(event | draw(VALUES))
        newest = max(time - back, time - back if newest is None else newest)
        after = draw(st.sampled_from(["", "", "watermark", "restart"]))
        if after == "watermark":
            commands.append(newest - bound - 1)
        elif after == "restart":
            commands.append("restart")
    return commands


class Kernel:
    """The harness's JVM, running."""

    def __init__(self, classes: Path) -> None:
        jars = ":".join(map(str, [KERNEL, *sorted((FLINK / "lib").glob("*.jar"))]))
        javac = ["javac", "-proc:none", "-nowarn", "-cp", jars, "-d", str(classes), str(HARNESS)]
        subprocess.run(javac, check=True)
        java = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{classes}:{jars}"]
        self.process = subprocess.Popen(
            [*java, "io.headwater.kernel.rolling.Harness"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer
        return answer

    def run(self, of: FeatureView, commands, traced=None):
        """The rows emitted, by key, the events that were not late, and the rest of the answer."""
        names = {c.name: sql_type(c.type) for c in VISITS.columns if c.name != "user"}
        conditions = {condition_column(c): c for f in of.features for c in f.aggregation.conditions}
        columns = [*names.items(), *((text, "BOOLEAN") for text in conditions)]
        spec = json.loads(rolling_spec(of))
        if traced is not None:
            columns.append(("traceparent", "STRING"))
            spec["trace"] = "traceparent"

        def encode(command, trace):
            if isinstance(command, int):
                return ["watermark", command]
            if isinstance(command, str):
                return [command]
            values = [command[name] for name in names]
            values += [holds(condition, command) for condition in conditions.values()]
            values += [] if traced is None else [trace]
            return ["row", command["user"], command["event_time"], values]

        told = map(encode, commands, traced or repeat(None))
        sent = list(told)
        # Keys are kept as bytes in half of all runs, and as objects in the other half.
        few = len(sent) % 2 * 100
        answer = self.ask({"spec": spec, "columns": columns, "commands": sent, "few": few})
        rows, events = {}, {}
        for key, time, values, *_ in answer["rows"]:
            rows.setdefault(key, []).append((time, values))
        for i, command in enumerate(commands):
            if isinstance(command, dict) and i not in set(answer["late"]):
                events.setdefault(command["user"], []).append(command)
        return rows, events, answer


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    if not KERNEL.exists() or shutil.which("javac") is None:
        pytest.skip("needs `make setup` and a JDK")
    kernel = Kernel(tmp_path_factory.mktemp("classes"))
    yield kernel
    kernel.process.stdin.close()
    kernel.process.wait(10)


def check(of: FeatureView, rows, events):
    """At each instant at which a value may change, the row in force is the definition's."""
    assert rows.keys() == events.keys()
    for key, own in events.items():
        times = {event["event_time"] for event in own}
        emitted = dict(rows[key])
        assert len(emitted) == len(rows[key])
        assert list(emitted) == sorted(emitted)
        assert emitted.keys() <= set(instants(of, own))
        in_force = None
        for at in instants(of, own):
            assert at in emitted or at not in times
            in_force = emitted.get(at, in_force)
            expected = recompute(of, own, at)
            for feature, value in zip(of.features, in_force, strict=True):
                exact = expected[feature.name]
                assert matches(feature, value, exact, own), (key, at, feature.name, value, exact)


QUICK = settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
FOREVER = 10**15


@QUICK
@given(features(), streams(bound=5_000))
def test_every_row_is_the_definitions_and_late_rows_change_nothing(kernel, chosen, commands):
    of = view(*chosen)
    rows, events, answer = kernel.run(of, [*commands, FOREVER])
    check(of, rows, events)
    # State outlives its windows only where a feature has none.
    lifetime = any(feature.window is None for feature in chosen)
    assert answer["states"] == (len(events) if lifetime else 0)


@QUICK
@given(features(), streams(bound=5_000))
def test_a_replay_gives_the_same_rows_bit_for_bit(kernel, chosen, commands):
    of = view(*chosen)
    rows, events, _ = kernel.run(of, [*commands, FOREVER])
    ordered = sorted((e for own in events.values() for e in own), key=lambda e: e["event_time"])
    replayed, _, _ = kernel.run(of, [*ordered, FOREVER])
    assert json.dumps(replayed, sort_keys=True) == json.dumps(rows, sort_keys=True)


def sampled(n):
    return f"00-{n:032x}-{n:016x}-01"


@QUICK
@given(features(), streams(bound=5_000), st.randoms(use_true_random=False))
def test_a_trace_comes_out_with_its_time_and_changes_nothing(kernel, chosen, commands, random):
    of = view(*chosen)
    plain, _, _ = kernel.run(of, [*commands, FOREVER])
    traced = [sampled(n) if random.random() < 0.4 else None for n in range(1, len(commands) + 1)]
    rows, _, answer = kernel.run(of, [*commands, FOREVER], [*traced, None])
    assert json.dumps(rows, sort_keys=True) == json.dumps(plain, sort_keys=True)
    late = set(answer["late"])
    for key, time, _, trace in answer["rows"]:
        own = {
            traced[n]
            for n, c in enumerate(commands)
            if isinstance(c, dict) and n not in late and (c["user"], c["event_time"]) == (key, time)
        }
        assert trace in (own - {None} or {None}), (key, time)


def big(values):
    """One event a second, so that tiles, not only windows, hold many values."""
    empty = {"i": None, "d": None, "b": None, "s": None}
    return [empty | {"user": "x", "event_time": n * 10} | v for n, v in enumerate(values)]


def test_estimates_hold_their_bounds_over_many_values(kernel):
    window = Window(Duration(120), Duration(1))
    of = view(*over([window], distinct("s"), distinct("i"), percentile("d", 0.9), count()))
    events = big(
        {"i": n % 1024, "d": ((n * 7919) % 10007) ** 2 / 7 - 1e4, "s": f"s{n}"}
        for n in range(10_000)
    )
    rows, _, _ = kernel.run(of, [*events[:5_000], "restart", *events[5_000:], "restart", 99_990])
    for time, values in (rows["x"][n] for n in (1_000, 1_100, 3_000, 9_999)):
        expected = recompute(of, events, time)
        for feature, value in zip(of.features, values, strict=True):
            assert matches(feature, value, expected[feature.name], events), (
                time,
                feature.name,
                value,
            )


SCRIPT = """
import json, sys
from pyflink.table import EnvironmentSettings, TableEnvironment
from flink_jobs.runner import statement_set
for sql in json.load(sys.stdin):
    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    statement_set(table, sql, {}).execute().wait()
"""


def script(of: FeatureView, backend: str, source: Path, sink: Path) -> str:
    """The derived job, its topic and its sinks replaced by files."""

    def files(name, columns, path):
        options = {"connector": "filesystem", "path": path.as_uri(), "format": "json"}
        return create_table(name, columns, options).removesuffix(";\n")

    job, _ = jobs(Repository("r", (of,), ()))  # the other archives
    derived = job_sql(job).split(";\n")
    kept = [s.strip() for s in derived if "CREATE VIEW" in s or "FUNCTION" in s or "DATABASE" in s]
    time = "`rowtime`"
    read = [
        "`event_time` BIGINT",
        *(f"{identifier(c.name)} {sql_type(c.type)}" for c in VISITS.columns),
        f"{identifier(REASON)} STRING",
        f"{time} AS TO_TIMESTAMP_LTZ(`event_time`, 3)",
        f"WATERMARK FOR {time} AS {time} - INTERVAL '{VISITS.disorder.seconds}' SECOND(3)",
    ]
    written = [
        "`user` STRING",
        *(f"{identifier(c.name)} {sql_type(c.type)}" for c in of.schema),
        "`event_time` TIMESTAMP_LTZ(3)",
    ]
    views = next(i for i, s in enumerate(kept) if s.startswith("CREATE VIEW"))
    return ";\n".join(
        [
            f"SET 'state.backend.type' = '{backend}'",
            "SET 'parallelism.default' = '1'",
            "SET 'table.local-time-zone' = 'UTC'",
            "SET 'pipeline.auto-watermark-interval' = '1 ms'",
            f"SET 'execution.checkpointing.dir' = '{sink.parent.as_uri()}'",
            "SET 'execution.checkpointing.interval' = '50 ms'",
            *kept[:views],
            files("sources.`visits`", read, source),
            files("written", written, sink),
            *kept[views:],
            "BEGIN STATEMENT SET",
            "INSERT INTO written SELECT * FROM computed.`v`",
            "END",
        ]
    )


def test_flink_sql_emits_the_same_rows_on_both_state_backends(tmp_path):
    if not KERNEL.exists():
        pytest.skip("needs `make setup`")
    random = Random(7)
    events = []
    for n in range(100):
        event = {"user": random.choice("xyz"), "event_time": n * 6_000 + 10**9}
        event |= {"i": random.choice([None, *range(-5, 6)]), "d": random.uniform(-9, 9)}
        event |= {"b": random.choice([None, True, False]), "s": random.choice([None, "b", "it's"])}
        events.append(event)
    bound = VISITS.disorder.seconds * 1000 - 1_000
    events.sort(key=lambda e: e["event_time"] + random.randrange(0, bound, 1_000))
    source = tmp_path / "visits.json"
    # An event of nobody is no row.
    written = [one for event in events for one in (event, event | {"user": None})]
    source.write_text("".join(json.dumps(event) + "\n" for event in written))
    lifetime = (Feature("s_distinct", distinct("s")), Feature("s_first", first("s")))
    user, *others = VISITS.columns
    optional = replace(VISITS, columns=(replace(user, required=False), *others))
    of = replace(view(*over(WINDOWS[1:2], *AGGREGATIONS), *lifetime), source=optional)
    sinks = [tmp_path / "hashmap", tmp_path / "rocksdb"]
    platform = Settings.read({"HEADWATER_STATE": str(tmp_path / "state")})
    jobmanager(platform).prepare()
    run = subprocess.run(
        [ROOT / "build/envs/flink/bin/python", "-c", SCRIPT],
        input=json.dumps([script(of, sink.name, source, sink) for sink in sinks]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(platform) | {"PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr[-6000:]
    per_key = {k: [e for e in events if e["user"] == k] for k in "xyz"}
    outputs = []
    for sink in sinks:
        rows = {}
        for part in sorted(sink.rglob("part-*")):
            for line in part.read_text().splitlines():
                row = json.loads(line)
                at = int(datetime.fromisoformat(row["event_time"]).timestamp()) * 1000
                values = [row.get(feature.name) for feature in of.features]
                rows.setdefault(row["user"], []).append((at, values))
        check(of, rows, per_key)
        outputs.append(rows)
    assert outputs[0] == outputs[1]
