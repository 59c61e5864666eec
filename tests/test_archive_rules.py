"""A replay holds what it reads of the archive to the rules that the log's format holds it to."""

from __future__ import annotations

import json
import re
from datetime import datetime

from connectors.ddl import create_table, identifier, literal, sql_type
from flink_jobs.replay import Reading, Span, _reader
from flink_jobs.sql import job_sql, jobs
from headwater.recompute import instants, recompute
from schemas import (
    Column,
    Entity,
    EventStream,
    FeatureView,
    Repository,
    Type,
    among,
    count,
    days,
    over,
    present,
    seconds,
    total,
    within,
)
from tests.pyflink import run_pyflink

SALES = EventStream(
    "sales",
    "sales",
    (
        Column("shop", Type.STRING),
        Column("amount", Type.FLOAT64, required=False),
        Column("unit", Type.STRING, required=False),
    ),
    partition_by="shop",
    disorder=seconds(60),
    expectations=(
        within("amount", 0, 1000, reject=True),
        among("unit", "it's", "kg", reject=True),
        present("unit"),
    ),
)
VIEW = FeatureView(
    "v", SALES, (Entity("shop", "shop"),), over([days(7)], count(), total("amount")), ttl=days(1)
)
RUN = """
import json, sys
from pathlib import Path
from pyflink.table import EnvironmentSettings, TableEnvironment
from flink_jobs.runner import statement_set
told = json.load(sys.stdin)
table = TableEnvironment.create(EnvironmentSettings.in_batch_mode())
table.get_config().set("parallelism.default", "1")
for sql in told["archive"]:
    table.execute_sql(sql)
table.execute_sql(told["insert"]).wait()
metadata = Path(told["values"]["warehouse"].removeprefix("file://"), "raw/sales/metadata")
snapshot = json.loads((metadata / "v2.metadata.json").read_text())["current-snapshot-id"]
table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
sql = told["script"].replace("'snapshot' = '0'", f"'snapshot' = '{snapshot}'")
statement_set(table, sql, told["values"]).execute().wait()
"""


DAY = 86_400_000
GOOD = [
    {"event_time": DAY, "shop": "a", "amount": 5.0, "unit": "it's"},
    {"event_time": DAY + 1000, "shop": "a", "amount": None, "unit": None},
    {"event_time": DAY + 2000, "shop": "a", "amount": 1000.0, "unit": "kg"},
]
BAD = [
    # The time of each would make what follows late.
    GOOD[0] | {"event_time": 2 * DAY, "amount": 1000.5},
    GOOD[0] | {"event_time": 2 * DAY, "amount": -1.0},
    GOOD[0] | {"event_time": 2 * DAY, "unit": "its"},
    GOOD[0] | {"event_time": 2 * DAY, "shop": None},
]


def sql(value):
    if isinstance(value, str):
        return literal(value)
    return "NULL" if value is None else str(value)


def row(offset, event):
    types = {column.name: sql_type(column.type) for column in SALES.columns}
    values = (f"CAST({sql(event[name])} AS {type_})" for name, type_ in types.items())
    time = f"TO_TIMESTAMP_LTZ({event['event_time']}, 3)"
    return f"(0, {offset}, {time}, {', '.join(values)})"


def script(offsets, sink):
    """The derived job over the archive, its sinks replaced by files and its catalog by folders."""
    job, _ = jobs(Repository("r", (VIEW,), ()))  # the other archives
    reading = Reading("sales", {}, {0: (0, offsets)}, 0)
    derived = job_sql(job, _reader({"sales": reading}, Span(0, 10**13)), live=False)
    columns = ["`shop` STRING", *(f"{identifier(c.name)} {sql_type(c.type)}" for c in VIEW.schema)]
    columns.append("`event_time` TIMESTAMP_LTZ(3)")
    options = {"connector": "filesystem", "path": sink.as_uri(), "format": "json"}
    made = [
        statement.strip().replace("jdbc.JdbcCatalog", "hadoop.HadoopCatalog")
        for statement in derived.split(";\n")
        if re.match(r"\s*CREATE (?!CATALOG|TABLE online)", statement)
    ]
    return ";\n".join(
        [
            "SET 'parallelism.default' = '1'",
            "SET 'pipeline.auto-watermark-interval' = '1 ms'",
            *made,
            create_table("written", columns, options).removesuffix(";\n"),
            "BEGIN STATEMENT SET",
            "INSERT INTO written SELECT * FROM computed.`v`",
            "END",
        ]
    )


def test_archived_events_that_break_a_rule_are_left_out_and_make_no_other_late(tmp_path):
    archived = [*BAD[:2], GOOD[0], *BAD[2:], *GOOD[1:]]
    warehouse = f"file://{tmp_path}/hadoop"
    none = dict.fromkeys(("catalog_uri", "catalog_user", "catalog_password"), "none")
    rows = ", ".join(row(offset, event) for offset, event in enumerate(archived))
    told = {
        "archive": [
            "CREATE CATALOG headwater WITH ('type' = 'iceberg', 'catalog-type' = 'hadoop',"
            f" 'warehouse' = '{warehouse}')",
            "CREATE DATABASE headwater.`raw`",
            "CREATE TABLE headwater.`raw`.sales (_partition INT, _offset BIGINT,"
            " event_time TIMESTAMP_LTZ(6), shop STRING, amount DOUBLE, unit STRING)"
            " PARTITIONED BY (_partition)",
        ],
        # Flink may run each row of VALUES as a source of its own, and an archive is in order.
        "insert": "INSERT INTO headwater.`raw`.sales SELECT * FROM"
        f" (VALUES {rows}) AS archived (_partition, _offset, event_time, shop, amount, unit)"
        " ORDER BY _offset",
        "script": script(len(archived), tmp_path / "written"),
        "values": {**none, "warehouse": warehouse},
    }
    run_pyflink(RUN, told, tmp_path)
    found = {}
    for part in sorted((tmp_path / "written").rglob("part-*")):
        for line in part.read_text().splitlines():
            written = json.loads(line)
            at = int(datetime.fromisoformat(written["event_time"]).timestamp() * 1000)
            found[written["shop"], at] = [written.get(one.name) for one in VIEW.features]
    wanted = {("a", at): list(recompute(VIEW, GOOD, at).values()) for at in instants(VIEW, GOOD)}
    assert found == wanted
