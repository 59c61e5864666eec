"""What the runbooks tell people to type is there: commands, options, objects, files, links."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from feature_repo.flights.repository import repository
from flink_jobs.sql import jobs
from observability.rules import alerts
from tests import runbooks
from tests.deploy.commands import understood
from tools.chart import CHART, NAMESPACE, RELEASE, ROOT, helm, render

# The commands of that one are run, and hold what stands for something else.
FILES = [path for path in runbooks.FILES if path.name != "replay.md"]
OPERATIONS = {
    *("install", "upgrade", "restore", "scale", "rotate-secrets", "rebuild-redis"),
    *("add-a-feature", "first-five-minutes"),
}


ELSEWHERE = {
    "headwater replay follow 0001": (
        "tests.test_replay",
        "test_lookups_have_a_core_of_their_own_while_a_governed_replay_is_followed",
    ),
    "headwater replay resume ID": (
        "tests.test_replay",
        "test_a_replay_survives_its_command_and_its_cluster_and_can_be_held_back_and_paused",
    ),
    "headwater replay run VIEW… --from T --promote": (
        "tests.test_upgrade",
        "test_a_changed_expectation_is_promoted_and_the_job_goes_on_from_its_state",
    ),
}
"""Commands that tests/test_runbooks.py does not run: the module and name of the test that does."""


def of(program: str) -> list[tuple[str, str]]:
    """The commands of one program."""
    return list(runbooks.of(program, FILES))


@pytest.fixture(scope="module")
def objects():
    """What is installed, by kind in lower case and name, as kubectl is asked for it."""
    found = {
        (thing["kind"].lower(), thing["metadata"]["name"])
        for profile in ("dev", "prod")
        for thing in render(profile, "--set", "repository.heartbeats={departures}")
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
    index = (runbooks.FOLDER / "README.md").read_text("utf-8")
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


def test_every_command_that_can_run_here_is_run_by_a_test():
    """By calls of `typed` in one file, by the test that takes one runbook's, or elsewhere."""
    said = {
        command
        for program in ("headwater", "curl")
        for _, command in runbooks.of(program, runbooks.FILES)
    }
    tree = ast.parse((ROOT / "tests" / "test_runbooks.py").read_text("utf-8"))
    run = {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "id", None) == "typed"
    }
    replay = runbooks.FOLDER / "replay.md"
    taken = source_of("tests.test_replay", "test_the_runbooks_commands_run")
    assert f'"{replay.name}"' in taken
    assert said - run - set(runbooks.lines(replay)) == ELSEWHERE.keys()
    assert run <= said
    for command, (module, name) in ELSEWHERE.items():
        for word in re.findall(r"(?:--)?\b[a-z]+\b", command.removeprefix("headwater replay")):
            assert f'"{word}"' in source_of(module, name), f"{name} does not run {command}"


def source_of(module: str, name: str) -> str:
    return inspect.getsource(getattr(importlib.import_module(module), name))


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


def test_rotated_secrets_come_to_everyone_who_keeps_running():
    """A job by a nonce that it has not had: the second time a number is none."""
    asked = runbooks.commands(runbooks.FOLDER / "rotate-secrets.md")
    nonces = [c for c in asked if "restartNonce" in c]
    assert nonces
    assert all("$(date +%s)" in c for c in nonces)
    restarted = {word for c in asked if " rollout restart " in c for word in c.split()}
    found = render("prod", "--set", "repository.heartbeats={departures}")
    running = {t["metadata"]["name"] for t in found if t["kind"] == "Deployment"}
    for name in running - {f"{RELEASE}-command"}:
        assert f"deployment/{name}" in restarted, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_the_chart_owns_is_left_to_the_chart(path):
    """But for the toolbox's sleep, which an upgrade leaves as it is."""
    asked = [c for c in runbooks.commands(path) if c.startswith("kubectl")]
    assert not [c for c in asked if " patch " in c and '"job"' in c]
    scaled = [c for c in asked if " scale " in c]
    assert {c.split()[4] for c in scaled} <= {f"deployment/{RELEASE}-command"}
    # Whoever wakes it sends it to sleep.
    assert [c[-1] for c in scaled] in ([], ["1", "0"])


@pytest.mark.parametrize(
    ("runbook", "command"),
    [
        (n, c)
        for n, c in of("helm")
        if c.split()[1] in ("install", "upgrade") and "helm/headwater" in c
    ],
)
def test_helm_renders_what_it_is_told(runbook, command, monkeypatch):
    """An upgrade may take the values of the installation, on the defaults of this chart."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)[2:]
    if "--reset-then-reuse-values" in words:
        words.remove("--reset-then-reuse-values")
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
