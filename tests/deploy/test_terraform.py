"""The infrastructure is well formed, and its shape is tested against a provider that is made up.

Its modules come from Terraform's registry. HEADWATER_TERRAFORM_MODULES=registry fetches them, and a
folder's path (DIR/vpc, DIR/eks, ...) takes them from there; without it, stand-ins of the same
variables take their place, and what needs the modules themselves is skipped.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from connectors.topics import topics
from feature_repo.flights.repository import repository
from flink_jobs.sql import jobs
from tools.chart import PLAN, RELEASE, ROOT, render
from tools.terraform import (
    AWS,
    EKS,
    PLATFORM,
    TABLE,
    calls,
    kept,
    lay,
    resources,
    stand_ins,
    states_of,
    terraform,
)

TERRAFORM = ROOT / "terraform"
RULES = ROOT / "feature_repo/flights/plan/helm/rules.yaml"
MODULES = os.environ.get("HEADWATER_TERRAFORM_MODULES", "")
# Providers cannot be had from a package registry: a mirror in one of the usual places, or none.
MIRRORS = [
    mirror
    for pattern in ("usr/share/terraform/plugins", "usr/local/share/terraform/plugins", "opt/*")
    for mirror in Path("/").glob(pattern)
    if any(mirror.glob("*/hashicorp/aws"))
]
needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform here")
needs_aws = pytest.mark.skipif(
    shutil.which("terraform") is None or not (MIRRORS or MODULES == "registry"),
    reason="no mirror of the AWS provider here",
)
needs_modules = pytest.mark.skipif(
    not MODULES, reason="the modules' registry is not asked: HEADWATER_TERRAFORM_MODULES says how"
)
DEPLOYMENTS = ("staging", "production")


@needs_terraform
def test_it_is_formatted():
    run = terraform(TERRAFORM, "fmt", "-check", "-recursive", "-diff")
    assert run.returncode == 0, run.stdout


def test_each_module_is_a_public_one_at_one_exact_version():
    text = "".join(file.read_text() for file in AWS.glob("*.tf"))
    assert len(calls()) == text.count('module "')
    for call in calls():
        assert call.source.startswith("terraform-aws-modules/")
        assert re.fullmatch(r"\d+\.\d+\.\d+", call.version)
        assert TABLE[call.source]["version"] == call.version
    assert {call.source for call in calls()} == TABLE.keys()


def initialised(folder: Path) -> Path:
    mirror = [] if MODULES == "registry" else [f"-plugin-dir={MIRRORS[0]}"]
    run = terraform(folder, "init", "-backend=false", "-input=false", *mirror)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """terraform/aws with stand-ins, and a test that applies it for each deployment."""
    folder = stand_ins(tmp_path_factory.mktemp("terraform") / "aws")
    mocks = (AWS / "tests/aws.tftest.hcl").read_text("utf-8").partition("\nvariables {")[0]
    (folder / "tests/aws.tftest.hcl").unlink()
    (folder / "tests/arguments.tftest.hcl").write_text(mocks + '\nrun "applied" {}\n', "utf-8")
    return initialised(folder)


@needs_aws
def test_the_modules_take_what_they_are_given(arguments):
    run = terraform(arguments, "validate", "-no-color")
    assert run.returncode == 0, run.stdout + run.stderr


@needs_aws
@pytest.mark.parametrize(
    ("file", "right", "wrong", "said"),
    [
        ("redis.tf", "node_type ", "node_typ ", "Unsupported argument"),
        ("kafka.tf", "= var.zones", "= [var.zones]", "Invalid value for input variable"),
        ("postgres.tf", "identifier            = var.name", "", "Missing required argument"),
        ("outputs.tf", "module.cluster.cluster_name", "module.cluster.name", "Unsupported attrib"),
    ],
)
def test_a_wrong_argument_is_seen(arguments, tmp_path, file, right, wrong, said):
    shutil.copytree(arguments, tmp_path / "aws", symlinks=True)
    text = (tmp_path / "aws" / file).read_text("utf-8")
    assert right in text
    (tmp_path / "aws" / file).write_text(text.replace(right, wrong, 1), "utf-8")
    run = terraform(tmp_path / "aws", "validate", "-no-color")
    assert run.returncode == 1
    assert said in run.stdout + run.stderr


@pytest.fixture(scope="module")
def given(arguments):
    """What each module is given, by deployment and the module's name."""
    found = {}
    for deployment in DEPLOYMENTS:
        state = states_of(arguments, f"-var-file={deployment}.tfvars")["applied"]
        found[deployment] = state["outputs"]["given"]["value"]
    return found


