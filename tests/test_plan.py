"""The committed plan is what the declarations become, and the systems it is for accept it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from operator import and_
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import StaticTable

from connectors.access import KafkaAccess
from feature_repo.flights import history
from feature_repo.flights.repository import repository
from feature_repo.flights.views.origin_delays import origin_delays
from feature_repo.flights.views.origin_weather import origin_weather
from flink_jobs.place import Place
from flink_jobs.replay import Isolation, Reading, Span, replay_sql
from flink_jobs.sql import condition_text, job_sql, jobs
from headwater.plan import derive, difference, upgrades, write
from iceberg.catalog import create_tables, open_catalog
from iceberg.tables import archive_schema, partition_spec, table_schema
from schemas import EventError, Repository, col, count, days, hours, mean, over
from schemas.event import check_event
from tests.pyflink import run_pyflink

ROOT = Path(__file__).parent.parent


def test_the_committed_plan_is_the_derived_one():
    assert difference(derive(repository), ROOT) == ""


def test_check_fails_on_a_difference_and_shows_it(tmp_path):
    write(derive(repository), tmp_path)
    golden = tmp_path / "feature_repo/flights/plan/iceberg.txt"
    golden.write_text(golden.read_text().replace("count_15m long", "count_15m int"))
    command = [sys.executable, "-m", "headwater", "plan", "--check", "--root", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert "-  4: count_15m int" in run.stdout
    assert "+  4: count_15m long" in run.stdout


def test_the_plan_says_which_job_cannot_go_on_from_its_savepoint_and_why(tmp_path):
    write(derive(repository), tmp_path)
    command = [sys.executable, "-m", "headwater", "plan", "--root", str(tmp_path)]
    command += ["--repository", "tests.planted:repository"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (told,) = [line for line in run.stdout.splitlines() if "savepoint" in line]
    assert told.startswith("flights-departures: cannot go on from its savepoint: origin_delays: ")
    assert "late_share_1h has changed (column was `dep_delay` > 15, is `dep_delay` > 900)" in told


def test_the_plan_asks_for_an_end_where_a_replay_cannot_follow(tmp_path):
    files = derive(repository)
    write(files, tmp_path)
    for job, span in (
        ("departures", "--from T --promote"),
        ("tables", "--from T --to T --promote"),
    ):
        path = f"feature_repo/flights/plan/jobs/flights-{job}.sql"
        changed = files[path].replace("COALESCE(", "IFNULL(").replace("3600000", "7200000")
        (told,) = upgrades({path: changed}, tmp_path)
        assert "cannot go on from its savepoint: " in told
        assert f"`headwater replay run VIEW… {span}`" in told


def test_the_script_of_a_job_that_is_declared_no_more_is_told_of_and_removed(tmp_path):
    files = derive(repository)
    write(files, tmp_path)
    folder = tmp_path / "feature_repo/flights/plan/jobs"
    old, kept = folder / "flights-tickets.sql", folder / "README.md"
    old.write_text("SELECT 1;\n")
    kept.write_text("who reads these\n")
    command = [sys.executable, "-m", "headwater", "plan", "--root", str(tmp_path)]
    checked = subprocess.run([*command, "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (checked.returncode, old.exists()) == (1, True)
    assert "-SELECT 1;" in checked.stdout
    gone = "flights-tickets: is gone; where it runs, `headwater jobs stop flights-tickets` ends it"
    assert gone in checked.stdout
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert f"removed feature_repo/flights/plan/jobs/{old.name}\n{gone}" in run.stdout
    assert not old.exists() and kept.exists()
    assert difference(files, tmp_path) == ""


def test_an_unknown_repository_is_named(tmp_path):
    command = [sys.executable, "-m", "headwater", "plan", "--repository", "shop.main:repo"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert "'shop.main:repo'" in run.stderr
    assert "module:attribute" in run.stderr


def test_every_topic_of_a_job_is_reached_as_its_kafka_asks():
    """What events are joined with, too, live and in a replay."""
    place = Place("r", KafkaAccess("k:1", "SASL_SSL", "me", "s3cret"), "", "", "", "")
    for job in jobs(repository):
        readings = {source.name: Reading("t", {0: (0, 9)}) for source in job.sources}
        scripts = [job_sql(job)]
        if job.views:
            apart = Isolation("replay", "apart", "flights~r", "pace")
            scripts.append(replay_sql(job, apart, Span(0, 9), readings))
        for script in scripts:
            placed = place.script(script)
            topics = placed.count("'properties.bootstrap.servers'")
            assert placed.count("'properties.security.protocol' = 'SASL_SSL'") == topics > 0


def test_flink_plans_every_job(tmp_path):
    """With the real kernel and connectors on its class path; the offline tables need a catalog."""
    script = (
        "import json, sys\n"
        "from pyflink.table import EnvironmentSettings, TableEnvironment\n"
        "from flink_jobs.runner import statement_set\n"
        "for sql in json.load(sys.stdin):\n"
        "    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())\n"
        "    values = {'kafka': 'k', 'group': 'g', 'epoch': '0', 'outage_ms': '900000', 'redis': 'redis://127.0.0.1:1'}\n"
        "    print(statement_set(table, sql, values).explain())\n"
    )
    scripts = []
    for path, text in derive(repository).items():
        if path.endswith(".sql"):
            kept = [
                s for s in text.split(";\n") if "CATALOG" not in s and "INTO headwater." not in s
            ]
            if any("INSERT INTO" in s for s in kept):  # the archive job writes nothing else
                scripts.append(";\n".join(kept))
    told = run_pyflink(script, scripts, tmp_path)
    for stream in repository.streams:
        # One source a job, whatever the number of its views.
        assert told.count(f"table=[[default_catalog, sources, {stream.name}") > 0
    for view in repository.views:
        assert f"default_catalog.online.{view.name}" in told
    assert "rolling" in told


WRITES = """
import json, sys
from pyflink.table import EnvironmentSettings, TableEnvironment
told = json.load(sys.stdin)
table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
table.execute_sql("CREATE CATALOG headwater WITH ('type' = 'iceberg', 'catalog-type' = 'hadoop',"
                  f" 'warehouse' = '{told['warehouse']}')")
