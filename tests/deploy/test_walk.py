"""A new user installs: the runbook and then the notes, step by step, on the rendered objects.

What a cluster would refuse or wait for in vain is looked for at each step: a secret that nobody
made, a port that no service has, a path that the API does not know.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest
import yaml

from api.auth import ALL_VIEWS, PrincipalsDocument
from api.routes import HANDLERS
from feature_repo.flights.repository import repository
from tests import runbooks
from tests.deploy.commands import understood
from tools.chart import NAMESPACE, RELEASE, ROOT, TOOLS, containers, helm, images, pod
from tools.terraform import AWS, PLATFORM

RUNBOOK = ROOT / "docs/runbooks/install.md"
STEPS = [
    shlex.split(line)
    for block in re.findall(r"```sh\n(.*?)```", RUNBOOK.read_text("utf-8"), re.DOTALL)
    for line in block.splitlines()
]
INSTALLS = {
    "dev" if "values-dev" in " ".join(step) else "prod": step
    for step in STEPS
    if step[:3] == ["helm", "install", RELEASE]
}
CLUSTER = re.search(
    r'variable "name" \{.*?default\s+= "([^"]+)"',
    (ROOT / "terraform/local/variables.tf").read_text("utf-8"),
    re.DOTALL,
)[1]
"""The cluster of one node that terraform/local makes."""
REST = 8081
"""The port of the service that Flink's operator makes of a job."""


def made(step: list[str]) -> tuple[str, set[str]] | None:
    """The secret that a step makes, and its keys."""
    if "kubectl" not in step or "secret" not in step:
        return None
    files = [word.split("=", 1)[1] for word in step if word.startswith("--from-file=")]
    return step[step.index("generic") + 1], {file.split("=")[0] for file in files}


def before(install: list[str]) -> dict[str, set[str]]:
    """The secrets, with their keys, that are there when it is installed."""
    found = [made(step) for step in STEPS[: STEPS.index(install)]]
    return dict(one for one in found if one is not None)


def rendered(profile: str, *options: str) -> list[dict]:
    words = (*INSTALLS[profile][2:], *options)
    return [found for found in yaml.safe_load_all(helm("template", *words)) if found]


def asked_for(thing: object) -> set[tuple[str, str | None]]:
    """The secrets that an object names, each with the key it wants, or any."""
    found: set[tuple[str, str | None]] = set()
    if isinstance(thing, list):
        return {one for item in thing for one in asked_for(item)}
    if not isinstance(thing, dict):
        return found
    for name, value in thing.items():
        if name in ("secretKeyRef", "routingKey", "apiURL") and isinstance(value, dict):
            found.add((value["name"], value["key"]))
        elif name == "secret" and isinstance(value, dict) and "secretName" in value:
            # Without items it is whatever there is.
            keys = [item["key"] for item in value.get("items", ())] or [None]
            found |= {(value["secretName"], key) for key in keys}
        elif name == "secret" and isinstance(value, dict) and "key" in value:
            found.add((value["name"], value["key"]))
        elif name == "passwordSecret" and isinstance(value, dict):
            found.add((value["secretName"], value["password"]))
        else:
            found |= asked_for(value)
    return found


TLS = ("--set", "api.tlsSecret=api-tls")
OWN = {"api.tlsSecret": "api-tls", "storage.keysSecret": "s3-keys"}
"""Secrets that have the name they are given, and one that they may be given."""


@pytest.fixture(scope="module", params=INSTALLS)
def installed(request):
    """The profile, and what its command of the runbook makes."""
    return request.param, rendered(request.param)


def options(step: list[str]) -> dict[str, list[str]]:
    """The options of a helm command."""
    found: dict[str, list[str]] = {}
    for place, word in enumerate(step):
        if word.startswith("--"):
            value = "" if word == "--create-namespace" else step[place + 1]
            found.setdefault(word, []).append(value)
    return found