@needs_aws
def test_production_survives_the_loss_of_a_zone(given):
    found = given["production"]
    assert found["kafka"]["number_of_broker_nodes"] == 3
    assert len(found["network"]["azs"]) == len(found["network"]["private_subnets"]) == 3
    assert found["network"]["one_nat_gateway_per_az"]
    assert not found["network"]["single_nat_gateway"]
    assert found["postgres"]["multi_az"]
    assert found["redis"]["multi_az_enabled"]
    assert found["redis"]["num_cache_clusters"] == 2


@needs_aws
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_everything_is_encrypted_and_private(given, deployment):
    found = given[deployment]
    key = TABLE["terraform-aws-modules/kms/aws"]["outputs"]["key_arn"]
    assert found["postgres"]["storage_encrypted"]
    assert not found["postgres"]["publicly_accessible"]
    assert found["redis"]["at_rest_encryption_enabled"]
    assert found["redis"]["transit_encryption_mode"] == "required"
    assert found["kafka"]["encryption_in_transit_client_broker"] == "TLS"
    assert found["kafka"]["client_authentication"]["unauthenticated"] is False
    assert found["storage"]["restrict_public_buckets"]
    assert found["storage"]["attach_deny_insecure_transport_policy"]
    for module, name in (
        ("postgres", "kms_key_id"),
        ("redis", "kms_key_arn"),
        ("kafka", "encryption_at_rest_kms_key_arn"),
    ):
        assert found[module][name] == key
    assert found["cluster"]["cluster_encryption_config"]["provider_key_arn"] == key
    # The cluster's API is reached from inside, unless somebody is named.
    assert found["cluster"]["cluster_endpoint_public_access"] is False
    metadata = found["cluster"]["eks_managed_node_group_defaults"]["metadata_options"]
    assert metadata["http_put_response_hop_limit"] == 1


@needs_aws
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_log_and_the_features_are_never_dropped(given, deployment):
    found = given[deployment]
    assert found["kafka"]["configuration_server_properties"]["log.retention.ms"] == "-1"
    assert found["redis"]["parameters"] == [{"name": "maxmemory-policy", "value": "noeviction"}]
    expiring = [
        r["filter"]["prefix"] for r in found["storage"]["lifecycle_rule"] if "expiration" in r
    ]
    assert expiring == ["flink/savepoints/"]
    # A filter of nothing is left out by the module, and a rule without one is refused.
    assert all("prefix" in rule["filter"] for rule in found["storage"]["lifecycle_rule"])


@needs_aws
def test_staging_is_small_and_may_go(given):
    found = given["staging"]
    assert found["network"]["single_nat_gateway"]
    assert len(found["network"]["azs"]) == 2
    assert found["redis"]["num_cache_clusters"] == 1
    for name in ("multi_az", "deletion_protection"):
        assert found["postgres"][name] is False
    assert found["storage"]["force_destroy"]


@needs_aws
def test_who_plans_may_read_and_who_deploys_may_write_in_the_namespace_alone(given, arguments):
    assert given["production"]["cluster"]["access_entries"] == {}
    options = ("-var-file=staging.tfvars", "-var=namespace=models")
    access = '-var=access={"arn:p" = "plan", "arn:d" = "deploy"}'
    state = states_of(arguments, *options, access)["applied"]
    found = state["outputs"]["given"]["value"]["cluster"]["access_entries"]
    assert {entry["principal_arn"] for entry in found.values()} == {"arn:p", "arn:d"}
    for role, policy in (("arn:p", "AmazonEKSAdminViewPolicy"), ("arn:d", "AmazonEKSClusterAdmin")):
        (association,) = found[role]["policy_associations"].values()
        assert f"/{policy}" in association["policy_arn"]
        assert association["access_scope"] == {"type": "namespace", "namespaces": ["models"]}
    wrong = terraform(arguments, "test", "-no-color", *options, '-var=access={"arn:p" = "admin"}')
    assert "`deploy` or `plan` for each role" in wrong.stdout + wrong.stderr


