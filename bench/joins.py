"""Temporal joins beside Flink's own, and beside the stream alone.

    python -m bench.joins [--copies 10] [--rounds 3]

The flights' departures with the columns of their aircraft and the weather at their origin, into a
blackhole. Every ratio is of runs in the same cluster, one after the other; the first run of each
kind is thrown away.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from confluent_kafka import Producer

from bench.engine import script
from bench.flights import FOREVER, Bench, bench, departures, fill, seconds
from bench.report import publish
from connectors.ddl import create_table, identifier, literal, sql_type, versions_ddl
from connectors.producer import Event
from connectors.topics import Topic, create_topics
from flink_jobs.sql import joins_sql
from schemas import CdcTable, Column, EventStream, JoinedStream, TemporalJoin
from schemas.history import History
from schemas.loading import load_history
from schemas.topics import captured_topic

_GOALS = {"join_vs_flink": "≥ 1"}
_LIMIT = 300
_BOUND = {"scan.bounded.mode": "latest-offset"}


def _read(ddl: str, source: EventStream | CdcTable) -> list[str]:
    (bound,) = (f"{literal(key)} = {literal(value)}" for key, value in _BOUND.items())
    return [ddl, f"ALTER TABLE sources.{identifier(source.name)} SET ({bound});\n"]


def _into(columns: Sequence[Column], query: str) -> list[str]:
    ddl = [f"{identifier(c.name)} {sql_type(c.type)}" for c in columns]
    return [
        create_table(
            "nowhere.`taken`", [*ddl, "`rowtime` TIMESTAMP_LTZ(3)"], {"connector": "blackhole"}
        ),
        "BEGIN STATEMENT SET;\n",
        f"INSERT INTO nowhere.`taken` {query};\n",
        "END;\n",
    ]


def alone(stream: EventStream) -> list[str]:
    """The stream's columns, straight into a blackhole."""
    names = ", ".join(identifier(c.name) for c in stream.columns)
    query = f"SELECT {names}, `rowtime` FROM sources.{identifier(stream.name)}"
    return _into(stream.columns, query)


def ours(joined: JoinedStream) -> list[str]:
    """The platform's own SQL of a joined stream, into a blackhole."""
    others = (_read(versions_ddl(s, "bench", joined.stream), s) for s in joined.others)
    query = f"SELECT * FROM joined.{identifier(joined.name)}"
    return [
        *(text for several in others for text in several),
        *joins_sql((joined,)),
        *_into(joined.columns, query),
    ]


def flinks(joined: JoinedStream) -> list[str]:
    """The same of a join with one table by FOR SYSTEM_TIME AS OF a view of the newest rows.

    Of two changes since one instant, and of one that comes after a newer one, it keeps others
    than `temporal_join`; what is measured here has neither.
    """
    (join,) = joined.joins
    table, key = join.source, identifier(join.matched)
    assert isinstance(table, CdcTable)
    since = f"TO_TIMESTAMP_LTZ(`after`.{identifier(table.updated_at)}, 3)"
    ddl = versions_ddl(table, "bench", joined.stream)
    ddl = ddl[: ddl.index("  `rowtime` AS")] + (
        f"  `rowtime` AS {since},\n  WATERMARK FOR `rowtime` AS `rowtime`\n"
        + ddl[ddl.index(") WITH (") :].replace("'kafka-versions'", "'kafka'")
    )
    values = ", ".join(f"`after`.{identifier(name)} AS {identifier(name)}" for name in join.columns)
    names = ", ".join(identifier(c.name) for c in joined.stream.columns)
    found = ", ".join(f"v.{identifier(name)}" for name in join.columns)
    newest = (
        f"SELECT {key}, {', '.join(map(identifier, join.columns))}, `rowtime` FROM ("
        f"SELECT *, ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY `rowtime` DESC) AS n FROM ("
        f"SELECT `after`.{key} AS {key}, {values}, `rowtime` FROM sources.{identifier(table.name)}"
        ")) WHERE n = 1"
    )
    query = (
        f"SELECT {', '.join(f'd.{n}' for n in names.split(', '))}, {found}, d.`rowtime`"
        f" FROM sources.{identifier(joined.stream.name)} AS d LEFT JOIN nowhere.`newest`"
        f" FOR SYSTEM_TIME AS OF d.`rowtime` AS v ON d.{identifier(join.on)} = v.{key}"
    )
    return [
        *_read(ddl, table),
        f"CREATE VIEW nowhere.`newest` AS\n{newest};\n",
        *_into(joined.columns, query),
    ]