table.execute_sql(f"CREATE DATABASE headwater.{told['table'].partition('.')[0]}")
table.execute_sql(f"CREATE TABLE headwater.{told['table']} ({told['columns']})")
table.execute_sql(f"CREATE DATABASE {told['read'].partition('.')[0]}")
table.create_temporary_view(told["read"], table.sql_query(told["rows"]))
for insert in told["inserts"]:
    table.execute_sql(insert).wait()
"""


def test_flink_plans_the_longest_names_and_the_largest_numbers_of_conditions(tmp_path):
    pages = [col("dest") != f"/health/check/number/{n}" for n in range(12)]
    whole = [col("flight") > -(2**63), col("flight") < 2**63 - 1]
    parts = [col("distance") < 1e308, col("distance") >= 5e-324, col("distance") > 2**63 - 1]
    fits = col("dest") == "x" * 245
    assert len(condition_text(fits)) == 256
    wheres = [
        reduce(and_, many).called(name)
        for name, many in (("pages", pages), ("whole", whole), ("parts", parts), ("fits", [fits]))
    ]
    features = over([hours(1)], *(count(where=where) for where in wheres))
    view = replace(origin_delays, features=features, expectations=(), checked=None)
    job, *_ = jobs(Repository("flights", (view,), ()))
    script = (
        "import json, sys\n"
        "from pyflink.table import EnvironmentSettings, TableEnvironment\n"
        "from flink_jobs.runner import statement_set\n"
        "table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())\n"
        "told = json.load(sys.stdin)\n"
        "print(statement_set(table, told['sql'], told['values']).explain())\n"
    )
    kept = [
        statement
        for statement in job_sql(job).split(";\n")
        if "CATALOG" not in statement and "INTO headwater." not in statement
    ]
    values = {
        "kafka": "k",
        "group": "g",
        "epoch": "0",
        "outage_ms": "900000",
        "redis": "redis://127.0.0.1:1",
    }
    told = run_pyflink(script, {"sql": ";\n".join(kept), "values": values}, tmp_path)
    assert f"default_catalog.online.{view.name}" in told


FLINK = {
    "string": "STRING",
    "timestamptz": "TIMESTAMP_LTZ(6)",
    "double": "DOUBLE",
    "int": "INT",
    "long": "BIGINT",
}


def written_table(folder, name):
    newest = max((folder / "hadoop" / name / "metadata").glob("v*.metadata.json"))
    return StaticTable.from_metadata(f"file://{newest}")


def test_a_feature_declared_between_others_is_written_to_its_own_column(tmp_path):
    """Live and in a replay, though in the table it stands last."""
    features = over([hours(1), hours(6), days(1)], mean("dep_delay"))
    view = replace(origin_delays, features=features)
    catalog = open_catalog(f"sqlite:///{tmp_path}/c.db", f"file://{tmp_path}/warehouse")
    create_tables(catalog, [replace(view, features=(features[0], features[2]))])
    create_tables(catalog, [view])
    fields = catalog.load_table("features.origin_delays").schema().fields
    (job,) = (one for one in jobs(Repository("flights", (view,), ())) if one.views)
    apart = Isolation("replay", "apart", "flights~r", "pace")
    readings = {source.name: Reading("t", {0: (0, 9)}) for source in job.sources}
    scripts = replay_sql(job, apart, Span(0, 9), readings), job_sql(job)
    wanted = {feature.name: feature.window.size.seconds / 3600 for feature in features}
    put = ", ".join(f"CAST({value} AS DOUBLE) AS {name}" for name, value in wanted.items())
    run_pyflink(
        WRITES,
        {
            "warehouse": f"file://{tmp_path}/hadoop",
            "table": "features.origin_delays",
            "columns": ", ".join(f"{f.name} {FLINK[str(f.field_type)]}" for f in fields),
            "read": "computed.origin_delays",
            "rows": f"SELECT 'JFK' AS origin, TO_TIMESTAMP_LTZ(5, 3) AS event_time, {put}",
            "inserts": [
                re.search(r"INSERT INTO headwater\.features\.[^;]*", script)[0]
                for script in scripts
            ],
        },
        tmp_path,
    )
    table = written_table(tmp_path, "features/origin_delays")
    for branch in ("main", "apart"):
        written = table.scan(snapshot_id=table.refs()[branch].snapshot_id)
        assert written.select(*wanted).to_arrow().to_pylist() == [wanted]


def test_the_archive_goes_on_without_a_column_that_is_declared_no_more(tmp_path):
    """In the middle of the table, which keeps it."""
    stream = origin_weather.source
    gone = next(column for column in stream.columns if column.name == "dewp")
    without = replace(
        stream, columns=tuple(c for c in stream.columns if c != gone), expectations=()
    )
    view = replace(origin_weather.only("temp"), source=without)
    (archive,) = (one for one in jobs(Repository("flights", (view,), ())) if not one.views)
    (insert,) = re.findall(r"INSERT INTO headwater\.`raw`\.`weather`[^;]*", job_sql(archive))
    given = [f"CAST({n} AS DOUBLE) AS `{c.name}`" for n, c in enumerate(without.columns[1:])]
    run_pyflink(
        WRITES,
        {
            "warehouse": f"file://{tmp_path}/hadoop",
            "table": "`raw`.weather",
            "columns": ", ".join(
                f"`{f.name}` {FLINK[str(f.field_type)]}" for f in archive_schema(stream).fields
            ),
            "read": "sources.weather",
            "rows": (
                f"SELECT 'JFK' AS origin, {', '.join(given)}, TO_TIMESTAMP_LTZ(5, 3) AS rowtime,"
                " 0 AS kafka_partition, CAST(7 AS BIGINT) AS kafka_offset,"
                " CAST(NULL AS STRING) AS dead_reason"
            ),
            "inserts": [insert],
        },
        tmp_path,
    )
    (row,) = written_table(tmp_path, "raw/weather").scan().to_arrow().to_pylist()
    expected = {c.name: float(n) for n, c in enumerate(without.columns[1:])}
    known = {"origin": "JFK", "_topic": stream.topic, "_offset": 7, "dewp": None} | expected
    assert {name: row[name] for name in known} == known


def test_iceberg_creates_the_tables_and_reads_back_what_was_appended(tmp_path):
    catalog = SqlCatalog("t", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("features")
    for view in repository.views:
        schema = table_schema(view)
        table = catalog.create_table(
            f"features.{view.name}", schema, partition_spec=partition_spec(schema)
        )
        assert [field.name for field in table.schema().fields][: len(view.keys)] == [*view.keys]
    table = catalog.load_table("features.origin_delays")
    noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    row = {column.name: None for column in origin_delays.schema}
    row |= {"origin": "JFK", "event_time": noon, "available_at": noon, "count_15m": 3}
    table.append(pa.Table.from_pylist([row], schema=table.schema().as_arrow()))
    assert table.scan(
        row_filter="event_time >= '2013-01-01T00:00:00+00:00'"
    ).to_arrow().to_pylist() == [row]
    assert table.inspect.partitions().num_rows == 1


@pytest.mark.parametrize("stream", repository.streams, ids=lambda stream: stream.name)
def test_every_real_event_fits_its_schema(stream):
    for event in getattr(history, stream.name)():
        check_event(stream, event)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"temp": "cold"}, ("`float64`", "'cold'", "$.temp")),
        ({"temp": float("nan")}, ("`float64`", "nan", "$.temp")),
        ({"origin": None}, ("required `string`", "$.origin")),
        ({"event_time": 2**63}, ("`timestamp`", "$.event_time")),
        ({"tmep": 1.0}, ("unknown field", "$.tmep", "temp")),
    ],
)
def test_an_event_that_does_not_fit_is_refused_with_its_path(change, parts):
    stream = next(s for s in repository.streams if s.name == "weather")
    good = {"event_time": 0, "origin": "JFK", "temp": None}
    check_event(stream, good)
    with pytest.raises(EventError) as caught:
        check_event(stream, good | change)
    for part in parts:
        assert part in str(caught.value)


def test_schema_files_are_json_a_registry_can_read():
    for path, text in derive(repository).items():
        if path.startswith("schemas/events/"):
            assert json.loads(text)["required"][0] == "event_time"
