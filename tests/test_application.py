"""A job as a cluster's Flink starts it: an application of its own, by the chart's own arguments."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from connectors.access import KafkaAccess, secret
from connectors.log import Log
from feature_repo.flights.repository import repository
from flink_jobs import session
from flink_jobs.place import Place, digest
from flink_jobs.replay import Reading, decode_readings, encode_readings
from flink_jobs.sql import job_sql, jobs
from headwater.jobs import Jobs
from headwater.local.flink import environment, flink_home, jobmanager
from headwater.settings import Settings
from schemas import SettingsError
from tests.conftest import command, eventually, platform_of
from tests.corpus import NOON
from tests.ports import free_ports
from tests.shop import purchases
from tests.shop import repository as shop
from tests.test_deadletters import send
from tests.test_replay import archived

ROOT = Path(__file__).parent.parent
JOB = next(job for job in jobs(repository) if job.name == "flights-tables")


def test_kafka_is_reached_as_it_asks(tmp_path):
    (tmp_path / "password").write_text('p"w\n')
    access = KafkaAccess.read(
        {
            "HEADWATER_KAFKA_SECURITY": "SASL_SSL",
            "HEADWATER_KAFKA_USER": "headwater",
            "HEADWATER_KAFKA_PASSWORD_FILE": str(tmp_path / "password"),
            "HEADWATER_KAFKA_CA_FILE": "/ca.crt",
        },
        "k:9093",
    )
    assert access.client()["sasl_plain_password"] == 'p"w'
    assert access.properties() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required"
        ' username="headwater" password="p\\"w";',
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/ca.crt",
    }
    assert access.librdkafka() == {
        "bootstrap.servers": "k:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "headwater",
        "sasl.password": 'p"w',
        "ssl.ca.location": "/ca.crt",
    }
    assert "p" + '"w' not in repr(access)
    assert KafkaAccess.read({}, "k:9092").properties() == {}


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HEADWATER_KAFKA_SECURITY": "TLS"}, "unknown 'TLS'; choices: PLAINTEXT"),
        ({"HEADWATER_KAFKA_SECURITY": "SASL_SSL"}, "HEADWATER_KAFKA_USER is not set"),
        (
            {
                "HEADWATER_KAFKA_SECURITY": "SASL_SSL",
                "HEADWATER_KAFKA_USER": "u",
                "HEADWATER_KAFKA_PASSWORD_FILE": "/nowhere",
            },
            "HEADWATER_KAFKA_PASSWORD_FILE: cannot read /nowhere: No such file",
        ),
    ],
)
def test_a_wrong_way_to_kafka_is_named(environ, said):
    with pytest.raises(SettingsError, match=said):
        KafkaAccess.read(environ, "k:9092")


def test_a_place_without_an_address_says_which():
    with pytest.raises(SettingsError, match="HEADWATER_REDIS_URL is not set"):
        Place.read({"HEADWATER_REPOSITORY": "a:b", "HEADWATER_KAFKA": "k:9092"})


def test_every_script_finds_what_it_leaves_open():
    values = Place.read(_place()).values("j")
    for job in jobs(repository):
        assert set(re.findall(r"\$\{(\w+)\}", job_sql(job))) <= values.keys()


def test_a_secret_is_a_file_of_its_own_or_of_one_property(tmp_path):
    (tmp_path / "a").write_text("s\n")
    (tmp_path / "b").write_text("password=s\n")
    assert {secret({"V": str(tmp_path / name)}, "V") for name in "ab"} == {"s"}
    assert secret({}, "V", "none") == "none"


@pytest.fixture(scope="module")
def running():
    """Of its own: what an application writes, `headwater jobs` does not know of."""
    with platform_of("application") as platform:
        for arguments in (["load"], ["apply"]):
            done = command(os.environ | platform.environ, *arguments)
            assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        yield platform


@pytest.fixture
def cluster(running, tmp_path):
    """Flink's environment for a cluster of one job, and what the job sees of the platform."""
    settings = running.settings
    ports = Settings.read(free_ports()).ports
    environ = environment(settings)
    conf = tmp_path / "conf"
    conf.mkdir()
    for file in Path(environ["FLINK_CONF_DIR"]).glob("*"):
        (conf / file.name).write_text(file.read_text())
    yield (
        environ
        | {
            "FLINK_CONF_DIR": str(conf),
            "FLINK_LOG_DIR": str(tmp_path),
            "FLINK_PID_DIR": str(tmp_path),
            "HEADWATER_REPOSITORY": settings.repository,
            "HEADWATER_KAFKA": settings.kafka,
            "HEADWATER_REDIS_URL": settings.redis_url,
            "HEADWATER_POSTGRES": settings.postgres,
            "HEADWATER_POSTGRES_PASSWORD_FILE": str(settings.password_file),
            "HEADWATER_WAREHOUSE": settings.warehouse,
        },
        [
            *("-D", f"jobmanager.rpc.port={ports.flink_rpc}"),
            *("-D", f"rest.port={ports.flink}", "-D", f"rest.bind-port={ports.flink}"),
            *("-D", f"blob.server.port={ports.flink_blob}"),
            *("-D", f"taskmanager.data.port={ports.flink_data}"),
            *("-D", "taskmanager.memory.process.size=1200m"),
            *("-D", f"execution.checkpointing.dir=file://{tmp_path}/checkpoints"),
            *("-D", "execution.checkpointing.interval=1 s"),
        ],
        ports.flink,
    )


