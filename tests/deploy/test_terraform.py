"""The infrastructure is well formed, and its shape is tested against a provider that is made up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from connectors.topics import topics
from feature_repo.flights.repository import repository
from flink_jobs.sql import jobs
from tools.chart import ROOT, render

TERRAFORM = ROOT / "terraform"
# Providers cannot be had from a package registry: a mirror in one of the usual places, or none.
MIRRORS = [
    mirror
    for pattern in ("usr/share/terraform/plugins", "usr/local/share/terraform/plugins", "opt/*")
    for mirror in Path("/").glob(pattern)
    if any(mirror.glob("*/hashicorp/aws"))
]
needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform here")
needs_aws = pytest.mark.skipif(
    shutil.which("terraform") is None or not MIRRORS, reason="no mirror of the AWS provider here"
)


def terraform(*arguments: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
    if data is not None:
        environ["TF_DATA_DIR"] = str(data)
    return subprocess.run(
        ["terraform", *arguments], env=environ, capture_output=True, text=True, cwd=TERRAFORM
    )


@needs_terraform
def test_it_is_formatted():
    run = terraform("fmt", "-check", "-recursive", "-diff")
    assert run.returncode == 0, run.stdout


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """A folder with the AWS provider in it."""
    data = tmp_path_factory.mktemp("terraform")
    chdir = f"-chdir={TERRAFORM / 'aws'}"
    run = terraform(
        *(chdir, "init", "-backend=false", "-input=false", f"-plugin-dir={MIRRORS[0]}"),
        data=data,
    )
    assert run.returncode == 0, run.stderr
    return chdir, data


@needs_aws
def test_the_provider_accepts_it(aws):
    chdir, data = aws
    run = terraform(chdir, "validate", "-no-color", data=data)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_aws
def test_its_own_tests_pass(aws):
    chdir, data = aws
    run = terraform(chdir, "test", "-no-color", data=data)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", run.stdout)


@needs_aws
@pytest.mark.parametrize("deployment", ["staging", "production"])
def test_each_deployment_sets_what_there_is(deployment):
    declared = set(re.findall(r'variable "(\w+)"', (TERRAFORM / "aws/variables.tf").read_text()))
    text = (TERRAFORM / f"aws/{deployment}.tfvars").read_text()
    assert set(re.findall(r"^(\w+)\s*=", text, re.MULTILINE)) <= declared


def test_every_variable_and_output_says_what_it_is():
    for file in TERRAFORM.glob("*/*.tf"):
        for block in re.findall(
            r'^(?:variable|output) "\w+" \{(.*?)^\}', file.read_text(), re.DOTALL | re.MULTILINE
        ):
            assert "description" in block, file


def test_no_secret_is_written():
    for file in TERRAFORM.rglob("*.tf*"):
        assert not re.search(r'(password|secret_string|token)\s*=\s*"', file.read_text()), file


def test_the_roles_are_those_of_the_charts_accounts():
    named = re.search(r"accounts = \[(.*)\]", (TERRAFORM / "aws/identity.tf").read_text())[1]
    accounts = {
        thing["metadata"]["name"]
        for thing in render(
            "prod", "--set", r"serviceAccounts.annotations.eks\.amazonaws\.com/role-arn=x"
        )
        if thing["kind"] == "ServiceAccount"
        and "eks.amazonaws.com/role-arn" in thing["metadata"].get("annotations", {})
    }
    assert set(re.findall(r'"([\w-]+)"', named)) == accounts


def test_its_values_are_values_of_the_chart(tmp_path):
    """The keys of the output, with addresses as AWS gives them."""
    site = {
        "kafka": {"bootstrap": "b-1.example.com:9096,b-2.example.com:9096"},
        "redis": {"url": "rediss://redis.example.com:6379"},
        "postgres": {"address": "postgres.example.com:5432"},
        "iceberg": {"warehouse": "s3://b/iceberg"},
        "storage": {"flink": "s3://b/flink", "region": "eu-west-1"},
        "serviceAccounts": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}},
        "networkPolicies": {"egress": ["10.0.0.0/16"]},
        "flink": {"nodeSelector": {"headwater.io/nodes": "jobs"}},
    }
    output = (TERRAFORM / "aws/outputs.tf").read_text().partition("yamlencode({")[2]
    output = output.partition("\noutput ")[0]
    assert set(re.findall(r"^    (\w+)\s*=", output, re.MULTILINE)) == site.keys()
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    found = render("prod", "-f", str(tmp_path / "site.yaml"))
    assert sum(thing["kind"] == "FlinkDeployment" for thing in found) == len(jobs(repository))


def test_topics_fit_the_cluster():
    """MSK makes as many replicas as there are zones: `headwater apply` leaves it to the cluster."""
    properties = (TERRAFORM / "aws/kafka.tf").read_text()
    assert "default.replication.factor=${var.zones}" in properties
    assert topics(repository)
