"""`rolling` beside Flink SQL's OVER, and beside its source with nothing behind it.

    python -m bench.engine [--copies 10] [--rounds 3]

All views over the flights' departures in one job, as the platform runs them, each into a
blackhole. Every ratio is of runs in the same cluster, one after the other; the first run of each
kind is thrown away, since it compiles.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import psutil

from bench.flights import Bench, bench, departures, fill, one_week, seconds
from bench.report import publish
from connectors.ddl import create_table, identifier, literal, source_ddl, sql_type
from flink_jobs.rest import FlinkError
from flink_jobs.sql import CREATE_ROLLING, CREATE_SHARD, SHARD, condition_text, view_sql
from schemas import EVENT_TIME, EventStream, Feature, FeatureView

_GOALS = {"vs_over": "≥ 20", "vs_parse": "≥ 0.6", "keys_1m_vs_parse": "≥ 0.4"}
_DAY = 86_400_000
_DRIFT = "scan.watermark.alignment.max-drift"
_AGGREGATES = {
    "count": "COUNT({column})",
    "mean": "AVG({column})",
    "sum": "SUM({column})",
    "min": "MIN({column})",
    "max": "MAX({column})",
    # What the planner makes of STDDEV_POP wherever it takes it.
    "stddev": "SQRT(AVG({column} * {column}) - AVG({column}) * AVG({column}))",
    "share": "AVG(CASE WHEN {condition} THEN 1.0E0 ELSE 0.0E0 END)",
    "distinct": "COUNT(DISTINCT {column})",
}
"""There is none for a percentile: OVER computes fewer features than `rolling`."""


def script(name: str, stream: EventStream, bound: dict[str, str], more: Iterable[str]) -> str:
    """A job's script: the source, read up to `bound`, and whatever comes after it.

    What has an end is read as a replay reads it, since Flink's own table may fail on the way to it
    (FLINK-39728).
    """
    if bound:
        bound = {"connector": "kafka-replay", **bound}
    options = ", ".join(f"{literal(k)} = {literal(v)}" for k, v in bound.items())
    return "\n".join(
        [
            f"SET 'pipeline.name' = {literal(name)};\n",
            *(
                f"CREATE DATABASE {d};\n"
                for d in ("sources", "inputs", "rolled", "computed", "nowhere")
            ),
            CREATE_ROLLING,
            CREATE_SHARD,
            source_ddl(stream, ""),
            f"ALTER TABLE sources.{identifier(stream.name)} SET ({options});\n" if options else "",
            *more,
        ]
    )


def _nowhere(view: FeatureView, columns: Sequence[str]) -> str:
    return create_table(f"nowhere.{identifier(view.name)}", columns, {"connector": "blackhole"})


def _keys(view: FeatureView) -> list[str]:
    return [f"{identifier(e.key)} {sql_type(e.type)}" for e in view.entities]


def _columns(view: FeatureView, features: Sequence[Feature]) -> list[str]:
    kept = {feature.name for feature in features}
    values = [f"{identifier(c.name)} {sql_type(c.type)}" for c in view.schema if c.name in kept]
    return [*values, f"{identifier(EVENT_TIME)} TIMESTAMP_LTZ(3)"]


def _together(inserts: Iterable[str]) -> list[str]:
    return ["BEGIN STATEMENT SET;\n", *inserts, "END;\n"]


def rolling(views: Sequence[FeatureView]) -> list[str]:
    """The platform's own SQL of the views, into a blackhole."""
    return [
        *(text for view in views for text in view_sql(view)),
        *(_nowhere(view, [f"{identifier(SHARD)} INT", _result(view)]) for view in views),
        *_together(
            f"INSERT INTO nowhere.{identifier(v.name)} SELECT * FROM rolled.{identifier(v.name)};\n"
            for v in views
        ),
    ]


def _result(view: FeatureView) -> str:
    columns = [*_columns(view, view.features), "`late_row` STRING", *_keys(view)]
    return f"`result` ROW<{', '.join(columns)}>"


def parse(views: Sequence[FeatureView], stream: EventStream) -> list[str]:
    """The columns that the views read, straight into a blackhole."""
    read = [name for view in views for name in view.keys]
    read += [f.aggregation.column for v in views for f in v.features if f.aggregation.column]
    columns = [c for c in stream.columns if c.name in set(read)]
    names = ", ".join(identifier(c.name) for c in columns)
    ddl = [f"{identifier(c.name)} {sql_type(c.type)}" for c in columns]
    return [
        create_table(
            "nowhere.parsed", [*ddl, "`rowtime` TIMESTAMP_LTZ(3)"], {"connector": "blackhole"}
        ),
        *_together(
            [
                f"INSERT INTO nowhere.parsed SELECT {names}, `rowtime`"
                f" FROM sources.{identifier(stream.name)};\n"
            ]
        ),
    ]