@needs_aws
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_nodes_run_what_the_images_are_built_for(given, deployment):
    for name in ("ci", "release"):
        workflow = (ROOT / f".github/workflows/{name}.yml").read_text("utf-8")
        assert re.findall(r"^ +platforms: (.*)$", workflow, re.MULTILINE) == ["linux/amd64"]
    assert "openjdk-amd64 " in (ROOT / "images/flink/Dockerfile").read_text("utf-8")
    cluster = given[deployment]["cluster"]
    defaults = cluster["eks_managed_node_group_defaults"]
    for group in cluster["eks_managed_node_groups"].values():
        assert (defaults | group)["ami_type"] == "AL2023_x86_64_STANDARD"


@needs_aws
@pytest.mark.parametrize("type_", ["m7g.large", "im4gn.large"])
def test_a_node_that_runs_none_of_the_images_is_refused(arguments, type_):
    nodes = f'-var=nodes={{ jobs = {{ types = ["m7i.large", "{type_}"], min = 1, max = 1 }} }}'
    run = terraform(arguments, "test", "-no-color", "-var-file=staging.tfvars", nodes)
    assert run.returncode == 1
    assert "no machines of ARM" in run.stdout + run.stderr


@needs_aws
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_one_broker_may_be_away(given, deployment):
    """Of as many as there are copies; the others take writes, and transactions."""
    kafka = given[deployment]["kafka"]
    said = kafka["configuration_server_properties"]
    for name in ("default", "offsets.topic", "transaction.state.log"):
        assert int(said[f"{name}.replication.factor"]) == kafka["number_of_broker_nodes"]
    for name in ("min.insync.replicas", "transaction.state.log.min.isr"):
        assert int(said[name]) == kafka["number_of_broker_nodes"] - 1


@needs_aws
def test_kafka_is_told_of_its_user_when_the_secret_has_been_written(given, arguments):
    assert given["staging"]["kafka"]["create_scram_secret_association"] is False
    options = ("-var-file=staging.tfvars", "-var=kafka_secret_written=true")
    state = states_of(arguments, *options)["applied"]
    kafka = state["outputs"]["given"]["value"]["kafka"]
    assert kafka["create_scram_secret_association"] is True
    assert len(kafka["scram_secret_association_secret_arn_list"]) == 1


@needs_aws
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_databases_password_does_not_change_every_week(given, deployment):
    found = given[deployment]["postgres"]
    assert found["manage_master_user_password_rotation"]
    assert found["master_user_password_rotation_automatically_after_days"] == 365
    assert found["master_user_password_rotate_immediately"] is False


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """terraform/aws with the modules themselves."""
    given = None if MODULES == "registry" else Path(MODULES)
    return initialised(lay(tmp_path_factory.mktemp("terraform") / "aws", given))


@needs_aws
@needs_modules
def test_the_provider_accepts_what_the_modules_make(real):
    run = terraform(real, "validate", "-no-color")
    assert run.returncode == 0, run.stdout + run.stderr
    found = states_of(real)
    made = resources(found["production"]["root_module"])
    assert made["aws_msk_cluster"][0]["encryption_info"][0]["encryption_in_transit"] == [
        {"client_broker": "TLS", "in_cluster": True}
    ]
    assert "log.retention.ms = -1" in made["aws_msk_configuration"][0]["server_properties"]
    assert made["aws_s3_bucket_public_access_block"][0]["restrict_public_buckets"]
    assert made["aws_eks_cluster"][0]["vpc_config"][0]["endpoint_public_access"] is False
    for rule in made["aws_s3_bucket_lifecycle_configuration"][0]["rule"]:
        assert not rule["expiration"] or rule["filter"][0]["prefix"] == "flink/savepoints/"
    for template in made["aws_launch_template"]:
        assert template["metadata_options"][0]["http_put_response_hop_limit"] == 1
    assert len(made["aws_nat_gateway"]) == 3
    assert len(resources(found["a_small_one_is_small"]["root_module"])["aws_nat_gateway"]) == 1


