"""GitHub's workflows are well formed, run what .ci/run runs, and ask for no right they need not."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from tools.chart import PLAN, ROOT, TOOLS

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in FOLDER.glob("*.yml")}


def steps(name: str) -> list[dict]:
    return [step for job in WORKFLOWS[name]["jobs"].values() for step in job.get("steps", ())]


def test_actionlint_finds_nothing():
    files = [str(path) for path in FOLDER.glob("*.yml")]
    run = subprocess.run([str(TOOLS / "actionlint"), "-shellcheck=", *files], capture_output=True)
    assert run.returncode == 0, run.stdout.decode()
    assert len(files) == 3


def test_actionlint_would_find_something(tmp_path):
    broken = (FOLDER / "ci.yml").read_text("utf-8").replace("runs-on: ubuntu", "runs-in: ubuntu")
    (tmp_path / "broken.yml").write_text(broken)
    run = subprocess.run(
        [str(TOOLS / "actionlint"), "-shellcheck=", str(tmp_path / "broken.yml")],
        capture_output=True,
    )
    assert run.returncode == 1


def test_it_runs_the_make_targets_of_ci_run():
    local = re.findall(r"^make .*", (ROOT / ".ci/run").read_text("utf-8"), re.MULTILINE)
    check = [step["run"] for step in WORKFLOWS["ci"]["jobs"]["check"]["steps"] if "run" in step]
    assert check == local
    assert {step["run"] for step in steps("ci") if "run" in step} - set(local) == {"make audit"}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {command.split()[1] for command in (*local, "make audit")} <= set(targets)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_rights_are_asked_for_job_by_job(name):
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    for step in steps(name):
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False
        if "uses" in step:
            assert re.search(r"@v\d|@\d+\.\d+", step["uses"]), step["uses"]
        # What others write (a branch's name, an input) must not become a part of a script.
        assert "${{" not in step.get("run", "")


def test_every_image_is_built_scanned_listed_and_signed():
    images = sorted(path.name for path in (ROOT / "images").iterdir())
    for name in ("ci", "release"):
        assert sorted(WORKFLOWS[name]["jobs"]["images"]["strategy"]["matrix"]["image"]) == images
    used = {step.get("uses", "").split("@")[0] for step in steps("ci")}
    assert {"anchore/sbom-action", "aquasecurity/trivy-action"} <= used
    assert "actions/dependency-review-action" in used
    ran = " ".join(step.get("run", "") for step in steps("release"))
    assert 'cosign sign --yes "$IMAGE"' in ran
    assert 'cosign sign --yes "$REGISTRY/charts' in ran
    assert "helm push" in ran


def test_nothing_is_applied_before_somebody_has_approved_the_plan():
    jobs = WORKFLOWS["deploy"]["jobs"]
    assert jobs["apply"]["needs"] == "plan"
    assert jobs["apply"]["environment"] == "${{ inputs.environment }}"
    assert jobs["plan"]["environment"] != jobs["apply"]["environment"]
    planned = " ".join(step.get("run", "") for step in jobs["plan"]["steps"])
    applied = " ".join(step.get("run", "") for step in jobs["apply"]["steps"])
    assert "-out=plan.tfplan" in planned
    assert "terraform apply -input=false plan.tfplan" in applied
    assert " apply" not in planned
    assert "cosign verify" in applied.partition("helm upgrade")[0]


def test_it_installs_every_file_of_the_plan():
    for name in PLAN:
        file = f"feature_repo/flights/plan/helm/{name}.yaml"
        assert file in WORKFLOWS["deploy"]["env"]["VALUES"]
        assert (ROOT / file).exists()
