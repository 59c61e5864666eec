"""The chart as a cluster would get it, and what must hold of it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "build" / "tools"
CHART = ROOT / "helm" / "headwater"
PROFILES = ("dev", "prod")
RELEASE, NAMESPACE = "headwater", "features"
PLAN = ("values", "rules", "dashboards")

# Where a pod's template is; Flink's operator takes it over into the pods that it makes.
_PODS = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
    "FlinkDeployment": ("spec", "podTemplate"),
}

# Strimzi puts its pods together by itself. Where it is told of one, each container's name in that
# template, and where the container's resources are.
_STRIMZI = {
    "KafkaNodePool": {("spec",): {"kafkaContainer": ("spec",)}},
    "KafkaConnect": {("spec",): {"connectContainer": ("spec",)}},
    "Kafka": {
        ("spec", "entityOperator"): {
            "topicOperatorContainer": ("spec", "entityOperator", "topicOperator"),
            "userOperatorContainer": ("spec", "entityOperator", "userOperator"),
        },
        ("spec", "cruiseControl"): {"cruiseControlContainer": ("spec", "cruiseControl")},
        ("spec", "kafkaExporter"): {"container": ("spec", "kafkaExporter")},
    },
}

Object = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One check of one object that does not hold."""

    kind: str
    name: str
    check: str
    problem: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}: {self.check}: {self.problem}"


def plan_files(repository: str = "flights", root: Path = ROOT) -> list[str]:
    """The options that give the chart a repository's plan."""
    folder = root / "feature_repo" / repository / "plan" / "helm"
    return [option for name in PLAN for option in ("-f", str(folder / f"{name}.yaml"))]


def helm(*arguments: str) -> str:
    """The output of a helm command; an error holds what it said."""
    run = subprocess.run([str(TOOLS / "helm"), *arguments], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"helm {' '.join(arguments)}: {run.stderr}{run.stdout}")
    return run.stdout


def render(profile: str, *options: str, plan: Iterable[str] | None = None) -> list[Object]:
    """Every object of a profile."""
    values = ["-f", str(CHART / f"values-{profile}.yaml")]
    text = helm(
        *("template", RELEASE, str(CHART), "--namespace", NAMESPACE),
        *(plan_files() if plan is None else plan),
        *values,
        *options,
    )
    return [found for found in yaml.safe_load_all(text) if found]


def kubeconform(objects: list[Object]) -> list[Finding]:
    """What the schemas of Kubernetes and of the operators refuse, unknown fields too."""
    location = f"{TOOLS}/schemas/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    run = subprocess.run(
        [
            *(str(TOOLS / "kubeconform"), "-strict", "-output", "json"),
            *("-schema-location", location, "-"),
        ],
        input=yaml.safe_dump_all(objects),
        capture_output=True,
        text=True,
    )
    resources = json.loads(run.stdout)["resources"] or []
    return [
        Finding(found["kind"], found["name"], "schema", found["msg"])
        for found in resources
        if found["status"] not in ("statusValid", "statusSkipped")
    ]


def pod(thing: Object) -> Object | None:
    """The pod's specification in an object that has one."""
    path = _PODS.get(thing["kind"])
    if path is None:
        return None
    template = thing
    for step in path:
        template = template[step]
    found = dict(template["spec"])
    if thing["kind"] == "FlinkDeployment":
        # The job manager's own, which the operator adds to those of both.
        more = thing["spec"]["jobManager"].get("podTemplate", {}).get("spec", {})
        found["initContainers"] = more.get("initContainers", [])
    return found


def pods(thing: Object) -> list[Object]:
    """The specification of each pod that comes of an object, as far as the object says it."""
    if thing["kind"] not in _STRIMZI:
        found = pod(thing)
        return [] if found is None else [found]
    made = []
    for where, parts in _STRIMZI[thing["kind"]].items():
        if (owner := _at(thing, where)) is None:
            continue
        template = owner.get("template", {})
        # A part that is not there gets no container.
        known = {name: _at(thing, path) for name, path in parts.items()}
        there = {name: part for name, part in known.items() if part is not None}
        made.append(
            template.get("pod", {})
            | {
                "containers": [
                    {"name": name, "resources": part.get("resources", {})} | template.get(name, {})
                    for name, part in there.items()
                ]
            }
        )
    return made


def _at(thing: Object, path: Iterable[str]) -> Object | None:
    found: Object | None = thing
    for step in path:
        found = None if found is None else found.get(step)
    return found