def releases() -> dict[str, dict[str, str]]:
    """What terraform/platform installs, by name, its versions filled in."""
    variables = (PLATFORM / "variables.tf").read_text("utf-8")
    text = (PLATFORM / "main.tf").read_text("utf-8")
    for name, body in re.findall(
        r'^variable "(\w+)" \{(.*?)^\}', variables, re.DOTALL | re.MULTILINE
    ):
        if default := re.search(r'default\s+= "([^"]+)"', body):
            text = text.replace(f"${{var.{name}}}", default[1])
            text = re.sub(rf"var\.{name}\b", f'"{default[1]}"', text)
    found = {}
    for body in re.findall(
        r'^resource "helm_release" "\w+" \{(.*?)^\}', text, re.DOTALL | re.MULTILINE
    ):
        fields = dict(re.findall(r'^  (\w+)\s+= "([^"]*)"$', body, re.MULTILINE))
        values = re.search(r"yamlencode\((.*)\)\]", body)
        found[fields["name"]] = fields | {"values": values[1] if values else ""}
    return found


def test_the_operators_are_those_that_terraform_installs():
    steps = {step[2]: step for step in STEPS if step[:2] == ["helm", "install"]}
    wanted = releases()
    assert steps.keys() == wanted.keys()
    assert len(wanted) == 4
    for name, step in steps.items():
        if name == RELEASE:
            continue
        given, known = options(step), wanted[name]
        repository = given.get("--repo")
        chart = step[3] if repository is None else f"{repository[0].rstrip('/')}/{step[3]}"
        assert chart == f"{known['repository'].rstrip('/')}/{known['chart']}"
        assert given["--version"] == [known["version"]]
        assert given["--namespace"] == [known["namespace"]]
        values = set()
        if "watchNamespaces" in known["values"]:
            values.add(f"watchNamespaces={{{NAMESPACE}}}")
        if "webhook = { create = false }" in known["values"]:
            values.add("webhook.create=false")
        assert set(given.get("--set", ())) == values
    text = (ROOT / "helm/headwater/values.yaml").read_text("utf-8")
    installed_in = yaml.safe_load(text)
    assert (
        installed_in["flink"]["operatorNamespace"]
        == wanted["flink-kubernetes-operator"]["namespace"]
    )
    assert installed_in["monitoring"]["namespace"] == wanted["prometheus"]["namespace"]
    assert installed_in["monitoring"]["labels"] == {"release": "prometheus"}


def test_the_images_that_are_built_are_those_that_are_asked_for(installed):
    profile, objects = installed
    built = {}
    for step in STEPS:
        if step[:2] == ["docker", "build"]:
            assert step[-1] == "."
            built[step[step.index("-t") + 1]] = ROOT / step[step.index("-f") + 1]
    asked = {image for thing in objects for image in images(thing)}
    ours = {image for image in asked if image.startswith("ghcr.io/headwater/")}
    assert ours == built.keys()
    assert all(file.exists() for file in built.values())
    assert len(set(built.values())) == len(built)
    # Whatever else is asked for is somebody's: only a development release has stores of its own.
    assert (asked != ours) is (profile == "dev")
    (loaded,) = (step for step in STEPS if step[:3] == ["kind", "load", "docker-image"])
    assert set(loaded[5:]) == built.keys()
    assert loaded[3:5] == ["--name", CLUSTER]
    assert f"`kind create cluster --name {CLUSTER}`" in RUNBOOK.read_text("utf-8")
    # An image that was loaded is not pulled.
    pulled = {c.get("imagePullPolicy") for thing in objects for c in containers(thing)}
    assert "Always" not in pulled


@pytest.fixture(autouse=True, scope="module")
def in_the_checkout():
    """The commands name files from there."""
    here = Path.cwd()
    os.chdir(ROOT)
    yield
    os.chdir(here)


def test_there_is_a_command_for_each_profile():
    assert set(INSTALLS) == {"dev", "prod"}


def test_the_namespace_is_there_before_anything_is_put_into_it():
    namespaced = [place for place, step in enumerate(STEPS) if "features" in step[1:]]
    assert STEPS[namespaced[0]] == ["kubectl", "create", "namespace", "features"]
    for install in INSTALLS.values():
        assert install[install.index("--namespace") + 1] == "features"


