"""Lays terraform/aws out so that it can be initialised, and reads what its tests came to.

Its modules are public ones, of a registry that is not reached from everywhere. Where it is not,
stand-ins take their place: they declare the variables that are used, of the names and types in
the modules' own `variables.tf` (tests/deploy/modules.json has them), and give back what they were
given. So Terraform itself says whether an argument exists, is of its type, or is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.chart import ROOT

AWS = ROOT / "terraform" / "aws"
PLATFORM = ROOT / "terraform" / "platform"
TABLE: dict[str, Any] = json.loads((ROOT / "tests/deploy/modules.json").read_text("utf-8"))
_CALL = re.compile(r'module "(\w+)" \{\n  source  = "([^"]+)"\n  version = "([^"]+)"')


@dataclass(frozen=True)
class Call:
    """One use of a module: what it is called here, where it is from, and its exact version."""

    name: str
    source: str
    version: str

    @property
    def folder(self) -> str:
        """Its path below a folder of modules: vpc/modules/vpc-endpoints, say."""
        whole, _, inner = self.source.partition("//")
        return "/".join(filter(None, (whole.split("/")[1], inner)))


def calls() -> list[Call]:
    """The modules that terraform/aws is composed of."""
    return [
        Call(*match)
        for file in sorted(AWS.glob("*.tf"))
        for match in _CALL.findall(file.read_text("utf-8"))
    ]


def lay(folder: Path, modules: Path | None) -> Path:
    """A copy of terraform/aws, its modules those in a folder (vpc/, eks/, ...) if one is given."""
    shutil.copytree(AWS, folder, ignore=shutil.ignore_patterns(".terraform", "backend.hcl"))
    if modules is not None:
        shutil.copytree(modules, folder / "modules")
        _from_folder(folder)
    return folder


def _from_folder(copy: Path) -> None:
    for file in copy.glob("*.tf"):
        text = _CALL.sub(
            lambda match: (
                f'module "{match[1]}" {{\n  source = "./modules/{Call(*match.groups()).folder}"'
            ),
            file.read_text("utf-8"),
        )
        file.write_text(text, "utf-8")


def stand_ins(folder: Path) -> Path:
    """A copy with stand-ins, and an output `given` of what each module was given."""
    lay(folder, None)
    _from_folder(folder)
    for call in calls():
        known = TABLE[call.source]
        place = folder / "modules" / call.folder
        place.mkdir(parents=True, exist_ok=True)
        given = {name: f"${{var.{name}}}" for name in known["variables"]}
        document = {
            "variable": {
                name: {"type": type_} | ({} if name in known["required"] else {"default": None})
                for name, type_ in known["variables"].items()
            },
            "output": {name: {"value": value} for name, value in known["outputs"].items()}
            | {"given": {"value": given}},
        }
        (place / "main.tf.json").write_text(json.dumps(document), "utf-8")
    output = {call.name: f"${{module.{call.name}.given}}" for call in calls()}
    (folder / "given.tf.json").write_text(json.dumps({"output": {"given": {"value": output}}}))
    return folder


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run terraform in `folder`, by no configuration of this machine's."""
    environ = os.environ | {"TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
    return subprocess.run(
        ["terraform", *arguments], env=environ, capture_output=True, text=True, cwd=folder
    )


def states_of(folder: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """The state that each run of `terraform test` came to, by the run's name; all must pass."""
    run = terraform(folder, "test", "-json", "-verbose", *arguments)
    messages = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode:
        raise AssertionError("\n".join(str(m["@message"]) for m in messages) + run.stderr)
    return {m["@testrun"]: m["test_state"] for m in messages if m.get("type") == "test_state"}


def resources(module: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The values of every resource of a state's module and of those in it, by type."""
    found: dict[str, list[dict[str, Any]]] = {}
    for resource in module.get("resources", ()):
        if resource["mode"] == "managed":
            found.setdefault(resource["type"], []).append(resource["values"])
    for child in module.get("child_modules", ()):
        for type_, values in resources(child).items():
            found.setdefault(type_, []).extend(values)
    return found