def arguments(sql: str) -> list[str]:
    """The entry point and its arguments, as the chart's FlinkDeployment has them."""
    return [
        *("--job-classname", "org.apache.flink.client.python.PythonDriver"),
        *("-pyclientexec", str(ROOT / "build/envs/flink/bin/python")),
        *("-py", str(ROOT / "flink_jobs/application.py")),
        *("--run", JOB.name, "--sql", sql),
    ]


def test_an_application_runs_its_job(running, cluster, tmp_path):
    import requests

    environ, options, port = cluster
    home = flink_home(running.settings) / "bin"
    # The job's Python driver comes with the distribution, outside its class path.
    lib = tmp_path / "lib"
    lib.mkdir()
    for jar in (*Path(environ["FLINK_LIB_DIR"]).glob("*.jar"), *home.parent.glob("opt/*python*")):
        (lib / jar.name).symlink_to(jar.resolve())
    environ["FLINK_LIB_DIR"] = str(lib)
    commands = (
        [
            str(home / "standalone-job.sh"),
            "start-foreground",
            *options,
            *arguments(digest(job_sql(JOB))),
        ],
        [str(home / "taskmanager.sh"), "start-foreground", *options],
    )
    started = []
    with (tmp_path / "out").open("w") as out:
        for command in commands:
            started.append(
                subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=out, stderr=out)
            )
        try:

            def completed() -> bool:
                try:
                    base = f"http://127.0.0.1:{port}/jobs"
                    found = requests.get(f"{base}/overview", timeout=2).json()["jobs"]
                    if not found or found[0]["name"] != JOB.name:
                        return False
                    told = requests.get(f"{base}/{found[0]['jid']}/checkpoints", timeout=2).json()
                    return bool(told["counts"]["completed"] > 1)
                except (requests.RequestException, KeyError):
                    return False

            ran = eventually(completed, 120)
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(30)
    assert ran, (tmp_path / "out").read_text()[-3000:]
    # What it read from the captured tables is in the store that the API reads.
    with psycopg.connect(running.settings.postgres_url("flights")) as connection:
        carrier = connection.execute("SELECT carrier, name FROM airlines LIMIT 1").fetchone()
    assert carrier is not None
    request = {"features": ["carrier_facts:name"], "entities": [{"carrier": carrier[0]}]}
    answer = requests.post(f"{running.settings.api_url}/v1/features", json=request, timeout=10)
    assert answer.json()["rows"] == [[carrier[1]]]