def changes(platform: Bench, table: CdcTable) -> None:
    """The rows of a table as a snapshot of Debezium's, on its topic."""
    history = load_history(platform.settings.history)
    rows = [row | history.generated[table.name](row) for row in history.tables[table.name]()]
    topic = captured_topic(table, "bench")
    create_topics(platform.settings.kafka_access, {topic: Topic(1, FOREVER)})
    producer = Producer({"bootstrap.servers": platform.settings.kafka})
    for number, row in enumerate(rows, 1):
        snapshot = "last" if number == len(rows) else "true"
        since = row[table.updated_at]
        source = {"snapshot": snapshot, "ts_ms": since}
        change = {"after": row, "op": "r", "ts_ms": since, "source": source}
        producer.produce(topic, json.dumps(change), str(row))
    if left := producer.flush(30):
        raise SystemExit(f"{topic}: {left} of {len(rows)} changes were not taken within 30 s")


def figures(
    platform: Bench, joined: JoinedStream, year: EventStream, rows: int, rounds: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Medians over `rounds` of joining `year`, a stream like that of `joined`; and all rates."""
    history = load_history(platform.settings.history)
    joins: list[TemporalJoin] = []
    for join in joined.joins:
        source = join.source
        if isinstance(source, CdcTable):
            changes(platform, source)
        else:
            source = fill(
                platform.settings, source, f"bench.{source.name}", _recorded(history, source)
            )
        joins.append(replace(join, source=source))
    one = next(join for join in joins if isinstance(join.source, CdcTable))
    of_table = replace(joined, stream=year, joins=(one,))
    kinds = {
        "parse": alone(year),
        "join_flink": flinks(of_table),
        "join": ours(of_table),
        "join_all": ours(replace(joined, stream=year, joins=tuple(joins))),
    }
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds + 1):
        for kind, sql in kinds.items():
            name = f"bench-{kind}"
            job = platform.finish(name, script(name, year, _BOUND, sql), _LIMIT)
            rates[kind].append(rows / seconds(job) if job else 0.0)
            print(f"{kind:<22} {rows:>10,} rows {rates[kind][-1]:>12,.0f}/s", flush=True)

    def ratio(kind: str, to: str) -> float:
        pairs = zip(rates[kind][1:], rates[to][1:], strict=True)
        return statistics.median(a / b if b else 0.0 for a, b in pairs)

    found = {
        "join_rows_per_second": statistics.median(rates["join"][1:]),
        "join_vs_parse": ratio("join", "parse"),
        "join_all_vs_parse": ratio("join_all", "parse"),
        "join_vs_flink": ratio("join", "join_flink"),
    }
    return found, rates


def _recorded(history: History, stream: EventStream) -> Callable[[], Iterator[Event]]:
    return lambda: iter(history.streams[stream.name]())


def main() -> None:
    """Run everything and publish it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--copies", type=int, default=10, help="of each departure")
    options.add_argument("--rounds", type=int, default=3, help="measured, after one that is not")
    given = options.parse_args()
    with bench("postgres", "kafka", "flink", "taskmanager", memory="6g") as platform:
        (joined,) = platform.jobs.known["flights-departures"].joined
        rows = sum(1 for _ in departures(platform.settings, given.copies))
        year = fill(
            platform.settings,
            joined.stream,
            "bench.departures",
            lambda: departures(platform.settings, given.copies),
        )
        found, details = figures(platform, joined, year, rows, given.rounds)
    publish("joins", found, _GOALS, {"rows": rows, "runs": details})


if __name__ == "__main__":
    main()
