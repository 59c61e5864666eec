"""The PostgreSQL of a development release, from an empty volume: its socket and its databases."""

from __future__ import annotations

import os
import subprocess

import psycopg
import pytest

from feature_repo.flights.repository import repository
from headwater.local.platform import Platform
from headwater.local.postgres import _home
from headwater.settings import Settings
from tests.ports import free_ports
from tools.chart import RELEASE, pod, render
from tools.compose import files

NAME = f"{RELEASE}-postgres"


@pytest.fixture(scope="module")
def objects():
    return {
        (thing["kind"], thing["metadata"]["name"]): thing
        for thing in render("dev")
        if thing["kind"] in ("StatefulSet", "ConfigMap", "KafkaConnector", "Service")
    }


def mounts(thing):
    """Each path in the container, with the volume that is there."""
    spec = pod(thing)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    return {
        mount["mountPath"]: volumes.get(mount["name"], {})
        for mount in spec["containers"][0]["volumeMounts"]
    }


def test_the_socket_is_where_the_image_looks_for_it(objects):
    """The image's first start asks its server through the default socket, and ends if it cannot."""
    store = objects["StatefulSet", NAME]
    assert not any("socket" in word for word in pod(store)["containers"][0]["args"])
    # Its root file system cannot be written to.
    assert "emptyDir" in mounts(store)["/var/run/postgresql"]


def test_the_first_start_makes_what_compose_makes(objects):
    assert mounts(objects["StatefulSet", NAME])["/docker-entrypoint-initdb.d"]["configMap"] == {
        "name": NAME
    }
    data = objects["ConfigMap", NAME]["data"]
    assert data == {"repository.sql": files(repository)["postgres/repository.sql"]}


def test_a_source_elsewhere_is_left_alone():
    found = render("dev", "--set", "source.host=db.example.com", "--set", "source.database=air")
    named = {thing["metadata"]["name"]: thing for thing in found if thing["kind"] != "Service"}
    assert not any(thing["kind"] == "ConfigMap" for thing in found)
    assert "/docker-entrypoint-initdb.d" not in mounts(named[NAME])
    (connector,) = (t for t in found if t["kind"] == "KafkaConnector")
    assert connector["spec"]["config"]["database.hostname"] == "db.example.com"
    assert connector["spec"]["config"]["database.dbname"] == "air"


@pytest.fixture
def server(tmp_path_factory):
    """A PostgreSQL with no database but its own."""
    folder = tmp_path_factory.mktemp("postgres")
    settings = Settings.read(free_ports() | {"HEADWATER_STATE": str(folder)})
    platform = Platform(settings)
    platform.erase()
    try:
        platform.up(["postgres"], print)
        with psycopg.connect(settings.postgres_url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{repository.name}"')
        yield settings
    finally:
        platform.down(["postgres"], print)
        platform.erase()


def test_the_connector_finds_its_tables(objects, server, tmp_path):
    """Run as the image runs it: psql, in the database of the catalog, by the user of the chart."""
    script = tmp_path / "repository.sql"
    script.write_text(objects["ConfigMap", NAME]["data"]["repository.sql"], "utf-8")
    environment = {v["name"]: v.get("value") for v in _container(objects)["env"]}
    url = server.postgres_url(environment["POSTGRES_DB"])
    assert environment["POSTGRES_USER"] in url
    run = subprocess.run(
        [
            str(_home(server, None).binaries / "psql"),
            *(url, "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "-f", str(script)),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    assert run.returncode == 0, run.stderr
    (connector,) = (t for (kind, _), t in objects.items() if kind == "KafkaConnector")
    config = connector["spec"]["config"]
    assert ("Service", config["database.hostname"]) in objects
    with psycopg.connect(server.postgres_url(config["database.dbname"])) as connection:
        found = connection.execute(
            "SELECT table_schema || '.' || table_name, array_agg(column_name::text)"
            " FROM information_schema.columns WHERE table_schema = 'public' GROUP BY 1"
        )
        columns = {name: set(names) for name, names in found}
    assert set(config["table.include.list"].split(",")) == columns.keys()
    for table in repository.tables:
        assert {c.name for c in table.columns} <= columns[f"{table.schema}.{table.table}"]


def _container(objects):
    return pod(objects["StatefulSet", NAME])["containers"][0]