def test_every_secret_is_made_before_it_is_asked_for(installed):
    profile, objects = installed
    known = before(INSTALLS[profile])
    # Strimzi makes that of a user, named like it.
    known |= {t["metadata"]["name"]: {"password"} for t in objects if t["kind"] == "KafkaUser"}
    asked = asked_for(objects)
    assert asked
    for name, key in asked:
        assert name in known, f"{profile}: nobody has made secret {name}"
        assert key is None or key in known[name], f"{profile}: secret {name} has no key {key}"


@pytest.mark.parametrize("name", ["install", "rotate-secrets"])
def test_no_secret_ends_in_a_newline(name):
    """Debezium, and what puts one into an address, take it for a part of the password."""
    typed = [c for c in runbooks.lines(runbooks.FOLDER / f"{name}.md") if "=/dev/stdin" in c]
    assert typed
    for line in typed:
        before = line.partition(" | kubectl ")[0]
        run = subprocess.run(["sh", "-c", before], input="s3cret\n", capture_output=True, text=True)
        assert run.stdout == "s3cret"


def test_the_runbook_makes_no_secret_that_nobody_asks_for():
    asked = {name for profile in INSTALLS for name, _ in asked_for(rendered(profile))}
    for install in INSTALLS.values():
        assert before(install).keys() <= asked


READERS = {
    "api": "API",
    "flink": "jobs",
    "command": "command",
    "exporter": "exporter",
    "heartbeat": "heartbeat",
    "connect": "Connect",
    "rules": "Alertmanager",
    "test": "`helm test`",
}


