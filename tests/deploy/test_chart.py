"""The chart renders what the declarations say, clusters accept it, and it is locked down."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import click
import pytest
import yaml
from click.testing import CliRunner

from api.server import ServerSettings
from connectors.debezium import Database, connector_document, connector_name
from connectors.topics import topics
from feature_repo.flights.repository import repository
from flink_jobs.place import Place, digest
from flink_jobs.sql import job_sql, jobs
from headwater import smoke
from headwater.apply import KINDS
from headwater.cli import COMMANDS, headwater
from headwater.deployment import chart_values
from headwater.monitoring import Receivers, alertmanager_file
from headwater.settings import Settings
from observability.dashboards import dashboards
from observability.rules import rule_groups
from schemas import (
    CdcTable,
    Column,
    Entity,
    EventStream,
    FeatureService,
    FeatureView,
    Repository,
    Type,
    count,
    days,
    hours,
    latest,
    minutes,
    over,
    seconds,
)
from tests.deploy.commands import understood
from tools.chart import (
    CHART,
    CHECKS,
    NAMESPACE,
    PROFILES,
    RELEASE,
    ROOT,
    TOOLS,
    applies,
    check,
    helm,
    kubeconform,
    plan_files,
    pod,
    render,
)

JOBS = [job.name for job in jobs(repository)]
RUNBOOKS = "https://git.example.com/headwater/blob/main"


@pytest.fixture(scope="module")
def objects():
    return {profile: render(profile) for profile in PROFILES}


def of(found, kind):
    return {thing["metadata"]["name"]: thing for thing in found if thing["kind"] == kind}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_object_passes_every_check(objects, profile):
    assert [str(finding) for finding in check(objects[profile])] == []


@pytest.mark.parametrize("profile", PROFILES)
def test_helm_finds_nothing_to_complain_of(profile):
    values = ["-f", str(CHART / f"values-{profile}.yaml")]
    said = helm("lint", "--strict", "--quiet", str(CHART), *plan_files(), *values)
    assert "ERROR" not in said
    assert "WARNING" not in said


@pytest.mark.parametrize("profile", PROFILES)
def test_each_job_is_an_application_of_its_own(objects, profile):
    deployed = of(objects[profile], "FlinkDeployment")
    assert list(deployed) == sorted(JOBS)
    for job in jobs(repository):
        spec = deployed[job.name]["spec"]
        arguments = spec["job"]["args"]
        assert arguments[-4:] == ["--run", job.name, "--sql", digest(job_sql(job))]
        assert spec["job"]["upgradeMode"] == "savepoint"
        assert spec["job"]["allowNonRestoredState"] is False
        configuration = spec["flinkConfiguration"]
        assert configuration["high-availability.type"] == "kubernetes"
        assert configuration["execution.checkpointing.interval"] == "5 s"
        assert configuration["web.cancel.enable"] == "false"


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("restricted", "securityContext", {}),
        ("limits", "resources", {}),
        ("version", "image", "a/b:latest"),
        ("no secret", "env", [{"name": "REDIS_PASSWORD", "value": "hunter2"}]),
    ],
)
def test_what_runs_before_a_job_manager_is_checked_too(name, field, value):
    found = render("prod", "--set", "jobs.flights-archive.upgradeMode=stateless")
    broken = of(found, "FlinkDeployment")["flights-archive"]
    broken["spec"]["jobManager"]["podTemplate"]["spec"]["initContainers"][0][field] = value
    assert {finding.check for finding in check([broken])} == {name}


@pytest.mark.parametrize(
    ("kind", "path", "problems"),
    [
        ("KafkaNodePool", ("template", "pod", "securityContext"), 2),
        ("KafkaNodePool", ("template", "kafkaContainer"), 3),
        ("KafkaNodePool", ("resources",), 2),
        ("Kafka", ("entityOperator", "template", "pod"), 2),
        ("Kafka", ("entityOperator", "template", "topicOperatorContainer", "securityContext"), 3),
        ("Kafka", ("entityOperator", "template", "userOperatorContainer"), 3),
        ("Kafka", ("entityOperator", "template"), 8),
        ("Kafka", ("entityOperator", "userOperator", "resources"), 2),
        ("KafkaConnect", ("template", "pod"), 2),
        ("KafkaConnect", ("template", "connectContainer", "securityContext"), 3),
        ("KafkaConnect", ("resources", "limits"), 1),
    ],
)
def test_what_strimzi_makes_is_checked_too(objects, kind, path, problems):
    broken = copy.deepcopy(next(t for t in objects["dev"] if t["kind"] == kind))
    place = broken["spec"]
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    name = "limits" if "resources" in path else "restricted"
    assert applies(name, broken)
    found = [finding for finding in check([broken]) if finding.check != "schema"]
    # What says nothing of the pod leaves it the variables of services too.
    links = {"no links"} & {finding.check for finding in found if path[-1] in ("pod", "template")}
    assert {finding.check for finding in found} == {name} | links
    assert len([finding for finding in found if finding.check == name]) == problems


def test_a_pod_of_strimzis_that_nobody_speaks_of_is_seen(objects):
    more = copy.deepcopy(next(t for t in objects["dev"] if t["kind"] == "Kafka"))
    more["spec"]["kafkaExporter"] = {"topicRegex": ".*"}
    assert "restricted" in {finding.check for finding in check([more])}


def test_no_stream_of_the_flights_beats(objects):
    assert not any(name.endswith("heartbeat") for name in of(objects["prod"], "Deployment"))


def test_the_exporter_is_read_by_prometheus_and_reads_tables_alone(objects):
    deployed = of(objects["prod"], "Deployment")[f"{RELEASE}-exporter"]
    (container,) = pod(deployed)["containers"]
    (port,) = container["ports"]
    environ = {one["name"]: one.get("value", "") for one in container["env"]}
    assert environ["HEADWATER_EXPORTER_PORT"] == str(port["containerPort"])
    assert not [name for name in environ if "KAFKA" in name or "REDIS" in name]
    assert {volume["name"] for volume in pod(deployed)["volumes"]} == {"tmp", "postgres"}
    command, *arguments = container["args"]
    known = headwater.get_command(click.Context(headwater), command)
    assert known.make_context(command, arguments).params["host"] == "0.0.0.0"
    monitor = of(objects["prod"], "PodMonitor")[f"{RELEASE}-exporter"]["spec"]
    labels = deployed["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["podMetricsEndpoints"][0]["port"] == port["name"]
    # Without the Prometheus operator nobody would read it.
    assert f"{RELEASE}-exporter" not in of(objects["dev"], "Deployment")


@pytest.mark.parametrize("profile", PROFILES)
def test_the_archives_job_may_begin_where_its_tables_end(profile):
    found = render(profile, "--set", "jobs.flights-archive.upgradeMode=stateless")
    assert [str(finding) for finding in check(found)] == []
    deployed = of(found, "FlinkDeployment")
    spec = deployed["flights-archive"]["spec"]
    assert spec["job"]["upgradeMode"] == "stateless"
    assert spec["job"]["args"][-2:] == ["--ends", "/ends/ends.json"]
    template = spec["jobManager"]["podTemplate"]["spec"]
    # Flink's operator merges lists by place: only what the common template has not stands here.
    assert template.keys() == {"initContainers"}
    asked = template["initContainers"][-1]
    group, command, *arguments = asked["args"]
    assert group in COMMANDS
    context = click.Context(headwater)
    known = headwater.get_command(context, group).get_command(context, command)
    known.make_context(command, arguments)
    mounted = {m["name"]: m["mountPath"] for m in asked["volumeMounts"]}
    common = spec["podTemplate"]["spec"]
    assert mounted.keys() <= {volume["name"] for volume in common["volumes"]}
    assert {"name": "ends", "mountPath": "/ends", "readOnly": True} in common["containers"][0][
        "volumeMounts"
    ]
    other = deployed["flights-weather"]["spec"]["jobManager"].get("podTemplate", {})
    assert "ends" not in str(other)
    assert "--ends" not in deployed["flights-weather"]["spec"]["job"]["args"]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_job_waits_for_tables_that_are_made_after_it(objects, profile):
    """A job whose tables are not there fails for good: the operator does not start it again."""
    when = of(objects[profile], "Job")[f"{RELEASE}-apply"]["metadata"]["annotations"]
    after = "post-install" in when["helm.sh/hook"]
    assert after is (profile == "dev")
    for job in of(objects[profile], "FlinkDeployment").values():
        before = pod(job)["initContainers"]
        assert [one["args"] for one in before] == ([["tables", "wait"]] if after else [])
    understood(["tables", "wait"])


def test_production_scales_by_itself_and_keeps_its_state_in_s3(objects):
    for thing in of(objects["prod"], "FlinkDeployment").values():
        configuration = thing["spec"]["flinkConfiguration"]
        assert configuration["job.autoscaler.enabled"] == "true"
        assert configuration["jobmanager.scheduler"] == "adaptive"
        assert configuration["state.backend.type"] == "rocksdb"
        for key in (
            "execution.checkpointing.dir",
            "execution.checkpointing.savepoint-dir",
            "high-availability.storageDir",
        ):
            assert configuration[key].startswith("s3://headwater-features/flink/")


@pytest.mark.parametrize("class_", ["", "gp3"])
def test_the_state_of_a_task_manager_has_a_volume_of_its_own(class_):
    disk = "flink.taskManager.disk"
    found = render("prod", "--set", f"{disk}.size=50Gi", "--set", f"{disk}.storageClass={class_}")
    assert [str(finding) for finding in check(found)] == []
    for thing in of(found, "FlinkDeployment").values():
        folder = thing["spec"]["flinkConfiguration"]["io.tmp.dirs"]
        (main,) = pod(thing)["containers"]
        (mount,) = (one for one in main["volumeMounts"] if one["mountPath"] == folder)
        assert not mount.get("readOnly")
        (volume,) = (one for one in pod(thing)["volumes"] if one["name"] == mount["name"])
        if class_:
            claim = volume["ephemeral"]["volumeClaimTemplate"]["spec"]
            assert claim["storageClassName"] == class_
            assert claim["resources"]["requests"]["storage"] == "50Gi"
        else:
            assert volume["emptyDir"] == {"sizeLimit": "50Gi"}


def test_the_last_word_on_flink_is_the_users():
    found = render("prod", "--set", r"flink.extraConfiguration.pipeline\.object-reuse=false")
    for thing in of(found, "FlinkDeployment").values():
        assert thing["spec"]["flinkConfiguration"]["pipeline.object-reuse"] == "false"


def test_topics_are_the_declared_ones(objects):
    found = of(objects["dev"], "KafkaTopic").values()
    wanted = {name: topic.partitions for name, topic in topics(repository).items()}
    assert {t["spec"]["topicName"]: t["spec"]["partitions"] for t in found} == wanted
    assert {t["spec"]["config"]["retention.ms"] for t in found} == {-1}
    # An uninstall that took the log along would take every feature's history along.
    assert {t["metadata"]["annotations"]["helm.sh/resource-policy"] for t in found} == {"keep"}


@pytest.mark.parametrize("by", ["nobody", "hook", "hand"])
def test_the_connector_is_the_derived_one_with_the_deployments_database(by):
    """Of a database that somebody has made ready, it is the one of a single machine."""
    found = render("prod", "--set", f"source.preparedBy={by}")
    config = of(found, "KafkaConnector")[connector_name(repository)]["spec"]["config"]
    wanted = connector_document(
        repository,
        Database("source.example.com", 5432, "flights", "headwater", "${env:SOURCE_PASSWORD}"),
        prepared=by != "nobody",
    )
    wanted["topic.creation.default.replication.factor"] = "-1"
    del wanted["connector.class"]
    assert config == wanted


@pytest.mark.parametrize("by", ["nobody", "hook", "hand"])
def test_who_makes_the_captured_database_ready_can_reach_it(by, secrets):
    found = render("prod", "--set", f"source.preparedBy={by}", "--set", "source.user=owner")
    assert [str(finding) for finding in check(found)] == []
    hook = of(found, "Job")[f"{RELEASE}-apply"]
    assert ("source" in pod(hook)["containers"][0]["args"]) is (by == "hook")
    people = of(found, "Deployment")[f"{RELEASE}-command"]
    for thing in (hook, people):
        seen = environment(thing, secrets)
        if by == "nobody":
            assert "HEADWATER_SOURCE" not in seen
            continue
        url = Settings.read(seen).source_url("flights")
        assert url == "postgresql://owner:s3cret@source.example.com:5432/flights"
        mounts = {m["name"]: m["mountPath"] for m in pod(thing)["containers"][0]["volumeMounts"]}
        assert mounts["source"] == "/secrets/source"
        volumes = {volume["name"]: volume for volume in pod(thing)["volumes"]}
        assert volumes["source"]["secret"]["secretName"] == "headwater-source"
    # What runs every night has no business there.
    for job in of(found, "CronJob").values():
        assert "source" not in {volume["name"] for volume in pod(job)["volumes"]}


def test_rules_and_dashboards_are_the_derived_ones(objects):
    derived = rule_groups(repository, JOBS, f'namespace="{NAMESPACE}"')
    for group in derived:
        for rule in group["rules"]:
            rule["labels"] = {**rule.get("labels", {}), "namespace": NAMESPACE}
            rule["expr"] = rule["expr"].replace("up{", f'up{{service="{RELEASE}-api", ')
            if "alert" in rule:
                path = rule["annotations"]["runbook_url"]
                rule["annotations"]["runbook_url"] = f"{RUNBOOKS}/{path}"
    rules = of(objects["prod"], "PrometheusRule")[RELEASE]["spec"]["groups"]
    assert rules == derived
    maps = of(objects["prod"], "ConfigMap").values()
    found = {
        name.removesuffix(".json"): json.loads(text)
        for thing in maps
        for name, text in thing["data"].items()
    }
    assert found == dashboards(repository, JOBS)


def test_without_a_plan_it_says_where_the_plan_comes_from():
    with pytest.raises(RuntimeError, match="comes from the plan"):
        render("prod", plan=())


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("images.tag=latest", "images/tag"),
        ("kafka.security=NONE", "PLAINTEXT"),
        ("iceberg.warehouse=/tmp/here", "iceberg/warehouse"),
        ("flink.upgradeMode=stateless", "upgradeMode"),
        ("jobs.flights-weather.upgradeMode=stateless", "for the archive's job alone"),
        ("flnk.parallelism=2", "flnk"),
        ("api.autoscaling.cpu=200", "cpu"),
        ("redis.url=redis://:password@redis:6379", "redis/url"),
        ("redis.user=a:b", "redis/user"),
        ("secrets.redis=", "redis.user: comes with the password"),
        ("redis.create=true", "redis.user: comes with the password"),
        ("jobs.flights-weather.sql=abc", "sql"),
        ("source.preparedBy=somebody", "preparedBy"),
        ("images.digests.flink=0.1.0", "digests/flink"),
        ("api.oidc.issuer=http://id.example.com", "issuer"),
        ("monitoring.runbooks=docs/runbooks", "runbooks"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(option, said):
    with pytest.raises(RuntimeError, match=said):
        render("prod", "--set", option)


@pytest.mark.parametrize("missing", ["redis.url=", "postgres.address=", "source.host="])
def test_a_missing_address_is_asked_for(missing):
    with pytest.raises(RuntimeError, match=missing.split("=")[0]):
        render("prod", "--set", missing)


def test_a_declared_outage_reaches_the_jobs_and_the_brokers():
    found = render("dev", "--set", "kafka.outageSeconds=2000000")
    (kafka,) = of(found, "Kafka").values()
    assert kafka["spec"]["kafka"]["config"]["transaction.max.timeout.ms"] == 2_000_000_000
    said = {"name": "HEADWATER_OUTAGE_SECONDS", "value": "2000000"}
    for job in of(found, "FlinkDeployment").values():
        (main,) = (
            one
            for one in job["spec"]["podTemplate"]["spec"]["containers"]
            if one["name"] == "flink-main-container"
        )
        assert said in main["env"]
    with pytest.raises(RuntimeError, match="outageSeconds"):
        render("dev", "--set", "kafka.outageSeconds=3000000")


def test_migrations_run_before_the_jobs_change(objects):
    for profile, when, kinds in (
        ("prod", "pre-install,pre-upgrade", ["topics", "tables", "registry", "serving", "source"]),
        # The database comes with the release, and Strimzi makes the topics.
        ("dev", "post-install,pre-upgrade", ["tables", "registry", "serving", "source"]),
    ):
        job = of(objects[profile], "Job")[f"{RELEASE}-apply"]
        assert job["metadata"]["annotations"]["helm.sh/hook"] == when
        spec = pod(job)
        assert spec["initContainers"][0]["args"][:2] == ["plan", "--check"]
        assert spec["containers"][0]["args"] == ["apply", *kinds]
        assert set(kinds) <= set(KINDS)


def test_an_image_of_another_version_than_the_values_stops_no_job():
    """The hook sees it: by itself the image agrees with the plan that is in it."""
    wanted = digest(job_sql(next(job for job in jobs(repository) if job.name == "flights-weather")))
    script = f"jobs.flights-weather.sql={'0' * 64}"
    for options, code in (((), 0), (("--set", script), 1)):
        hook = of(render("prod", *options), "Job")[f"{RELEASE}-apply"]
        (asked,) = pod(hook)["initContainers"]
        done = CliRunner().invoke(headwater, [*asked["args"], "--root", str(ROOT)])
        assert done.exit_code == code, done.output
    assert f"flights-weather: the script is {wanted} here" in done.output
    assert "flights-departures:" not in done.output
    # A job that is not here, and one that is not there.
    given = [f"--sql={name}=0" for name in ("another", *JOBS) if name != "flights-weather"]
    done = CliRunner().invoke(headwater, ["plan", "--check", *given])
    assert "another: the script is not there here, 0 is expected" in done.output
    assert f"flights-weather: the script is {wanted} here, none is expected" in done.output


def test_a_job_rests_by_its_value():
    found = render("prod", "--set", "jobs.flights-departures.state=suspended")
    states = {
        name: thing["spec"]["job"]["state"] for name, thing in of(found, "FlinkDeployment").items()
    }
    assert states.pop("flights-departures") == "suspended"
    assert set(states.values()) == {"running"}


class Cluster(BaseHTTPRequestHandler):
    """The API of a cluster that has the toolbox alone, scaled to 1 by somebody."""

    FOUND: ClassVar = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
        "/apis": {
            "kind": "APIGroupList",
            "groups": [
                {"name": "apps", "versions": [{"groupVersion": "apps/v1", "version": "v1"}]}
            ],
        },
        "/apis/apps/v1": {
            "kind": "APIResourceList",
            "groupVersion": "apps/v1",
            "resources": [{"name": "deployments", "namespaced": True, "kind": "Deployment"}],
        },
        f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{RELEASE}-command": {
            "kind": "Deployment",
            "apiVersion": "apps/v1",
            "spec": {"replicas": 1},
        },
    }

    def do_GET(self):
        found = self.FOUND.get(self.path.partition("?")[0])
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(found or {"kind": "Status", "code": 404}).encode())

    def log_message(self, *_):
        pass


def test_an_upgrade_leaves_the_toolbox_awake_or_asleep(objects, tmp_path):
    """A number of another owner would be a conflict, and none is 1."""
    assert of(objects["prod"], "Deployment")[f"{RELEASE}-command"]["spec"]["replicas"] == 0
    shutil.copytree(CHART, tmp_path / "chart", ignore=shutil.ignore_patterns("templates"))
    (tmp_path / "chart/templates").mkdir()
    for name in ("_helpers.tpl", "command.yaml"):
        shutil.copy(CHART / "templates" / name, tmp_path / "chart/templates")
    with ThreadingHTTPServer(("127.0.0.1", 0), Cluster) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        said = helm(
            *("template", RELEASE, str(tmp_path / "chart"), "--namespace", NAMESPACE),
            *("--dry-run=server", "--is-upgrade", "--disable-openapi-validation"),
            *("--kube-apiserver", f"http://127.0.0.1:{server.server_port}"),
            *(*plan_files(), "-f", str(CHART / "values-prod.yaml")),
        )
        server.shutdown()
    assert yaml.safe_load(said)["spec"]["replicas"] == 1


def test_a_scheduled_run_is_a_command_that_there_is(tmp_path):
    values = tmp_path / "cron.yaml"
    values.write_text(
        yaml.safe_dump(
            {"cronJobs": {"check": {"schedule": "0 3 * * *", "args": ["plan", "--check"]}}}
        )
    )
    found = render("prod", "-f", str(values))
    job = of(found, "CronJob")[f"{RELEASE}-check"]
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert pod(job)["containers"][0]["args"][0] in COMMANDS
    assert [str(finding) for finding in check(found)] == []


def environment(thing, secrets):
    """What the first container of an object sees, its secrets mounted under `secrets`."""
    found = {}
    for variable in pod(thing)["containers"][0]["env"]:
        value = variable.get("value", "s3cret")
        for name, given in found.items():
            value = value.replace(f"$({name})", given)
        found[variable["name"]] = value.replace("/secrets/", f"{secrets}/")
    return found


@pytest.fixture
def secrets(tmp_path):
    for name in ("kafka/password", "postgres/password", "source/password", "catalog/token"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("s3cret\n")
    return tmp_path


def test_the_jobs_understand_their_environment(objects, secrets):
    place = Place.read(
        environment(of(objects["prod"], "FlinkDeployment")["flights-weather"], secrets)
    )
    assert place.repository == "feature_repo.flights.repository:repository"
    assert place.kafka.bootstrap.startswith("b-1.kafka.example.com:9096,")
    assert place.kafka.properties()["security.protocol"] == "SASL_SSL"
    assert place.redis_url == "rediss://headwater:s3cret@redis.example.com:6379"
    assert (
        place.values("j")["catalog_uri"] == "jdbc:postgresql://postgres.example.com:5432/headwater"
    )
    sql = place.script(job_sql(jobs(repository)[0]))
    assert "'properties.sasl.mechanism' = 'SCRAM-SHA-512'" in sql
    assert "'io-impl' = 'org.apache.iceberg.aws.s3.S3FileIO'" in sql


def test_a_newline_at_a_secrets_end_is_no_part_of_it(objects, secrets, monkeypatch):
    environ = environment(of(objects["prod"], "FlinkDeployment")["flights-weather"], secrets)
    url = environ["HEADWATER_REDIS_URL"]
    place = Place.read(environ | {"HEADWATER_REDIS_URL": url.replace("s3cret", "s3cret\n")})
    assert place.redis_url == url
    keys = []
    monkeypatch.setenv("HEADWATER_API_KEY", "s3cret\n")
    monkeypatch.setattr(smoke, "check", lambda api, views, key: keys.append(key) or [])
    assert smoke.main(["http://api"]) == 0
    assert keys == ["s3cret"]
    # The image reads a file as a shell does, without it.
    store = of(objects["dev"], "StatefulSet")[f"{RELEASE}-postgres"]
    (container,) = pod(store)["containers"]
    told = {one["name"]: one.get("value", "") for one in container["env"]}
    assert told["POSTGRES_PASSWORD_FILE"] == "/secrets/postgres/password"
    (mount,) = (m for m in container["volumeMounts"] if m["mountPath"] == "/secrets/postgres")
    (volume,) = (v for v in pod(store)["volumes"] if v["name"] == mount["name"])
    assert volume["secret"] == {"secretName": "headwater-postgres", "defaultMode": 0o440}


def test_replicas_of_redis_are_waited_for_and_read_as_declared(secrets):
    found = render("prod", "--set", "redis.replicas=1", "--set", "redis.behindSeconds=15")
    sql = Place.read(
        environment(of(found, "FlinkDeployment")["flights-departures"], secrets)
    ).script(job_sql(next(j for j in jobs(repository) if j.name == "flights-departures")))
    assert sql.count("'connector' = 'feast-redis',\n  'replicas' = '1',") == sql.count(
        "feast-redis"
    )
    api = environment(of(found, "Deployment")[f"{RELEASE}-api"], secrets)
    assert ServerSettings.read(api).redis_behind == 15


def test_a_rest_catalog_takes_the_place_of_the_database(secrets):
    found = render(
        "prod",
        *("--set", "iceberg.catalog=rest", "--set", "iceberg.restUri=https://catalog.example.com"),
        *("--set", "iceberg.restTokenSecret=catalog"),
    )
    assert [str(finding) for finding in check(found)] == []
    seen = environment(of(found, "FlinkDeployment")["flights-weather"], secrets)
    sql = Place.read(seen).script(job_sql(jobs(repository)[0]))
    assert "JdbcCatalog" not in sql
    assert "'uri' = 'https://catalog.example.com'" in sql
    assert Settings.read(seen).catalog_url() == "https://catalog.example.com"


class Bucket(BaseHTTPRequestHandler):
    """An S3 that has whatever it is asked for."""

    asked: ClassVar[list[tuple[str, str]]] = []

    def do_HEAD(self):
        self.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_tables_may_be_in_an_s3_that_is_not_awss(secrets, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        found = render(
            "prod",
            *("--set", f"storage.endpoint={endpoint}", "--set", "storage.keysSecret=keys"),
        )
        environ = environment(of(found, "Job")[f"{RELEASE}-apply"], secrets)
        script = (
            "from pyiceberg.io import load_file_io; from iceberg.catalog import open_catalog\n"
            f"catalog = open_catalog('sqlite:///{tmp_path}/c', 's3://bucket/iceberg')\n"
            "io = load_file_io(catalog.properties, 's3://bucket/iceberg')\n"
            "assert io.new_input('s3://bucket/iceberg/one').exists()\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | environ, cwd=ROOT, capture_output=True
        )
        server.shutdown()
    assert run.returncode == 0, run.stderr.decode()
    ((path, by),) = Bucket.asked
    assert path == "/bucket/iceberg/one"
    assert "Credential=s3cret/" in by
    assert "/eu-west-1/s3/" in by
    assert [str(finding) for finding in check(found)] == []
    job = of(found, "FlinkDeployment")["flights-weather"]
    configuration = job["spec"]["flinkConfiguration"]
    assert configuration["s3.endpoint"] == endpoint
    assert configuration["s3.path.style.access"] == "true"
    provider = configuration["fs.s3a.aws.credentials.provider"]
    assert provider == "com.amazonaws.auth.EnvironmentVariableCredentialsProvider"
    seen = environment(job, secrets)
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"} <= seen.keys()
    rest = seen | {"HEADWATER_CATALOG_URI": "https://catalog.example.com"}
    for environ in (seen, rest):
        sql = Place.read(environ).script(job_sql(jobs(repository)[0]))
        assert f"'s3.endpoint' = '{endpoint}',\n  's3.path-style-access' = 'true'" in sql
    with pytest.raises(RuntimeError, match=r"storage\.keysSecret"):
        render("prod", "--set", f"storage.endpoint={endpoint}")


def test_the_command_and_the_api_understand_theirs(objects, secrets):
    settings = Settings.read(environment(of(objects["prod"], "Job")[f"{RELEASE}-apply"], secrets))
    assert settings.postgres == "postgres.example.com:5432"
    assert settings.postgres_password() == "s3cret"
    assert settings.warehouse == "s3://headwater-features/iceberg"
    api = ServerSettings.read(
        environment(of(objects["prod"], "Deployment")[f"{RELEASE}-api"], secrets)
    )
    assert (api.host, api.port, api.grpc_port) == ("0.0.0.0", 8080, 9090)
    assert api.auth
    assert api.principals == str(secrets / "principals/principals.json")
    assert api.redis_url == "rediss://headwater:s3cret@redis.example.com:6379"


def test_tls_and_an_issuer_of_tokens_reach_everyone_they_concern(secrets):
    found = render(
        "prod",
        *("--set", "api.tlsSecret=api-tls", "--set", "api.oidc.issuer=https://id.example.com"),
        *("--set", "api.oidc.audience=features"),
    )
    assert [str(finding) for finding in check(found)] == []
    deployment = of(found, "Deployment")[f"{RELEASE}-api"]
    api = ServerSettings.read(environment(deployment, secrets))
    assert (api.oidc_issuer, api.oidc_audience) == ("https://id.example.com", "features")
    assert api.tls_key == str(secrets / "tls/tls.key")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert pod(deployment)["containers"][0][probe]["httpGet"]["scheme"] == "HTTPS"
    assert (
        of(found, "ServiceMonitor")[f"{RELEASE}-api"]["spec"]["endpoints"][0]["scheme"] == "https"
    )
    test = of(found, "Pod")[f"{RELEASE}-api-test"]["spec"]["containers"][0]
    assert test["args"][0] == "https://headwater-api:80"
    # What the doors speak, for whoever stands before them.
    for objects_, spoken in (
        (found, {"http": "https", "grpc": "https"}),
        (render("prod"), {"http": "http", "grpc": "kubernetes.io/h2c"}),
    ):
        ports = of(objects_, "Service")[f"{RELEASE}-api"]["spec"]["ports"]
        assert {port["name"]: port["appProtocol"] for port in ports} == spoken
    # What a pod mounts of the pair is what it reads.
    for thing, read in ((deployment, {"tls.crt", "tls.key"}), (of(found, "Pod"), {"ca.crt"})):
        spec = pod(thing.get(f"{RELEASE}-api-test", thing))
        (volume,) = (one for one in spec["volumes"] if one["name"] == "tls")
        assert {item["path"] for item in volume["secret"]["items"]} == read
        values = {e.get("value", "") for e in spec["containers"][0]["env"]}
        assert {v.split("/")[-1] for v in values if v.startswith("/secrets/tls/")} == read


def test_traces_go_nowhere_until_a_collector_is_named(objects):
    address = "http://collector.monitoring:4318"
    named = render("prod", "--set", f"api.otlpEndpoint={address}")
    for found, wanted in ((objects["prod"], None), (named, address)):
        told = [
            {one["name"]: one.get("value") for one in container.get("env", ())}
            for thing in (
                of(found, "Deployment")[f"{RELEASE}-api"],
                *of(found, "FlinkDeployment").values(),
            )
            for container in pod(thing)["containers"]
            if container["name"] in ("api", "flink-main-container")
        ]
        assert len(told) == 1 + len(JOBS)
        assert {one.get("OTEL_EXPORTER_OTLP_ENDPOINT") for one in told} == {wanted}
        egress = of(found, "NetworkPolicy")[f"{RELEASE}-egress"]["spec"]["egress"]
        ports = {port["port"] for rule in egress for port in rule.get("ports", ())}
        assert (4318 in ports) is (wanted is not None)


def test_the_api_is_spread_scaled_and_never_all_away(objects):
    deployment = of(objects["prod"], "Deployment")[f"{RELEASE}-api"]
    scaler = of(objects["prod"], "HorizontalPodAutoscaler")[f"{RELEASE}-api"]["spec"]
    budget = of(objects["prod"], "PodDisruptionBudget")[f"{RELEASE}-api"]["spec"]
    assert "replicas" not in deployment["spec"]
    assert budget["minAvailable"] < scaler["minReplicas"]
    assert {c["topologyKey"] for c in pod(deployment)["topologySpreadConstraints"]} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert probe in pod(deployment)["containers"][0]


def test_a_node_that_holds_answers_alone_may_go(objects):
    """The cluster autoscaler keeps a node for a pod's own files, unless they are no loss."""
    deployment = of(objects["prod"], "Deployment")[f"{RELEASE}-api"]
    named = deployment["spec"]["template"]["metadata"]["annotations"][
        "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
    ]
    own = {v["name"] for v in pod(deployment)["volumes"] if {"emptyDir", "hostPath"} & v.keys()}
    assert own == set(named.split(","))
    # A job's stay where they are until the job needs them no more.
    for job in of(objects["prod"], "FlinkDeployment").values():
        assert "safe-to-evict" not in str(job)


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_reaches_a_pod_that_is_not_let_in(objects, profile):
    policies = of(objects[profile], "NetworkPolicy")
    deny = policies[f"{RELEASE}-deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    chosen = deny["podSelector"]["matchLabels"].items()
    for thing in objects[profile]:
        if pod(thing) is None or thing["kind"] == "Pod":
            continue
        spec = thing["spec"]
        if thing["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        path = {"FlinkDeployment": "podTemplate"}.get(thing["kind"], "template")
        assert chosen <= spec[path]["metadata"]["labels"].items()
    # A rule without `from` would let the whole cluster in.
    for policy in policies.values():
        for rule in policy["spec"].get("ingress", ()):
            assert rule["from"]


def strimzi(cluster, name):
    """The labels of a pod that Strimzi makes; it takes none of `app.kubernetes.io` over."""
    return {
        "strimzi.io/cluster": cluster,
        "app.kubernetes.io/instance": cluster,
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/managed-by": "strimzi-cluster-operator",
    }


def ours(part):
    return {
        "app.kubernetes.io/name": "headwater",
        "app.kubernetes.io/instance": RELEASE,
        "app.kubernetes.io/component": part,
    }


def chosen(selector, labels):
    return selector["podSelector"].get("matchLabels", {}).items() <= labels.items()


def lets(policies, way, of_whom, whom, port):
    """Whether the policies let a pod reach another one (Egress), or be reached by it (Ingress)."""
    side, ports = {"Egress": ("to", "egress"), "Ingress": ("from", "ingress")}[way]
    mine = [p["spec"] for p in policies if chosen(p["spec"], of_whom)]
    assert any(way in spec["policyTypes"] for spec in mine), f"{of_whom} is open"
    return any(
        (side not in rule or any("podSelector" in s and chosen(s, whom) for s in rule[side]))
        and ("ports" not in rule or port in {p["port"] for p in rule["ports"]})
        for spec in mine
        for rule in spec.get(ports, ())
    )


@pytest.mark.parametrize("cluster", [RELEASE, "log"])
def test_pods_that_strimzi_makes_reach_what_they_need_and_nothing_else(cluster):
    found = render("dev", "--set", f"kafka.strimzi.cluster={cluster}")
    assert [str(finding) for finding in check(found)] == []
    policies = of(found, "NetworkPolicy").values()
    connect = strimzi(f"{RELEASE}-connect", "kafka-connect")
    broker, operator = strimzi(cluster, "kafka"), strimzi(cluster, "entity-operator")
    for source, target, port, may in (
        (connect, broker, 9092, True),
        (connect, broker, 9093, True),
        (connect, connect, 8083, True),
        (connect, ours("postgres"), 5432, True),
        (connect, ours("redis"), 6379, False),
        (connect, ours("api"), 8080, False),
        (connect, {}, 443, False),
        (broker, broker, 9091, True),
        (operator, broker, 9091, True),
        (operator, {}, 443, True),
        (broker, {}, 80, False),
        (ours("flink"), broker, 9092, True),
    ):
        assert lets(policies, "Egress", source, target, port) is may, (source, target, port)
    assert lets(policies, "Ingress", ours("postgres"), connect, 5432)
    # Strimzi's own policies let in: of Kafka's, the listeners say whom.
    for pod_ in (connect, broker, operator):
        assert not lets(policies, "Ingress", pod_, ours("api"), 8083)
    (kafka,) = of(found, "Kafka").values()
    for listener in kafka["spec"]["kafka"]["listeners"]:
        peers = listener["networkPolicyPeers"]
        for client in (connect, ours("flink"), ours("api"), ours("command")):
            assert any(chosen(peer, client) for peer in peers)
        assert not any(chosen(peer, {"app": "elsewhere"}) for peer in peers)


def test_connect_reaches_the_databases_of_production(objects):
    policy = of(objects["prod"], "NetworkPolicy")[f"{RELEASE}-connect"]["spec"]
    blocks = [to["ipBlock"] for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    assert blocks == [{"cidr": "10.0.0.0/16"}]
    assert f"{RELEASE}-kafka" not in of(objects["prod"], "NetworkPolicy")
    off = render("dev", "--set", "networkPolicies.enabled=false")
    assert not of(off, "NetworkPolicy")
    (kafka,) = of(off, "Kafka").values()
    assert all("networkPolicyPeers" not in one for one in kafka["spec"]["kafka"]["listeners"])


def test_callers_of_the_api_are_named(objects):
    found = render("prod", "--set", "api.allowedNamespaces={a,b}")
    rule = of(found, "NetworkPolicy")[f"{RELEASE}-api"]["spec"]["ingress"][0]
    names = {
        source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for source in rule["from"]
        if "namespaceSelector" in source
    }
    assert names == {"monitoring", "a", "b"}


def test_networks_that_may_call_the_api_are_named():
    cidrs = ["192.0.2.0/24", "198.51.100.0/24"]
    options = ("--set", "api.service.type=LoadBalancer")
    found = render("prod", *options, "--set", f"api.allowedCidrs={{{','.join(cidrs)}}}")
    assert [str(finding) for finding in check(found)] == []
    (rule,) = of(found, "NetworkPolicy")[f"{RELEASE}-api"]["spec"]["ingress"]
    assert [one["ipBlock"]["cidr"] for one in rule["from"] if "ipBlock" in one] == cidrs
    service = of(found, "Service")[f"{RELEASE}-api"]["spec"]
    assert service["loadBalancerSourceRanges"] == cidrs
    # Otherwise it would see the node's address in the place of the caller's.
    assert service["externalTrafficPolicy"] == "Local"
    assert "externalTrafficPolicy" not in of(render("prod"), "Service")[f"{RELEASE}-api"]["spec"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Nobody but Prometheus and `helm test` may call the API yet"),
        (("networkPolicies.enabled=false",), ""),
        (("api.allowedCidrs={192.0.2.0/24}",), ""),
        (
            ("api.allowedNamespaces={models}", "api.service.type=LoadBalancer"),
            "Nobody may call the API through its load balancer yet",
        ),
    ],
)
def test_the_notes_say_who_may_not_call_the_api(options, said):
    text = notes(*(word for option in options for word in ("--set", option)))
    assert re.findall("Nobody.*", text) == ([] if not said else [re.search(f"{said}.*", text)[0]])


def test_the_hook_reaches_what_the_policies_will_let_pods_reach():
    """It runs before they change: a host that has moved is outside of them."""
    found = of(render("prod", "--set", "networkPolicies.egress={192.0.2.0/24}"), "NetworkPolicy")
    policy = found[f"{RELEASE}-hook"]
    when = policy["metadata"]["annotations"]
    hook = of(render("prod"), "Job")[f"{RELEASE}-apply"]
    ran = hook["metadata"]["annotations"]
    assert when["helm.sh/hook"] in ran["helm.sh/hook"].split(",")
    assert int(when["helm.sh/hook-weight"]) < int(ran["helm.sh/hook-weight"])
    assert chosen(policy["spec"], hook["spec"]["template"]["metadata"]["labels"])
    assert policy["spec"]["egress"] == found[f"{RELEASE}-egress"]["spec"]["egress"]
    assert {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]} in policy["spec"]["egress"]


def test_alerts_go_out_by_secrets_that_are_only_named(objects):
    spec = of(objects["prod"], "AlertmanagerConfig")[RELEASE]["spec"]
    receivers = {receiver["name"]: receiver for receiver in spec["receivers"]}
    key = receivers["pagerduty"]["pagerdutyConfigs"][0]["routingKey"]
    url = receivers["slack"]["slackConfigs"][0]["apiURL"]
    assert key == {"name": "headwater-alerts", "key": "pagerduty"}
    assert url == {"name": "headwater-alerts", "key": "slack"}
    used = {rule["labels"]["severity"] for rule in _alert_rules()}
    routed = {m["value"] for route in spec["route"]["routes"] for m in route["matchers"]}
    assert used == {"page", "ticket"}
    assert routed == {"page", "page|ticket"}


@pytest.mark.parametrize(
    ("base", "link"),
    [
        ("", ""),
        ("https://docs.example.org/headwater/", "https://docs.example.org/headwater/"),
    ],
)
def test_an_alert_links_its_runbook_where_the_files_are_read(base, link):
    found = of(render("prod", "--set", f"monitoring.runbooks={base}"), "PrometheusRule")
    links = [
        rule["annotations"]["runbook_url"]
        for group in found[RELEASE]["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert links
    for one in links:
        assert one.startswith(f"{link}docs/runbooks/")
        assert (ROOT / one.removeprefix(link)).exists()


def test_alerts_carry_what_they_are_routed_and_grouped_by(objects):
    """The operator adds a matcher of the namespace to the routes of an AlertmanagerConfig."""
    rules = [
        rule
        for group in of(objects["prod"], "PrometheusRule")[RELEASE]["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert {rule["labels"].get("namespace") for rule in rules} == {NAMESPACE}
    carried = {label for rule in rules for label in rule["labels"]} | {"alertname"}
    config = of(objects["prod"], "AlertmanagerConfig")[RELEASE]
    local = yaml.safe_load(alertmanager_file(Receivers()))
    assert set(config["spec"]["route"]["groupBy"]) <= carried
    assert config["spec"]["route"]["groupBy"] == local["route"]["group_by"]


def _alert_rules():
    groups = rule_groups(repository, JOBS)
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def notes(*options):
    run = subprocess.run(
        [
            *(str(TOOLS / "helm"), "install", RELEASE, str(CHART), "--namespace", NAMESPACE),
            *("--dry-run=client", "--hide-secret"),
            *(*plan_files(), "-f", str(CHART / "values-dev.yaml"), *options),
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.partition("NOTES:")[2]


def test_what_is_installed_says_what_to_do_next():
    said = notes()
    assert f"{len(repository.views)} views, computed by {len(JOBS)} jobs" in said
    assert "kubectl -n features get flinkdeployments" in said
    assert "helm -n features test headwater" in said
    assert "svc/headwater-api 8080:80" in said
    for name in JOBS:
        assert f"svc/{name}-rest" in said
    assert "Nobody but Prometheus and `helm test` may call the API yet" in said


# A change that each check must see: where in which object, and what it becomes there.
BROKEN = {
    "schema": ("Deployment", ("spec", "replicaz"), 3),
    "restricted": (
        "Deployment",
        ("spec", "template", "spec", "containers", 0, "securityContext"),
        {},
    ),
    "version": ("Deployment", ("spec", "template", "spec", "containers", 0, "image"), "a/b:latest"),
    "limits": ("Deployment", ("spec", "template", "spec", "containers", 0, "resources"), {}),
    "no secret": (
        "Deployment",
        ("spec", "template", "spec", "containers", 0, "env", 0),
        {"name": "REDIS_PASSWORD", "value": "hunter2"},
    ),
    "labels": ("Service", ("metadata", "labels"), {}),
    "no links": ("FlinkDeployment", ("spec", "podTemplate", "spec", "enableServiceLinks"), True),
}


@pytest.mark.parametrize("name", ["schema", *CHECKS])
def test_each_check_sees_what_it_is_for(objects, name):
    kind, path, value = BROKEN[name]
    broken = copy.deepcopy(next(t for t in objects["prod"] if t["kind"] == kind))
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert name in {finding.check for finding in check([broken])}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("FlinkDeployment", ("spec", "job", "upgrade")),
        ("KafkaConnector", ("spec", "klass")),
        ("PrometheusRule", ("spec", "group")),
        ("AlertmanagerConfig", ("spec", "receiver")),
    ],
)
def test_the_operators_own_schemas_are_asked(objects, kind, path):
    broken = copy.deepcopy(next(t for t in objects["prod"] if t["kind"] == kind))
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "x"
    assert [finding.check for finding in kubeconform([broken])] == ["schema"]


def test_another_repository_is_installed_by_the_same_chart(tmp_path):
    person, shop = Entity("person", "person_id"), Entity("shop", "shop_id")
    clicks = EventStream(
        name="page_clicks",
        topic="web_shop.page_clicks",
        columns=(Column("person_id", Type.STRING),),
        partition_by="person_id",
        disorder=minutes(1),
        heartbeat=seconds(10),
    )
    shops = CdcTable(
        name="shops",
        table="shops",
        columns=(
            Column("shop_id", Type.STRING),
            Column("town", Type.STRING, required=False),
            Column("updated_at", Type.TIMESTAMP),
        ),
        primary_key="shop_id",
    )
    views = (
        FeatureView("click_rate", clicks, (person,), over([hours(1)], count()), ttl=days(1)),
        FeatureView("shop_facts", shops, (shop,), latest("town"), ttl=days(9)),
    )
    other = Repository("web_shop", views, (FeatureService("all", views),))
    plan = []
    for name, text in chart_values(other).items():
        (tmp_path / name).write_text(text)
        plan += ["-f", str(tmp_path / name)]
    for profile in PROFILES:
        found = render(profile, plan=plan)
        assert [str(finding) for finding in check(found)] == []
        # Names that Kubernetes takes, of jobs that have underscores.
        # Its stream beats on a cluster as well.
        beating = of(found, "Deployment")[f"{RELEASE}-heartbeat"]
        assert beating["metadata"]["annotations"]["headwater.io/streams"] == "page_clicks"
        assert pod(beating)["containers"][0]["args"] == ["heartbeat"]
        assert "restartPolicy" not in pod(beating)
        named = {job.name.replace("_", "-") for job in jobs(other)}
        assert set(of(found, "FlinkDeployment")) == named
        assert "web-shop-page-clicks" in named