def over(views: Sequence[FeatureView], stream: EventStream) -> list[str]:
    """The same windows as OVER, one inside the other, since a query takes one window only."""
    texts, inserts = [], []
    for view in views:
        features = [f for f in view.features if f.aggregation.op.value in _AGGREGATES and f.window]
        read = dict.fromkeys(
            (*view.keys, *(f.aggregation.column for f in features if f.aggregation.column))
        )
        for f in features:
            condition = f.aggregation.condition
            if condition is not None:
                read |= dict.fromkeys(c.column for c in condition.comparisons)
        query = (
            f"SELECT {', '.join(map(identifier, read))}, `rowtime`"
            f" FROM sources.{identifier(stream.name)}"
        )
        for size in dict.fromkeys(f.window.size.seconds for f in features if f.window):
            values = ", ".join(
                f"{_aggregate(f)} AS {identifier(f.name)}"
                for f in features
                if f.window and f.window.size.seconds == size
            )
            query = (
                f"SELECT *, {values} FROM ({query}) WINDOW w AS ("
                f"PARTITION BY {', '.join(map(identifier, view.keys))} ORDER BY `rowtime` RANGE"
                f" BETWEEN {_interval(size)} PRECEDING AND CURRENT ROW)"
            )
        names = [f.name for f in features]
        kept = [c.name for c in view.schema if c.name in names]
        texts.append(_nowhere(view, [*_keys(view), *_columns(view, features)]))
        inserts.append(
            f"INSERT INTO nowhere.{identifier(view.name)} SELECT"
            f" {', '.join(map(identifier, (*view.keys, *kept)))}, `rowtime` FROM ({query});\n"
        )
    return [*texts, *_together(inserts)]


def _interval(seconds: int) -> str:
    """In the largest unit that divides it: the planner takes two digits."""
    for unit, size in (("DAY", 86_400), ("HOUR", 3_600), ("MINUTE", 60)):
        if seconds % size == 0:
            return f"INTERVAL '{seconds // size}' {unit}"
    return f"INTERVAL '{seconds}' SECOND"


def _aggregate(feature: Feature) -> str:
    how = feature.aggregation
    text = _AGGREGATES[how.op.value].format(
        column=identifier(how.column) if how.column else "*",
        condition="" if how.condition is None else condition_text(how.condition),
    )
    # The window follows each aggregate function, and only those.
    return re.sub(r"\b(AVG|SUM|MIN|MAX|COUNT)(\((?:[^()]|\([^()]*\))*\))", r"\1\2 OVER w", text)


class Runs:
    """The runs of one benchmark, and all that Flink said of them."""

    def __init__(self, bench: Bench, views: Sequence[FeatureView]) -> None:
        self.bench = bench
        self.views = views
        self.details: list[dict[str, Any]] = []

    def rate(self, kind: str, stream: EventStream, rows: int, sql: list[str]) -> float:
        """Rows a second of a job over all of a topic."""
        # A year in seconds: with an hour's drift the source would wait most of the time.
        bound = {"scan.bounded.mode": "latest-offset", _DRIFT: "30 d"}
        return self._rate(kind, stream, rows, bound, sql, 900) or 0.0

    def over(self, stream: EventStream, rows: int, times: Sequence[int], limit: float) -> float:
        """Rows a second of OVER over as much of a topic's beginning as it does in `limit`."""
        share, best = 1 / 365, 0.0
        for _ in range(3):
            end = times[0] + int((times[-1] - times[0]) * share)
            read = sum(t < end for t in times)
            bound = {"scan.bounded.mode": "timestamp", "scan.bounded.timestamp-millis": str(end)}
            found = self._rate("over", stream, read, bound, over(self.views, stream), limit * 1.5)
            if found is None:
                share /= 6
                continue
            best = found
            took = read / found
            if took > limit / 2 or share == 1.0:
                break
            share = min(1.0, share * limit * 0.8 / took)
        return best

    def _rate(
        self,
        kind: str,
        stream: EventStream,
        rows: int,
        bound: dict[str, str],
        sql: list[str],
        limit: float,
    ) -> float | None:
        name = f"bench-{kind}"
        before = self._cpu()
        job = self.bench.finish(name, script(name, stream, bound, sql), limit)
        if job is None:
            print(f"{kind:<22} {rows:>10,} rows: not done after {limit:.0f} s", flush=True)
            return None
        took, cpu = seconds(job), self._cpu() - before
        print(
            f"{kind:<22} {rows:>10,} rows {took:>8.1f} s {rows / took:>12,.0f}/s"
            f" {cpu:>8.1f} s of CPU",
            flush=True,
        )
        self.details.append(
            {
                "kind": kind,
                "rows": rows,
                "seconds": took,
                "cpu_seconds": cpu,
                "tasks": [{"name": t["name"][:120], **t["metrics"]} for t in job["vertices"]],
            }
        )
        return rows / took

    def heap(self, stream: EventStream, rows: int, view: FeatureView) -> int:
        """Bytes of live heap that the state of a view over `stream` takes."""
        before = self._live()
        job = self.bench.start("bench-heap", script("bench-heap", stream, {}, rolling([view])))
        deadline, read = time.monotonic() + 600, 0
        while read < rows and time.monotonic() < deadline:
            time.sleep(1)
            try:
                tasks = self.bench.cluster.get(f"/jobs/{job}")["vertices"]
            except FlinkError:  # it is busy
                continue
            read = max(task["metrics"]["read-records"] for task in tasks)
        if read < rows:
            raise FlinkError(f"bench-heap: {read:,} of {rows:,} rows read after 600 s")
        time.sleep(5)
        after = self._live()
        self.bench.cluster.cancel(job)
        print(f"heap: {before / 1e6:,.0f} MB before, {after / 1e6:,.0f} MB with the state")
        return after - before

    def _cpu(self) -> float:
        """Seconds of processor time of the task manager so far."""
        times = psutil.Process(self.bench.platform.status(["taskmanager"])[0].pid).cpu_times()
        return times.user + times.system

    def _live(self) -> int:
        pid = str(self.bench.platform.status(["taskmanager"])[0].pid)
        for _ in range(2):
            subprocess.run(["jcmd", pid, "GC.run"], check=True, capture_output=True)
        told = subprocess.run(
            ["jcmd", pid, "GC.heap_info"], check=True, capture_output=True, text=True
        ).stdout
        found = re.search(r"garbage-first heap\s+total \d+K, used (\d+)K", told)
        if found is None:
            raise FlinkError(f"the task manager's garbage collector is not G1: {told}")
        return int(found[1]) * 1024