def test_the_runbook_of_secrets_lists_each_with_its_keys_and_its_readers():
    """As the objects of production ask for them, with those that may be named, and a heartbeat."""
    text = (ROOT / "docs/runbooks/rotate-secrets.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)[1:]
    table = {}
    for secret, keys, readers in rows:
        name = re.search(r"`([\w.-]+)`", secret)[1]
        name = OWN.get(name, name)
        table[name] = (
            set(re.findall(r"`([^`]+)`", keys)),
            set(readers.split(";")[0].strip().split(", ")),
        )
    asked: dict[str, set[str | None]] = {}
    readers_of: dict[str, set[str]] = {}
    options = ("repository.heartbeats={departures}", *(f"{k}={v}" for k, v in OWN.items()))
    for thing in rendered("prod", *(word for one in options for word in ("--set", one))):
        part = READERS.get(thing["metadata"]["labels"]["app.kubernetes.io/component"])
        if thing["kind"] == "ServiceMonitor":
            part = "Prometheus"
        for name, key in asked_for(thing):
            asked.setdefault(name, set()).add(key)
            readers_of.setdefault(name, set()).add(part)
    assert table.keys() == asked.keys()
    for name, (keys, readers) in table.items():
        assert readers == readers_of[name], name
        # What is mounted whole has the keys that the runbook of the installation makes.
        made_keys = before(INSTALLS["prod"]).get(name, keys)
        assert keys == made_keys == (asked[name] - {None} or made_keys), name


def test_productions_values_name_every_secret_that_must_be_made():
    values = (ROOT / "helm/headwater/values-prod.yaml").read_text("utf-8")
    comment = re.search(r"^# Secrets, (.*?)\.$", values, re.MULTILINE | re.DOTALL)[1]
    assert set(re.findall(r"\bheadwater[\w-]*", comment)) == before(INSTALLS["prod"]).keys()


def test_who_may_ask_is_written_as_the_api_reads_it(tmp_path):
    keys = [step for step in STEPS if step[:3] == ["headwater", "keys", "make"]]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    for step in keys:
        run = subprocess.run(
            [sys.executable, "-m", *step],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
    document = (tmp_path / "principals.json").read_bytes()
    found = msgspec.json.decode(document, type=PrincipalsDocument).principals
    assert [one.views == [ALL_VIEWS] for one in found] == [True, False]
    named = [view for one in found for view in one.views if view != ALL_VIEWS]
    assert set(named) <= {view.name for view in repository.views}


def test_the_key_pair_of_the_api_is_asked_for_by_the_keys_that_are_said():
    """By all who ask for it: the API, Prometheus and `helm test`."""
    asked = {key for name, key in asked_for(rendered("prod", *TLS)) if name == "api-tls"}
    values = (ROOT / "helm/headwater/values.yaml").read_text("utf-8")
    comment = re.search(r"# (Secret with keys [^:]*): both doors speak TLS", values)[1]
    assert set(re.findall(r"\b\w+\.\w+\b", comment)) == asked == {"tls.crt", "tls.key", "ca.crt"}
    (text,) = re.findall(r"^     (curl .*)$", notes("prod", *TLS), re.MULTILINE)
    words = text.split()
    assert words[words.index("--connect-to") + 1] == "headwater-api:8080:127.0.0.1:8080"
    assert words[-1] == "https://headwater-api:8080/v1/feature-views"


def notes(profile: str, *options: str) -> str:
    run = subprocess.run(
        [
            *(str(TOOLS / "helm"), *INSTALLS[profile][1:], *options),
            *("--dry-run=client", "--hide-secret"),
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.partition("NOTES:")[2]


def test_each_command_of_the_notes_finds_what_it_names(installed):
    profile, objects = installed
    there = {(thing["kind"].lower(), thing["metadata"]["name"]): thing for thing in objects}
    kinds = {f"{kind}s" for kind, _ in there}
    forwarded: dict[str, str] = {}
    commands = re.findall(r"^     (\S.*)$", notes(profile), re.MULTILINE)
    assert len(commands) > 5
    for command in commands:
        words = command.split()
        if words[:3] == ["kubectl", "-n", "features"]:
            if words[3] == "get":
                assert words[4] in kinds, command
            else:
                assert words[3] == "port-forward"
                name, (local, port) = words[4].removeprefix("svc/"), words[5].split(":")
                if name.endswith("-rest"):
                    # Flink's operator makes it.
                    assert ("flinkdeployment", name.removesuffix("-rest")) in there, command
                    assert int(port) == REST
                else:
                    ports = there["service", name]["spec"]["ports"]
                    assert int(port) in {one["port"] for one in ports}, command
                    forwarded[local] = name
        elif words[0] == "curl":
            port, path = re.search(r"http://127\.0\.0\.1:(\d+)(/\S*)", command).groups()
            assert port in forwarded, command
            assert path in paths(), command
            assert "--oauth2-bearer" in words
        else:
            assert words == ["helm", "-n", "features", "test", "headwater"], command
            hooks = [t for t in objects if "helm.sh/hook" in t["metadata"].get("annotations", {})]
            assert "test" in {t["metadata"]["annotations"]["helm.sh/hook"] for t in hooks}
    assert set(forwarded.values()) == {"headwater-api"}


def paths() -> set[str]:
    return {path for handler in HANDLERS for path in handler.paths}


def test_the_notes_say_what_is_missing_and_only_that(installed):
    profile, _ = installed
    text = notes(profile)
    development = profile == "dev"
    assert ("Nobody but Prometheus and `helm test` may call the API yet" in text) is development
    assert ("No metrics are read and no alert is sent" in text) is development
    assert ("are for development: production brings its own" in text) is development


def test_what_production_must_set_is_what_terraform_gives():
    values = (ROOT / "helm/headwater/values-prod.yaml").read_text("utf-8")
    outputs = set(re.findall(r'^output "(\w+)"', (AWS / "outputs.tf").read_text(), re.MULTILINE))
    marked = re.findall(r"# SET: (\w+)", values)
    assert len(marked) >= 4
    assert set(marked) <= outputs


def test_what_runs_on_a_schedule_is_understood():
    jobs = {t["metadata"]["name"]: t for t in rendered("prod") if t["kind"] == "CronJob"}
    wanted = ("tables", "snapshots", "quality", "drift")
    assert set(jobs) == {f"headwater-{name}" for name in wanted}
    for thing in jobs.values():
        understood(pod(thing)["containers"][0]["args"])
    # One after the other, where the same tables are read.
    assert len({thing["spec"]["schedule"] for thing in jobs.values()}) == len(jobs)


@pytest.mark.parametrize(
    "wrong", [["tables", "maintian"], ["quality", "--last", "24"], ["drift", "--againts", "7d"]]
)
def test_what_would_not_be_understood_is_seen(wrong):
    with pytest.raises((click.UsageError, AssertionError)):
        understood(wrong)
