"""GitHub's workflows are well formed, run what .ci/run runs, and ask for no right they need not."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
import yaml

from tools.chart import PLAN, ROOT, TOOLS, containers, render

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
    assert "tools/released.sh" in planned.partition("helm template")[0]


DIGESTS = {name: f"sha256:{ord(name[0]):064x}" for name in ("connect", "flink", "serving")}


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A docker that knows a release's digests, and a cosign that knows who signed them."""
    asked = "buildx imagetools inspect --format {{.Manifest.Digest}}"
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\n[ "$1 $2 $3 $4 $5" = "{asked}" ] || exit 9\n'
        'case "$6" in\n'
        + "".join(f"  ghcr.io/some-one/{n}:1.2.3) echo {d} ;;\n" for n, d in DIGESTS.items())
        + "  *) exit 1 ;;\nesac\n"
    )
    (tmp_path / "cosign").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/verified\n'
        f"echo a payload\n[ ! -e {tmp_path}/unsigned ]\n"
    )
    for name in ("docker", "cosign"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def released(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "tools/released.sh"), *arguments], capture_output=True, text=True
    )


def test_what_was_verified_is_what_runs(registry):
    """Its owner's name has upper case, which GHCR does not take."""
    run = released("Some-One/Water", "v1.2.3")
    assert run.returncode == 0, run.stderr
    verified = (registry / "verified").read_text().splitlines()
    who = "https://github.com/Some-One/Water/.github/workflows/release.yml@refs/tags/v1.2.3"
    assert [line.split()[1] for line in verified] == [
        f"ghcr.io/some-one/{name}@{digest}" for name, digest in DIGESTS.items()
    ]
    for line in verified:
        assert f" --certificate-identity {who} " in line
    (registry / "images.yaml").write_text(run.stdout)
    objects = render("prod", "-f", str(registry / "images.yaml"))
    ours = {c["image"] for thing in objects for c in containers(thing) if "image" in c}
    images = [thing.get("spec", {}).get("image") for thing in objects]
    ours |= {image for image in images if isinstance(image, str)}
    assert ours == {f"ghcr.io/some-one/{name}:1.2.3@{digest}" for name, digest in DIGESTS.items()}


def test_an_image_that_the_release_did_not_sign_is_not_installed(registry):
    (registry / "unsigned").touch()
    assert released("some-one/water", "v1.2.3").returncode != 0
    assert released("some-one/water", "v1.2.4").returncode != 0


def test_images_are_installed_by_digest_as_they_were_planned():
    jobs = WORKFLOWS["deploy"]["jobs"]
    planned = [
        step["run"] for step in jobs["plan"]["steps"] if "helm template" in step.get("run", "")
    ]
    applied = [
        step["run"] for step in jobs["apply"]["steps"] if "helm upgrade" in step.get("run", "")
    ]
    for (script,) in (planned, applied):
        # The last file wins.
        assert re.search(r"\$VALUES -f site.yaml -f images.yaml( --wait.*)?( >.*)?$", script, re.M)
        assert "images." not in script.replace("images.yaml", "")
    (kept,) = [s for s in jobs["plan"]["steps"] if "upload-artifact" in s.get("uses", "")]
    (had,) = [s for s in jobs["apply"]["steps"] if "download-artifact" in s.get("uses", "")]
    assert set(kept["with"]["path"].split()) == {"images.yaml", "terraform/aws/plan.tfplan"}
    assert had["with"] == {"name": kept["with"]["name"]}
    assert jobs["plan"]["permissions"]["packages"] == "read"


def test_a_plan_of_objects_is_read_and_shows_what_would_change(tmp_path):
    (script,) = [
        step["run"]
        for step in WORKFLOWS["deploy"]["jobs"]["plan"]["steps"]
        if "helm template" in step.get("run", "")
    ]
    # A cluster that knows what was installed: the file, if it is there.
    there = tmp_path / "installed.yaml"
    helm = f'list) [ ! -e {there} ] || echo headwater;; get) cat {there};; *) {TOOLS}/helm "$@"'
    for name, does in (("aws", ""), ("helm", f"case $1 in {helm};; esac")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("feature_repo", "helm"):
        (tmp_path / "checkout" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "checkout" / name).symlink_to(ROOT / name)
    (tmp_path / "checkout/images.yaml").write_text("{}")
    environ = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "VALUES": WORKFLOWS["deploy"]["env"]["VALUES"],
        "CLUSTER": "headwater",
    }

    def changes(site: str) -> str:
        subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=tmp_path / "checkout",
            env=environ | {"SITE": site},
            check=True,
        )
        return (tmp_path / "checkout/objects.diff").read_text()

    first = changes("{}")
    assert "+kind: FlinkDeployment" in first
    # Hooks are made anew each time: no change of theirs is one.
    assert "+kind: Job" not in first
    there.write_text((tmp_path / "checkout/wanted.yaml").read_text())
    assert changes("{}") == ""
    changed = changes("api: {lookupsAtOnce: 65}").splitlines()
    assert [line.split() for line in changed if line.startswith("+ ")] == [["+", "value:", '"65"']]


def test_who_plans_needs_no_right_to_write():
    planned = " ".join(s.get("run", "") for s in WORKFLOWS["deploy"]["jobs"]["plan"]["steps"])
    (command,) = re.findall(r"terraform plan .*", planned)
    assert "-lock=false" in command
    assert "kubectl" not in planned.replace("kubeconfig", "")


def test_a_release_is_pushed_to_where_it_is_installed_from(tmp_path):
    """By the same name, in lower case."""
    for job in ("images", "chart"):
        runs = [step["run"] for step in WORKFLOWS["release"]["jobs"][job]["steps"] if "run" in step]
        (line,) = [run for run in runs if run.startswith('echo "REGISTRY=')]
        environ = {
            "GITHUB_ENV": str(tmp_path / job),
            "GITHUB_REPOSITORY_OWNER": "Some-One",
        }
        subprocess.run(["bash", "-ec", line], env=environ, check=True)
        assert (tmp_path / job).read_text() == "REGISTRY=ghcr.io/some-one\n"
        assert not any("$REGISTRY" in run for run in runs[: runs.index(line)])


def test_it_installs_every_file_of_the_plan():
    for name in PLAN:
        file = f"feature_repo/flights/plan/helm/{name}.yaml"
        assert file in WORKFLOWS["deploy"]["env"]["VALUES"]
        assert (ROOT / file).exists()


def test_everything_that_is_pinned_is_looked_after():
    """Every folder whose versions dependabot can raise."""
    found = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text("utf-8"))
    known = {
        one["package-ecosystem"]: set(one.get("directories", [one.get("directory")]))
        for one in found["updates"]
    }
    for ecosystem, pattern in (
        ("terraform", "terraform/*/versions.tf"),
        ("docker", "images/*/Dockerfile"),
        ("gomod", "tools/go.mod"),
        ("pip", "requirements/dev.in"),
    ):
        there = {f"/{file.parent.relative_to(ROOT)}" for file in ROOT.glob(pattern)}
        assert there and known[ecosystem] == there, ecosystem
    poms = [ROOT / "pom.xml", ROOT / "flink_jobs/kernel/pom.xml", ROOT / "tools/pom.xml"]
    assert known["maven"] == {f"/{pom.parent.relative_to(ROOT)}".removesuffix(".") for pom in poms}
