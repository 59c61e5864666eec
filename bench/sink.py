"""`feast-redis` beside a vectorised Python writer, and beside redis-benchmark's plain HSET.

    python -m bench.sink [--copies 10] [--rounds 3]

The rows are the flights' departures by aircraft: three features, so each hash has five fields with
the version and the timestamp. All three write to the same Redis, which is emptied before each
run, and take turns. The writer is measured alone, from rows in memory, as the others are; and
once more at the end of a Flink job that reads and parses the same rows from Kafka.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import time
from pathlib import Path

import redis

from bench.engine import script
from bench.flights import Bench, bench, departures, fill, seconds
from bench.python_writer import write
from bench.report import publish
from connectors.ddl import create_table
from connectors.redis_codec import feature_field
from headwater.local.flink import flink_home
from schemas import EventStream

_GOALS = {"vs_python": "≥ 8", "vs_redis": "≥ 0.7"}
_TESTS = Path("flink_jobs/kernel/src/test/java/io/headwater/kernel/redis")
_CLASSES = Path("build/bench-classes")
_REDIS_BENCHMARK = Path("build/tools/redis-benchmark")
_PYTHON_ROWS = 400_000
_VIEW = "departures"
_FEATURES = ("dep_delay", "distance", "flight")


class Contenders:
    """The three writers, on one Redis."""

    def __init__(self, bench: Bench, rows: Path) -> None:
        self.settings = bench.settings
        self.rows = rows
        jars = [*Path("build/jars/flink").glob("*.jar")]
        jars += (flink_home(bench.settings) / "lib").glob("*.jar")
        self.classpath = ":".join(map(str, [_CLASSES, *sorted(jars)]))
        sources = [_TESTS / f"{name}.java" for name in ("WriterThroughput", "Fixture")]
        _CLASSES.mkdir(parents=True, exist_ok=True)
        javac = ["javac", "-proc:none", "-nowarn", "-cp", self.classpath, "-d", str(_CLASSES)]
        subprocess.run([*javac, *map(str, sources)], check=True)

    def ours(self) -> tuple[float, float]:
        """Rows a second given to the writer, and the part of them that it wrote."""
        self._empty()
        told = json.loads(self._java(self.settings.redis_url, str(self.rows)))
        return told["asked"] / told["seconds"], told["written"] / told["asked"]

    def python(self) -> float:
        """Rows a second given to the vectorised Python writer."""
        self._empty()
        lua = self._java("--script", str(len(_FEATURES)))
        return write(self.settings.ports.redis, lua, self.rows, _VIEW, _FEATURES, _PYTHON_ROWS)

    def redis(self, rows: int, keys: int) -> float:
        """Rows a second that redis-benchmark writes, with pipelines as deep as ours."""
        self._empty()
        # Every value as long as ours.
        pairs = [f"_ep:{_VIEW}", "0:1357016400000", f"_ts:{_VIEW}", "123456"]
        for name in _FEATURES:
            field = "".join(chr(33 + byte % 90) for byte in feature_field(_VIEW, name))
            pairs += [field, "123456789"]
        command = [str(_REDIS_BENCHMARK), "-p", str(self.settings.ports.redis), "-n", str(rows)]
        command += ["-c", "1", "-P", "1000", "-r", str(keys), "--csv"]
        key = "tailnum-as-long-as-an-entity-key:__rand_int__"
        done = subprocess.run(
            [*command, "HSET", key, *pairs], check=True, capture_output=True, text=True
        )
        found = re.search(r'^"HSET.*?","([\d.]+)"', done.stdout, re.MULTILINE)
        if found is None:
            raise SystemExit(f"redis-benchmark said something else: {done.stdout}{done.stderr}")
        return float(found[1])

    def _empty(self) -> None:
        with redis.Redis(port=self.settings.ports.redis) as server:
            server.flushall()

    def _java(self, *arguments: str) -> str:
        java = ["java", "-Xms3g", "-Xmx3g", "-XX:+UseParallelGC", "-cp", self.classpath]
        done = subprocess.run(
            [*java, "io.headwater.kernel.redis.WriterThroughput", *arguments],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout


def through_flink(platform: Bench, stream: EventStream, rows: int) -> float:
    """Rows a second of a job that reads the topic and ends in the sink."""
    columns = ["`tailnum` STRING", "`dep_delay` DOUBLE", "`distance` DOUBLE", "`flight` BIGINT"]
    options = {
        "connector": "feast-redis",
        "url": "${redis}",
        "project": "bench",
        "view": _VIEW,
        "entity-keys": "tailnum",
        "event-time": "event_time",
        "epoch": "0",
    }
    sql = [
        "CREATE DATABASE online;\n",
        create_table("online.departures", [*columns, "`event_time` BIGINT"], options),
        "BEGIN STATEMENT SET;\n",
        "INSERT INTO online.departures SELECT `tailnum`, `dep_delay`, `distance`, `flight`,"
        f" `event_time` FROM sources.`{stream.name}`;\n",
        "END;\n",
    ]
    text = script("bench-sink", stream, {"scan.bounded.mode": "latest-offset"}, sql)
    job = platform.finish("bench-sink", text, 600)
    if job is None:
        raise SystemExit("bench-sink: not done after 600 s")
    return rows / seconds(job)


def main() -> None:
    """Run everything and publish it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--copies", type=int, default=10, help="of each departure")
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    if not _REDIS_BENCHMARK.exists():
        raise SystemExit(f"{_REDIS_BENCHMARK} is not there: run `make bench-sink`")
    parts = ("postgres", "redis", "kafka", "flink", "taskmanager")
    with bench(*parts) as platform:
        stream = platform.jobs.known["flights-departures"].sources[0]
        assert isinstance(stream, EventStream)
        rows = Path("build/bench-rows.csv")
        count, aircraft = 0, set()
        with rows.open("w", encoding="utf-8") as file:
            for e in departures(platform.settings, given.copies):
                values = (e["tailnum"], e["event_time"], *(e[name] for name in _FEATURES))
                file.write(",".join(map(str, values)) + "\n")
                count += 1
                aircraft.add(e["tailnum"])
        contenders = Contenders(platform, rows)
        ours, python, plain, shares = [], [], [], []
        for turn in range(given.rounds):
            rate, share = contenders.ours()
            ours.append(rate)
            shares.append(share)
            plain.append(contenders.redis(count, len(aircraft)))
            python.append(contenders.python())
            print(
                f"round {turn + 1} of {given.rounds}: feast-redis {ours[-1]:,.0f} rows/s"
                f" ({share:.0%} written), redis-benchmark {plain[-1]:,.0f},"
                f" Python {python[-1]:,.0f}",
                flush=True,
            )
        began = time.monotonic()
        read = lambda: departures(platform.settings, given.copies)  # noqa: E731
        there = fill(platform.settings, stream, "bench.departures", read)
        flink = [through_flink(platform, there, count) for _ in range(3)][1:]
        print(f"through Flink, after {time.monotonic() - began:.0f} s: {flink}")
    rows.unlink()
    share = statistics.median(shares)
    publish(
        "sink",
        {
            "rows_per_second": statistics.median(ours),
            "vs_python": statistics.median(a / b for a, b in zip(ours, python, strict=True)),
            # Of rows that were written: a row that a newer one of its batch replaces is not.
            "vs_redis": statistics.median(a / b for a, b in zip(ours, plain, strict=True)) * share,
            "rows_written_share": share,
            "python_rows_per_second": statistics.median(python),
            "redis_rows_per_second": statistics.median(plain),
            "flink_rows_per_second": statistics.median(flink),
        },
        _GOALS,
        {"rows": count, "keys": len(aircraft), "ours": ours, "python": python, "redis": plain},
    )


if __name__ == "__main__":
    main()