def main() -> None:
    """Run everything and publish it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--copies", type=int, default=10, help="of each departure")
    options.add_argument("--keys", type=int, default=1_000_000, help="distinct, for keys_1m")
    options.add_argument("--rounds", type=int, default=3, help="measured, after one that is not")
    options.add_argument("--over-seconds", type=float, default=120)
    given = options.parse_args()
    with bench("postgres", "kafka", "flink", "taskmanager", memory="9g") as platform:
        repository = platform.jobs.known["flights-departures"]
        stream = repository.sources[0]
        assert isinstance(stream, EventStream)
        views = tuple(view for view in repository.views if view.source == stream)
        read = lambda: departures(platform.settings, given.copies)  # noqa: E731
        times = [int(e["event_time"] or 0) for e in read()]
        rows = len(times)
        year = fill(platform.settings, stream, "bench.departures", read)
        week = fill(platform.settings, stream, "bench.keys", lambda: one_week(read(), given.keys))
        runs = Runs(platform, views)
        of = {year.topic: _views(views, year), week.topic: _views(views, week)}

        def pairs(kind: str, there: EventStream, rounds: int) -> tuple[list[float], list[float]]:
            ours, bare = [], []
            for _ in range(rounds):
                bare.append(runs.rate(f"{kind}parse", there, rows, parse(views, there)))
                ours.append(runs.rate(f"{kind}rolling", there, rows, rolling(of[there.topic])))
            return ours[1:], bare[1:]

        ours, bare = pairs("", year, given.rounds + 1)
        for view in of[year.topic]:
            runs.rate(view.name, year, rows, rolling([view]))
        ours_keys, bare_keys = pairs("keys_1m ", week, 2)
        aircraft = next(v for v in of[week.topic] if v.name == "aircraft_delays")
        keys = len({e["tailnum"] for e in one_week(read(), given.keys)})
        heap = runs.heap(week, rows, aircraft)
        theirs = runs.over(year, rows, times, given.over_seconds)
    rate = statistics.median(ours)
    publish(
        "engine",
        {
            "rows_per_second": rate,
            "vs_over": rate / theirs if theirs else 0.0,
            "vs_parse": statistics.median(a / b for a, b in zip(ours, bare, strict=True)),
            "keys_1m_vs_parse": statistics.median(
                a / b for a, b in zip(ours_keys, bare_keys, strict=True)
            ),
            "heap_bytes_per_key": heap / keys,
            "parse_rows_per_second": statistics.median(bare),
            "over_rows_per_second": theirs,
        },
        _GOALS,
        {"rows": rows, "keys": keys, "runs": runs.details},
    )


def _views(views: Sequence[FeatureView], stream: EventStream) -> list[FeatureView]:
    return [replace(view, source=stream) for view in views]


if __name__ == "__main__":
    main()
