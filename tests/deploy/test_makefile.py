"""Every make target that people are told of has a rule; `make compose` says what it needs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tools.chart import ROOT

TEXT = (ROOT / "Makefile").read_text("utf-8")
RULES = set(re.findall(r"^([a-z-]+):(?!=)", TEXT, re.MULTILINE))
TOLD = [
    *(ROOT / name for name in ("README.md", "compose.yaml", ".ci/run")),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "terraform").rglob("*.md"),
    *(ROOT / ".github/workflows").glob("*.yml"),
]
# In code: after a backtick, at a line's or a shell command's beginning, after variables.
NAMED = re.compile(r"(?:`|^[ ]*|run: |&& |\b[A-Z_]+=\S+ )make ([a-z][a-z-]*)", re.MULTILINE)


def told(path: Path) -> set[str]:
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        # What stands in a block or between backticks; a line of prose may begin with the word.
        text = "\n".join(re.findall(r"`[^`\n]+`|^    .*|^```(?s:.*?)^```", text, re.M))
    return set(NAMED.findall(text))


@pytest.mark.parametrize("path", TOLD, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_target_that_is_named_has_a_rule(path):
    assert told(path) <= RULES


def test_targets_are_looked_for_where_they_are_named():
    named = {path.relative_to(ROOT).as_posix(): told(path) for path in TOLD}
    assert {"demo", "test", "compose", "check-deploy", "down"} <= named["README.md"]
    assert {"compose", "up", "audit"} <= named["docs/deploy.md"]
    assert {"bench-joins", "soak"} <= named["docs/benchmarks.md"]
    assert named["compose.yaml"] == {"compose"}
    assert named[".github/workflows/ci.yml"] == {"lint", "check-deploy", "test", "audit"}
    assert "check-terraform" in named["terraform/README.md"]
    assert any(targets for name, targets in named.items() if name.startswith("docs/runbooks/"))


def test_what_is_no_file_has_a_rule_all_the_same():
    phony = {word for line in re.findall(r"^\.PHONY: (.*)", TEXT, re.M) for word in line.split()}
    assert phony <= RULES


def make(*arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    """Nothing is installed: the environment counts as it is.

    The tests are themselves run by make; what it hands on would make this one speak as its child.
    """
    old = ["--old-file=build/envs/serving/.ready"]
    handed_on = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    environ = {k: v for k, v in os.environ.items() if k not in handed_on} | {"PATH": path}
    return subprocess.run(
        ["make", *old, *arguments, "compose"], cwd=ROOT, env=environ, capture_output=True, text=True
    )


def test_compose_writes_what_is_mounted_and_then_starts():
    run = make("--dry-run", path=os.environ["PATH"])
    assert run.returncode == 0, run.stderr
    *_, written, started = run.stdout.splitlines()
    assert written.endswith("python -m tools.compose build/compose")
    assert started == "docker compose up --build --detach"


@pytest.mark.parametrize("works", [True, False])
def test_compose_asks_for_an_engine_first(tmp_path, works):
    """A docker without Compose is none. What is run here only notes it."""
    docker, python = tmp_path / "docker", tmp_path / "python"
    docker.write_text(f'#!/bin/sh\necho docker "$@" >> {tmp_path}/ran\nexit {int(not works)}\n')
    python.write_text(f'#!/bin/sh\necho python "$@" >> {tmp_path}/ran\n')
    docker.chmod(0o755)
    python.chmod(0o755)
    run = make(f"BIN={tmp_path}", path=f"{tmp_path}:{os.environ['PATH']}")
    ran = (tmp_path / "ran").read_text().splitlines()
    if works:
        assert run.returncode == 0, run.stderr
        assert ran == [
            "docker compose version",
            "python -m tools.compose build/compose",
            "docker compose up --build --detach",
        ]
    else:
        assert run.returncode != 0
        assert "no docker with Compose here" in run.stderr
        assert ran == ["docker compose version"]
