"""After a loss the platform goes on from where it was, or says why it cannot."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time

import pytest
import redis

from connectors.redis_codec import encode_value, entity_key, epoch_field, feature_field
from flink_jobs.rest import FlinkCluster
from headwater.savepoints import NoSavepoint, Savepoint
from tests.conftest import catalog, eventually
from tests.shop import customer_facts

JOB = "shop-tables"


def rows(shop, key):
    table = catalog(shop.settings).load_table("features.customer_facts")
    return table.scan(row_filter=f"customer = '{key}'").to_arrow().num_rows


def add(shop, key):
    """A customer whose row comes to be in Iceberg."""
    shop.sql("INSERT INTO customers (customer, points) VALUES (%s, 1)", key)
    assert eventually(lambda: rows(shop, key) == 1)


def stop(shop):
    done = shop.headwater("jobs", "stop", JOB)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def test_an_older_savepoint_is_refused(shop):
    add(shop, "before")
    old = stop(shop)
    assert shop.headwater("jobs", "submit", JOB).returncode == 0
    add(shop, "after")
    new = stop(shop)
    assert Savepoint.read(new).number > 0
    done = shop.headwater("jobs", "submit", JOB, "--from", old)
    assert done.returncode == 2
    assert "write them twice" in done.stderr
    done = shop.headwater("jobs", "submit", JOB)
    assert done.returncode == 0, done.stderr
    add(shop, "later")
    assert rows(shop, "after") == 1


def test_a_job_goes_back_to_an_older_savepoint_with_its_tables(shop):
    add(shop, "long before")
    shop.sql("INSERT INTO customers (customer, points) VALUES ('just before', 1)")
    assert eventually(lambda: shop.values(customer_facts, "just before") is not None)
    old = stop(shop)  # which may be what is to commit it
    shop.must("jobs", "submit", JOB)
    add(shop, "since")
    running = shop.headwater("snapshots", "rollback", "--savepoint", old)
    assert running.returncode == 2 and f"`headwater jobs stop {JOB}` first" in running.stderr
    stop(shop)
    told = shop.must("snapshots", "rollback", "--savepoint", old).stdout
    assert "customer_facts is as it was at" in told
    assert [rows(shop, key) for key in ("long before", "just before", "since")] == [1, 1, 0]
    # What it was stopped with last has read more than the tables have.
    behind = shop.headwater("jobs", "submit", JOB)
    assert behind.returncode == 2
    ((view, newest),) = re.findall(r"`headwater snapshots set (\S+) (\d+)` takes", behind.stderr)
    shop.must("snapshots", "set", view, newest)
    assert rows(shop, "since") == 1
    shop.must("snapshots", "rollback", "--savepoint", old)
    shop.must("jobs", "submit", JOB, "--from", old)
    assert eventually(lambda: rows(shop, "since") == 1)
    add(shop, "once it has gone on")
    assert [rows(shop, key) for key in ("long before", "just before", "since")] == [1, 1, 1]


def test_a_lost_job_goes_on_from_its_newest_checkpoint(shop):
    add(shop, "before the loss")
    cluster = FlinkCluster(shop.settings.flink_url)
    (job,) = (job for job in cluster.jobs() if job.name == JOB)
    cluster.cancel(job.id)
    assert eventually(lambda: JOB not in {job.name for job in cluster.jobs()})
    done = shop.headwater("jobs", "submit", JOB)
    assert done.returncode == 0, done.stderr
    add(shop, "after the loss")
    assert rows(shop, "before the loss") == 1


def test_a_job_of_which_nothing_is_known_is_not_begun_anew(shop):
    add(shop, "known")
    stop(shop)
    folder = shop.settings.state / "jobs"
    hidden = [
        path.rename(path.with_suffix(path.suffix + ".hidden")) for path in folder.glob(f"{JOB}.*")
    ]
    try:
        done = shop.headwater("jobs", "submit", JOB)
    finally:
        for path in hidden:
            path.rename(path.with_suffix(""))
    assert done.returncode == 2
    assert "--anew" in done.stderr
    assert shop.headwater("jobs", "submit", JOB).returncode == 0


def test_what_is_no_savepoint_is_named(tmp_path):
    with pytest.raises(NoSavepoint, match="nowhere"):
        Savepoint.read(f"file://{tmp_path}/nowhere")
    (tmp_path / "_metadata").write_bytes(b"0123456789abcdef")
    with pytest.raises(NoSavepoint, match="not of a savepoint"):
        Savepoint.read(str(tmp_path))


def test_a_redis_that_lost_its_data_is_filled_again_from_iceberg(shop):
    add(shop, "kept")
    shop.sql("INSERT INTO customers (customer, points) VALUES ('gone', 1)")
    assert eventually(lambda: rows(shop, "gone") == 1)
    shop.sql("DELETE FROM customers WHERE customer = 'gone'")
    assert eventually(lambda: rows(shop, "gone") == 2)
    if "redis" in shop.running.containers:
        with redis.Redis(port=shop.settings.ports.redis) as online:
            online.flushall()
    else:
        platform = shop.running.platform
        platform.process(platform.parts["redis"]).stop(signal.SIGKILL)
        shutil.rmtree(shop.settings.state / "redis")
        shop.running.up("redis")
    assert shop.values(customer_facts, "kept") is None
    time.sleep(1)  # the jobs find out that it is back
    done = shop.headwater("online", "rebuild")
    assert done.returncode == 0, done.stderr
    assert shop.values(customer_facts, "kept")["points"] == 1
    assert shop.values(customer_facts, "gone")["points"] is None
    again = shop.headwater("online", "rebuild", "customer_facts", "--json")
    assert again.stdout == '{"customer_facts": 0}\n', "what is as new stays as it is"
    # Where each job has a Flink of its own, none is asked.
    nowhere = {"HEADWATER_FLINK_PORT": "1"}
    alone = shop.headwater(
        "online", "rebuild", "customer_facts", "--wait", "0", "--json", **nowhere
    )
    assert alone.stdout == again.stdout, alone.stderr
    assert shop.headwater("online", "rebuild", "customer_facts", **nowhere).returncode != 0


def test_a_redis_that_came_back_with_older_data_forgets_what_was_deleted_since(shop):
    add(shop, "undead")
    shop.sql("DELETE FROM customers WHERE customer = 'undead'")
    assert eventually(lambda: rows(shop, "undead") == 2)
    assert eventually(lambda: shop.values(customer_facts, "undead")["points"] is None)
    (points,) = (column for column in customer_facts.schema if column.name == "points")
    with redis.Redis(port=shop.settings.ports.redis) as online:
        old = {
            epoch_field("customer_facts"): "0:1",
            feature_field("customer_facts", "points"): encode_value(points.type, 1),
        }
        key = entity_key("shop", customer_facts.entities, {"customer": "undead"})
        online.hset(key, mapping=old)
    assert shop.values(customer_facts, "undead")["points"] == 1
    assert shop.must("online", "rebuild", "customer_facts", "--json").stdout == (
        '{"customer_facts": 1}\n'
    )
    assert shop.values(customer_facts, "undead")["points"] is None


def test_tables_are_cared_for_while_jobs_write(shop):
    before = rows(shop, "kept")
    done = shop.headwater(
        *("tables", "maintain", "--min-files", "2", "--keep-snapshots", "0"),
        *("features.customer_facts", "--json"),
    )
    assert done.returncode == 0, done.stderr
    add(shop, "after the care")
    assert rows(shop, "kept") == before
    older = stop(shop)
    assert shop.headwater("jobs", "submit", JOB).returncode == 0
    add(shop, "after care and restart")
    assert rows(shop, "after the care") == 1
    told = shop.headwater(
        *("tables", "expire", "--keep-snapshots", "0", "features.customer_facts", "--json")
    )
    assert json.loads(told.stdout)["features.customer_facts"] > 0, "those of the job before"
    add(shop, "after expiry")
    stop(shop)
    refused = shop.headwater("jobs", "submit", JOB, "--from", older)
    assert refused.returncode == 2
    assert "a later job" in refused.stderr
    assert shop.headwater("jobs", "submit", JOB).returncode == 0
    add(shop, "after the refusal")
    assert rows(shop, "after expiry") == 1
    listed = shop.headwater("tables", "list", "features.customer_facts", "--format", "prometheus")
    assert 'headwater_table_files{table="features.customer_facts"}' in listed.stdout
