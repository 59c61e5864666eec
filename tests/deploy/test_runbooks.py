"""What the runbooks tell people to type is there: commands, options, objects, files, links."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from feature_repo.flights.repository import repository
from flink_jobs.sql import jobs
from observability.rules import alerts
from tests.deploy.commands import understood
from tools.chart import CHART, NAMESPACE, RELEASE, ROOT, helm, render

FOLDER = ROOT / "docs" / "runbooks"
FILES = sorted(path for path in FOLDER.glob("*.md") if path.name != "replay.md")
OPERATIONS = {
    *("install", "upgrade", "restore", "scale", "rotate-secrets", "rebuild-redis"),
    *("add-a-feature", "first-five-minutes"),
}


def commands(path: Path) -> list[str]:
    """The commands of a runbook: lines of its shell blocks, and those in running text."""
    text = path.read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    return [*lines, *re.findall(r"`((?:headwater|kubectl|helm -n) [^`]+)`", text)]


COMMANDS = [(path.stem, command) for path in FILES for command in commands(path)]


def of(program: str) -> list[tuple[str, str]]:
    """The commands of one program, also where another one runs it or a pipe ends in it."""
    found = []
    for name, command in COMMANDS:
        for part in re.split(r" \| | -- ", command):
            if part.split()[0] == program:
                found.append((name, part))
    return found


@pytest.fixture(scope="module")
def objects():
    """What is installed, by kind in lower case and name, as kubectl is asked for it."""
    found = {
        (thing["kind"].lower(), thing["metadata"]["name"])
        for profile in ("dev", "prod")
        for thing in render(profile)
    }
    # What the operators make of it.
    for job in jobs(repository):
        found |= {("deployment", job.name), ("svc", f"{job.name}-rest")}
    found |= {("svc", name) for kind, name in found if kind == "service"}
    found |= {("hpa", name) for kind, name in found if kind == "horizontalpodautoscaler"}
    found |= {
        ("strimzipodset", f"{name}-connect") for kind, name in found if kind == "kafkaconnect"
    }
    return found | {("kafkauser", RELEASE)}


def test_there_is_a_runbook_for_each_alert_and_each_operation():
    wanted = {Path(a.runbook).stem for a in alerts(repository, [j.name for j in jobs(repository)])}
    assert wanted | OPERATIONS | {"README"} == {path.stem for path in FILES}


def test_the_index_names_every_runbook():
    index = (FOLDER / "README.md").read_text("utf-8")
    for path in FILES:
        assert path.stem == "README" or f"({path.name})" in index, path.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize(("runbook", "command"), of("headwater"))
def test_a_command_of_ours_is_understood(runbook, command):
    """Parsed as it stands, options and arguments too, and not run."""
    understood(shlex.split(command)[1:])


@pytest.mark.parametrize(("runbook", "command"), of("kubectl"))
def test_kubectl_is_asked_for_what_is_there(objects, runbook, command):
    # Labels and annotations have slashes too.
    asked = re.sub(r"\S+\.io/\S+|/dev/\S+", "", command.split(" -- ")[0])
    for kind, name in re.findall(r"\b([a-z]+)/([a-z0-9][a-z0-9.-]*)", asked):
        assert (kind, name) in objects, f"{runbook}: {command}"
    for component in re.findall(r"component=(\w+)", command):
        assert component in ("api", "exporter", "flink", "redis", "postgres"), command
    words = command.split()
    if words[1] == "-n":
        assert words[2] == NAMESPACE


@pytest.mark.parametrize(
    ("runbook", "command"),
    [
        (n, c)
        for n, c in of("helm")
        if c.split()[1] in ("install", "upgrade") and "helm/headwater" in c
    ],
)
def test_helm_renders_what_it_is_told(runbook, command, monkeypatch):
    """An upgrade with --reuse-values takes those of the installation."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)[2:]
    if "--reuse-values" in words:
        words.remove("--reuse-values")
        installed = next(
            c for n, c in of("helm") if n == "install" and "values-prod" in c and " install " in c
        )
        files = shlex.split(installed)
        words += [
            word for option, value in pairwise(files) if option == "-f" for word in (option, value)
        ]
    rendered = [found for found in yaml.safe_load_all(helm("template", *words)) if found]
    assert {"FlinkDeployment", "Deployment"} <= {thing["kind"] for thing in rendered}


def test_values_that_are_named_are_values():
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    for path in FILES:
        for name in re.findall(r"`([a-z]\w*(?:\.\w+)+)[:`]", path.read_text("utf-8")):
            first, *rest = name.split(".")
            if first not in values or first == "jobs":
                continue
            place = values[first]
            for step in rest:
                assert step in place, f"{path.name}: {name}"
                place = place[step]
