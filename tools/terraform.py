"""Lays terraform/aws and eks out so that they can be initialised, and reads what tests came to.

The modules of aws/ are public ones, of a registry that is not reached from everywhere. Where it is
not, stand-ins take their place: they declare the variables that are used, of the names and types in
the modules' own `variables.tf` (tests/deploy/modules.json has them), and give back what they were
given. So Terraform itself says whether an argument exists, is of its type, or is missing.

The providers of eks/ and platform/ come from that registry too, all but one. What they would make
becomes `terraform_data`, which is Terraform's own and keeps whatever it is given: so Terraform
works everything out, but whether an argument exists is not seen.
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
EKS = ROOT / "terraform" / "eks"
PLATFORM = ROOT / "terraform" / "platform"
TABLE: dict[str, Any] = json.loads((ROOT / "tests/deploy/modules.json").read_text("utf-8"))
_ELSEWHERE = ("helm", "kubernetes")
_RESOURCE = re.compile(r'^resource "(?:helm|kubernetes)_\w+" "(\w+)" \{\n(.*?)^\}', re.S | re.M)
_META = re.compile(r"^  (?:count|depends_on) .*\n", re.M)
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


def kept(folder: Path) -> Path:
    """A copy of terraform/eks, and of what it reads, whose releases and namespace are data."""
    for root in (EKS, PLATFORM):
        shutil.copytree(
            root, folder / root.relative_to(ROOT), ignore=shutil.ignore_patterns(".terraform")
        )
    for name in ("helm", "feature_repo"):
        (folder / name).symlink_to(ROOT / name)
    for file in (folder / "terraform").glob("*/*.tf"):
        file.write_text(_as_data(file.read_text("utf-8")), "utf-8")
    return folder / EKS.relative_to(ROOT)


def _as_data(text: str) -> str:
    for name in _ELSEWHERE:
        text = re.sub(rf'^provider "{name}" \{{\n.*?^\}}\n', "", text, flags=re.S | re.M)
        text = re.sub(rf"^    {name} = \{{\n.*?^    \}}\n", "", text, flags=re.S | re.M)
    # What it depends on is asked without a state.
    text = re.sub(r'^  backend "s3" \{\n.*?^  \}\n', "", text, flags=re.S | re.M)
    text = _RESOURCE.sub(_data, text)
    text = re.sub(r"\b(?:helm|kubernetes)_\w+\.(\w+)\.", r"terraform_data.\1.input.", text)
    return re.sub(r"\bhelm_release\.(\w+)", r"terraform_data.\1", text)


def _data(match: re.Match[str]) -> str:
    meta = "".join(_META.findall(match[2]))
    # A block is a list of objects to whoever refers to it.
    given = re.sub(
        r"^  (\w+) \{\n(.*?)^  \}$",
        r"  \1 = [{\n\2  }]",
        _META.sub("", match[2]),
        flags=re.S | re.M,
    )
    return f'resource "terraform_data" "{match[1]}" {{\n{meta}  input = {{\n{given}  }}\n}}'


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