@needs_aws
@needs_modules
def test_the_stand_ins_declare_what_the_modules_do(real):
    listed = yaml.safe_load((real / ".terraform/modules/modules.json").read_text("utf-8"))
    folders = {module["Key"]: real / module["Dir"] for module in listed["Modules"]}
    for call in calls():
        text = (folders[call.name] / "variables.tf").read_text("utf-8")
        declared = {
            name: (
                re.search(r"^  type\s*=\s*([^#\n]+)", body, re.M)[1].strip(),
                "\n  default" in body,
            )
            for name, body in re.findall(r'variable "(\w+)" \{(.*?)^\}', text, re.S | re.M)
        }
        known = TABLE[call.source]
        for name, type_ in known["variables"].items():
            assert declared[name][0] == type_, f"{call.source}: {name}"
        assert {n for n, (_, optional) in declared.items() if not optional} == set(
            known["required"]
        )
        outputs = (folders[call.name] / "outputs.tf").read_text("utf-8")
        assert known["outputs"].keys() <= set(re.findall(r'output "(\w+)"', outputs))


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_each_deployment_sets_what_there_is(deployment):
    declared = set(re.findall(r'variable "(\w+)"', (AWS / "variables.tf").read_text()))
    text = (AWS / f"{deployment}.tfvars").read_text()
    assert set(re.findall(r"^(\w+)\s*=", text, re.MULTILINE)) <= declared


def test_every_variable_and_output_says_what_it_is():
    for file in TERRAFORM.glob("*/*.tf"):
        for block in re.findall(
            r'^(?:variable|output) "\w+" \{(.*?)^\}', file.read_text(), re.DOTALL | re.MULTILINE
        ):
            assert "description" in block, file


@pytest.mark.parametrize(("root", "profile"), [("eks", "prod"), ("local", "dev")])
def test_each_root_gives_the_platform_what_it_takes(root, profile):
    text = (TERRAFORM / root / "main.tf").read_text("utf-8")
    (call,) = re.findall(r'^module "platform" \{(.*?)^\}', text, re.DOTALL | re.MULTILINE)
    declared = (PLATFORM / "variables.tf").read_text("utf-8")
    given = set(re.findall(r"^  (\w+) +=", call, re.MULTILINE)) - {"source"}
    assert "values" in given <= set(re.findall(r'variable "(\w+)"', declared))
    plan = 'plan = "${path.module}/../../feature_repo/${var.repository}/plan/helm"'
    assert plan in text
    # The plan first, then the profile: the last one wins.
    files = re.findall(r'file\("\$\{(?:local.plan|path.module)\}/([\w./-]+)"\)', call)
    names = [f"{name}.yaml" for name in PLAN]
    assert files == [*names, f"../../helm/headwater/values-{profile}.yaml"]
    assert all((ROOT / "feature_repo/flights/plan/helm" / name).exists() for name in names)


CLUSTER = """
mock_provider "aws" {
  mock_data "aws_eks_cluster" {
    defaults = { endpoint = "https://eks.example.com", certificate_authority = [{ data = "" }] }
  }
  mock_data "aws_iam_role" {
    defaults = {
      arn                = "arn:aws:iam::123456789012:role/headwater"
      assume_role_policy = "system:serviceaccount:features:x system:serviceaccount:models:x"
    }
  }
}
variables {
  region  = "eu-west-1"
  cluster = "headwater-production"
  site    = "site.yaml"
}
run "applied" {}
"""


@pytest.fixture(scope="module")
def eks(tmp_path_factory):
    """terraform/eks, with data in the place of what is installed."""
    folder = kept(tmp_path_factory.mktemp("terraform"))
    (folder / "site.yaml").write_text("api: {allowedNamespaces: [models]}\n", "utf-8")
    (folder / "eks.tftest.hcl").write_text(CLUSTER, "utf-8")
    return initialised(folder)