SHARDS = """
from pyflink.table import EnvironmentSettings, TableEnvironment
table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
table.execute_sql(
    "CREATE TEMPORARY SYSTEM FUNCTION shard AS 'io.headwater.kernel.rolling.ShardOf'"
)
keys = ", ".join(f"('{key}', {n})" for n, key in enumerate("abcdefgh"))
rows = table.execute_sql(
    f"SELECT shard(k), shard(CAST(n AS BIGINT)), shard(n, k) FROM (VALUES {keys}) AS keys(k, n)"
).collect()
print("shards", *(shard for row in rows for shard in row))
"""


@pytest.mark.parametrize("backend", ["hashmap", "rocksdb"])
def test_keys_share_shards_by_the_clusters_own_state_backend(tmp_path, backend):
    platform = Settings.read({"HEADWATER_STATE": str(tmp_path / "state")})
    jobmanager(platform).prepare()
    environ = environment(platform)
    conf = Path(environ["FLINK_CONF_DIR"], "config.yaml")
    known = conf.read_text()
    assert "state.backend.type: hashmap" in known
    conf.write_text(known.replace("type: hashmap", f"type: {backend}"))
    (tmp_path / "shards.py").write_text(SHARDS)
    line = [flink_home(platform) / "bin/flink", "run", "-t", "local", "-pyclientexec"]
    line += [ROOT / "build/envs/flink/bin/python", "-py", tmp_path / "shards.py"]
    run = subprocess.run(line, env=environ, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    told = next(one for one in run.stdout.splitlines() if one.startswith("shards "))
    shards = [int(word) for word in told.split()[1:]]
    assert len(set(shards)) > 16
    assert all(0 <= shard < 4096 for shard in shards) == (backend == "hashmap")


def test_a_job_is_submitted_to_a_cluster_of_several(running, cluster):
    """As compose.yaml does it, with this machine's Flink."""
    environ, _, _ = cluster
    name = "flights-weather"
    environ["FLINK_CONF_DIR"] = environment(running.settings)["FLINK_CONF_DIR"]
    words = session.command(name, None)
    words[0] = str(flink_home(running.settings) / "bin" / words[0])
    words[words.index("-pyclientexec") + 1] = str(ROOT / "build/envs/flink/bin/python")
    run = subprocess.run(words, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    try:
        deployed = Jobs(running.settings, repository)
        assert eventually(lambda: deployed.running()[name].state == "RUNNING", 60)
    finally:
        subprocess.run(
            [sys.executable, "-m", "headwater", "jobs", "stop", name],
            env=os.environ | running.environ,
            cwd=ROOT,
            check=True,
        )


def archive(running, environ, *more):
    """Run the shop's archive as an application, and give Flink's id of it."""
    home = flink_home(running.settings) / "bin"
    run = subprocess.run(
        [
            *(str(home / "flink"), "run", "-t", "remote", "--detached"),
            *("-D", "execution.checkpointing.interval=1 s"),
            *("-pyclientexec", str(ROOT / "build/envs/flink/bin/python")),
            *("-py", str(ROOT / "flink_jobs/application.py")),
            *("--run", "shop-archive", *more),
        ],
        env=environ | {"HEADWATER_REPOSITORY": "tests.shop:repository"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return Jobs(running.settings, shop).running()["shop-archive"].id


def bought(running, number):
    events = [
        {"event_time": NOON + n * 1000, "customer": f"ends {n}", "channel": "web"}
        for n in range(number)
    ]
    send(running, [(json.dumps(event).encode(), n % 2) for n, event in enumerate(events)])


def logged(running):
    bounds = Log(running.settings.kafka_access).bounds(purchases.topic)
    return {(p, offset): 1 for p, (low, end) in bounds.items() for offset in range(low, end)}


def test_an_archive_without_state_begins_where_its_tables_end(running, cluster, tmp_path):
    """As the chart does it for `upgradeMode: stateless`: asked first, then started from nothing."""
    environ, _, _ = cluster
    environ["FLINK_CONF_DIR"] = environment(running.settings)["FLINK_CONF_DIR"]
    headwater = [sys.executable, "-m", "headwater"]
    theirs = os.environ | running.environ | {"HEADWATER_REPOSITORY": "tests.shop:repository"}
    subprocess.run([*headwater, "apply", "topics", "tables"], env=theirs, cwd=ROOT, check=True)
    flink = Jobs(running.settings, shop)

    def cancelled(job):
        flink.cluster.cancel(job)
        return eventually(lambda: "shop-archive" not in flink.running(), 60)

    ends = tmp_path / "ends.json"
    asked = [*headwater, "jobs", "ends", "shop-archive", "--file", str(ends)]
    bought(running, 6)
    # The first time there is nothing yet: it begins where Kafka does.
    subprocess.run(asked, env=theirs, cwd=ROOT, check=True)
    job = archive(running, environ, "--ends", str(ends))
    try:
        assert eventually(lambda: archived(running, purchases) == logged(running), 60)
        assert cancelled(job)
        bought(running, 4)  # while it is away
        subprocess.run(asked, env=theirs, cwd=ROOT, check=True)
        job = archive(running, environ, "--ends", str(ends))
        bought(running, 2)
        assert eventually(lambda: len(archived(running, purchases)) == 12, 60)
        assert archived(running, purchases) == logged(running)
    finally:
        cancelled(job)


def test_what_helm_asks_the_api_is_answered(running):
    command = [sys.executable, "-m", "headwater.smoke", running.settings.api_url]
    views = [view.name for view in repository.views]
    assert subprocess.run([*command, *views], cwd=ROOT).returncode == 0
    run = subprocess.run([*command, "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "view nothing is not served\n")
    command[-1] = "http://127.0.0.1:1"
    run = subprocess.run([*command, *views], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert "http://127.0.0.1:1 does not answer" in run.stdout


def test_an_image_of_another_version_than_the_plan_does_not_start():
    run = subprocess.run(
        [
            *(str(ROOT / "build/envs/flink/bin/python"), str(ROOT / "flink_jobs/application.py")),
            *("--run", JOB.name, "--sql", "0" * 64),
        ],
        env={"PATH": os.environ["PATH"]} | _place(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "image and plan are not of one version" in run.stderr


def test_an_unknown_job_is_named():
    run = subprocess.run(
        [
            *(str(ROOT / "build/envs/flink/bin/python"), str(ROOT / "flink_jobs/application.py")),
            *("--run", "flights-nothing"),
        ],
        env={"PATH": os.environ["PATH"]} | _place(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "no job 'flights-nothing'; choices: flights-departures" in run.stderr


@pytest.mark.parametrize(
    ("job", "text", "said"),
    [
        ("flights-weather", "{}", "--ends is for the archive's job alone"),
        ("flights-archive", "[]", "where the archive's tables end: Expected `object`"),
        ("flights-archive", None, "No such file"),
    ],
)
def test_wrong_ends_are_refused(tmp_path, job, text, said):
    ends = tmp_path / "ends.json"
    if text is not None:
        ends.write_text(text)
    run = subprocess.run(
        [
            *(str(ROOT / "build/envs/flink/bin/python"), str(ROOT / "flink_jobs/application.py")),
            *("--run", job, "--ends", str(ends)),
        ],
        env={"PATH": os.environ["PATH"]} | _place(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert said in run.stderr


def test_readings_come_back_as_they_were():
    readings = {"visits": Reading("shop.visits", {0: (3, 9), 1: (0, 0)})}
    assert decode_readings(encode_readings(readings)) == readings


def _place() -> dict[str, str]:
    return {
        "HEADWATER_REPOSITORY": "feature_repo.flights.repository:repository",
        "HEADWATER_KAFKA": "k:9092",
        "HEADWATER_REDIS_URL": "redis://r:6379",
        "HEADWATER_WAREHOUSE": "file:///w",
        "HEADWATER_CATALOG_URI": "http://c",
    }