def restricted(thing: Object) -> Iterator[str]:
    """What Pod Security's `restricted`, and a read-only root file system, would refuse."""
    for spec in pods(thing):
        yield from _restricted(spec)


def _restricted(spec: Object) -> Iterator[str]:
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or security.get("runAsUser") in (None, 0):
        yield "may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} is on"
    for volume in spec.get("volumes", ()):
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a path of the host"
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        given = container.get("securityContext", {})
        where = container["name"]
        if given.get("allowPrivilegeEscalation") is not False:
            yield f"{where} may get more privileges"
        if given.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{where} keeps capabilities"
        if given.get("readOnlyRootFilesystem") is not True:
            yield f"{where} may write to its image"
        if given.get("privileged"):
            yield f"{where} is privileged"


def pinned(thing: Object) -> Iterator[str]:
    """Images without a version."""
    for image in images(thing):
        if not re.fullmatch(r"\S+(:[\w.-]*\d[\w.-]*|@sha256:[0-9a-f]{64})", image):
            yield f"image {image} has no version"
        if image.endswith(":latest"):
            yield f"image {image} is the latest"


def images(thing: Object) -> list[str]:
    """The images that an object names."""
    found = [c["image"] for c in containers(thing) if "image" in c]
    if isinstance(image := thing.get("spec", {}).get("image"), str):
        found.append(image)
    return found


def limited(thing: Object) -> Iterator[str]:
    """Containers without limits; the Flink operator sets those of its own."""
    if thing["kind"] == "FlinkDeployment":
        for part in ("jobManager", "taskManager"):
            if not {"cpu", "memory"} <= thing["spec"][part].get("resource", {}).keys():
                yield f"{part} has no resources"
    for container in containers(thing):
        if container["name"] == "flink-main-container":
            continue
        given = container.get("resources", {})
        for what in ("requests", "limits"):
            if not {"cpu", "memory"} <= given.get(what, {}).keys():
                yield f"{container['name']} has no {what}"


_SECRET = re.compile(r"passw|secret|token|credential|routing_?key|private", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\(|\$\{|^/secrets/|^$")


def secretless(thing: Object) -> Iterator[str]:
    """Secrets as values: the chart may only name them."""
    if thing["kind"] == "Secret":
        yield "is a secret"
    for container in containers(thing):
        for variable in container.get("env", ()):
            value = variable.get("value", "")
            if _SECRET.search(variable["name"]) and not _REFERENCE.search(value):
                yield f"variable {variable['name']} holds a value"
            if re.search(r"://[^/@$]+:[^/@$]+@", value):
                yield f"variable {variable['name']} holds a password"
    for path, value in _texts(thing.get("spec", {})):
        if re.search(r"password|token$", path.rsplit(".", 1)[-1], re.IGNORECASE) and not (
            _REFERENCE.search(value)
            or path.endswith(("secretKeyRef.key", "passwordSecret.password"))
        ):
            yield f"{path} holds a value"


def labelled(thing: Object) -> Iterator[str]:
    """Every object says what it belongs to."""
    labels = thing["metadata"].get("labels", {})
    for name in ("name", "instance", "component", "version"):
        if f"app.kubernetes.io/{name}" not in labels:
            yield f"no label {name}"


def linkless(thing: Object) -> Iterator[str]:
    """Pods that get a variable for each service, some of them named as our settings are."""
    for spec in pods(thing):
        if spec.get("enableServiceLinks") is not False:
            yield "gets a variable for each service"


def applies(name: str, thing: Object) -> bool:
    """Whether an object has anything that a check looks at."""
    if name == "version":
        return bool(images(thing))
    return name not in ("restricted", "limits", "no links") or bool(pods(thing))


CHECKS = {
    "restricted": restricted,
    "version": pinned,
    "limits": limited,
    "no secret": secretless,
    "labels": labelled,
    "no links": linkless,
}


def check(objects: list[Object]) -> list[Finding]:
    """Every check of every object that does not hold."""
    return [
        *kubeconform(objects),
        *(
            Finding(thing["kind"], thing["metadata"]["name"], name, problem)
            for thing in objects
            for name, holds in CHECKS.items()
            for problem in holds(thing)
        ),
    ]


def containers(thing: Object) -> list[Object]:
    """The containers of an object's pods."""
    return [
        c for spec in pods(thing) for c in (*spec.get("initContainers", ()), *spec["containers"])
    ]


def _texts(value: Any, path: str = "spec") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, path)
    elif isinstance(value, str):
        yield path, value