def installs(folder: Path, *options: str) -> dict[str, dict]:
    """What an apply installs, by name; a namespace by its own. Values are put together."""
    found = {}
    for resource in resources(states_of(folder, *options)["applied"]["root_module"])[
        "terraform_data"
    ]:
        given = resource["input"]
        name = given["metadata"][0]["name"] if "metadata" in given else given["name"]
        found[name] = given | {"values": [yaml.safe_load(v) for v in given.get("values", ())]}
    return found


def roles(cluster: str) -> set[str]:
    """Those of terraform/aws that terraform/eks looks for, by their names."""
    text = "".join(file.read_text("utf-8") for file in EKS.glob("*.tf"))
    looked_for = re.findall(
        r'^data "aws_iam_role" "\w+" \{(.*?)^\}', text, re.DOTALL | re.MULTILINE
    )
    return {
        re.search(r'name\s+= "(.*)"', body)[1].replace("${var.cluster}", cluster)
        for body in looked_for
    }


@needs_aws
def test_the_namespace_and_the_operators_come_before_the_chart(eks):
    without = installs(eks)
    operators = {"features", "flink-kubernetes-operator", "strimzi", "prometheus"}
    assert without.keys() == operators | {"cluster-autoscaler", "gp3"}
    assert installs(eks, "-var=install=true").keys() == without.keys() | {RELEASE}
    # By hand it is the same namespace.
    (label,) = re.findall(
        r"^kubectl label namespace features (\S+)=(\S+)$",
        (ROOT / "docs/runbooks/install.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert without["features"]["metadata"] == [{"name": "features", "labels": dict([label])}]
    for name in ("flink-kubernetes-operator", "strimzi"):
        assert without[name]["values"][0]["watchNamespaces"] == ["features"]


@needs_aws
def test_another_namespace_is_everybodys(eks):
    found = installs(eks, "-var=install=true", "-var=namespace=models")
    assert "features" not in found
    assert found["models"]["metadata"][0]["name"] == found[RELEASE]["namespace"] == "models"
    for name in ("flink-kubernetes-operator", "strimzi"):
        assert found[name]["values"][0]["watchNamespaces"] == ["models"]


@needs_aws
def test_a_namespace_that_the_roles_are_not_for_is_refused(eks, given):
    run = terraform(eks, "test", "-no-color", "-var=namespace=model")
    assert run.returncode == 1
    assert "namespace: the roles that aws/ has made are for" in run.stdout + run.stderr
    role = given["production"]["platform_role"]
    assert role["role_name"] in roles("headwater-production")
    accounts = role["oidc_providers"]["cluster"]["namespace_service_accounts"]
    assert {account.partition(":")[0] for account in accounts} == {"features"}


@needs_aws
def test_what_alerts_and_budgets_are_made_of_outlives_its_pods(eks):
    found = installs(eks)
    values = found["prometheus"]["values"][0]
    watching = values["prometheus"]["prometheusSpec"]
    days = max(map(int, re.findall(r"budget of (\d+) days", RULES.read_text("utf-8"))))
    assert int(watching["retention"].removesuffix("d")) > days
    disks = [watching["storageSpec"], values["alertmanager"]["alertmanagerSpec"]["storage"]]
    for disk in disks:
        assert disk["volumeClaimTemplate"]["spec"]["storageClassName"] == "gp3"
    assert found["gp3"]["parameters"]["encrypted"] == "true"


@needs_aws
def test_what_is_installed_waits_for_what_it_needs(eks):
    run = terraform(eks, "graph")
    arrows = set(re.findall(r'"(?:\S*\.)?(\w+)" -> "(?:\S*\.)?(\w+)"', run.stdout))
    for operator in ("flink_operator", "strimzi"):
        assert (operator, "this") in arrows
        assert ("headwater", operator) in arrows


@needs_aws
def test_nodes_follow_the_pods_by_an_autoscaler_of_the_clusters_version(eks, given):
    values = installs(eks)["cluster-autoscaler"]["values"][0]
    version = given["production"]["cluster"]["cluster_version"]
    assert values["image"]["tag"].startswith(f"v{version}.")
    # EKS calls a group's machines eks-GROUP-…
    groups = [f"eks-{name}-1" for name in given["production"]["cluster"]["eks_managed_node_groups"]]
    ranks = values["expanderPriorities"].items()
    first = max(ranks, key=lambda rank: int(rank[0]))[1]
    assert [g for g in groups if any(re.search(one, g) for one in first)] == ["eks-serving-1"]
    assert all(any(re.search(one, g) for _, every in ranks for one in every) for g in groups)
    account = values["rbac"]["serviceAccount"]
    assert account["annotations"].keys() == {"eks.amazonaws.com/role-arn"}
    role = given["production"]["autoscaler_role"]
    assert role["role_name"] in roles("headwater-production")
    assert role["cluster_autoscaler_cluster_names"] == ["headwater"]
    assert role["oidc_providers"]["cluster"]["namespace_service_accounts"] == [
        f"kube-system:{account['name']}"
    ]


@needs_aws
def test_no_trace_is_paid_for_unless_it_is_asked_for(eks):
    found = installs(eks, "-var=install=true")
    assert "otel-collector" not in found
    assert found[RELEASE]["values"][-2] == {"api": {"otlpEndpoint": ""}}


@needs_aws
def test_a_collector_gets_the_traces_of_the_chart(eks, given, tmp_path):
    found = installs(eks, "-var=install=true", "-var=traces=true")
    collector = found["otel-collector"]
    values = collector["values"][0]
    config = values["alternateConfig"]
    pipeline = config["service"]["pipelines"]["traces"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == config[kind].keys()
    assert set(config["service"]["extensions"]) == config["extensions"].keys()
    role = given["production"]["traces_role"]
    assert role["role_name"] in roles("headwater-production")
    assert role["oidc_providers"]["cluster"]["namespace_service_accounts"] == [
        f"{collector['namespace']}:{values['serviceAccount']['name']}"
    ]
    # The chart is told where it is, and its policy lets traces out to there.
    address = f"http://{values['fullnameOverride']}.{collector['namespace']}:4318"
    port = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert port == "4318"
    told = {"api": {"otlpEndpoint": address}}
    assert found[RELEASE]["values"][-2] == told
    (tmp_path / "traces.yaml").write_text(yaml.safe_dump(told))
    objects = render("prod", "-f", str(tmp_path / "traces.yaml"))
    (policy,) = (
        thing
        for thing in objects
        if thing["kind"] == "NetworkPolicy" and thing["metadata"]["name"] == f"{RELEASE}-egress"
    )
    (rule,) = (
        rule
        for rule in policy["spec"]["egress"]
        if any(one["port"] == 4318 for one in rule.get("ports", ()))
    )
    assert rule["to"] == [
        {
            "namespaceSelector": {
                "matchLabels": {"kubernetes.io/metadata.name": collector["namespace"]}
            }
        }
    ]


@needs_aws
def test_the_sites_own_values_are_the_last(eks):
    values = installs(eks, "-var=install=true", "-var=traces=true")[RELEASE]["values"]
    assert values[-1] == {"api": {"allowedNamespaces": ["models"]}}


def test_no_secret_is_written():
    for file in TERRAFORM.rglob("*.tf*"):
        assert not re.search(r'(password|secret_string|token)\s*=\s*"', file.read_text()), file


def test_the_roles_are_those_of_the_charts_accounts():
    named = re.search(r"accounts = \[(.*)\]", (AWS / "identity.tf").read_text())[1]
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
    output = (AWS / "outputs.tf").read_text().partition("yamlencode({")[2]
    output = output.partition("\noutput ")[0]
    assert set(re.findall(r"^    (\w+)\s*=", output, re.MULTILINE)) == site.keys()
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    found = render("prod", "-f", str(tmp_path / "site.yaml"))
    assert sum(thing["kind"] == "FlinkDeployment" for thing in found) == len(jobs(repository))


def test_topics_fit_the_cluster():
    """MSK makes as many replicas as there are zones: `headwater apply` leaves it to the cluster."""
    properties = (AWS / "kafka.tf").read_text()
    assert re.search(r'"default.replication.factor" = tostring\(var.zones\)', properties)
    assert topics(repository)
