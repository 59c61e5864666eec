"""Each alert fires when it should and is silent otherwise, by Prometheus' own rule tests."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from api import create_app
from api.grpc_door import SERVICE
from api.store import connect
from feature_repo.flights.repository import repository
from flink_jobs.sql import jobs
from headwater.local.flink import METRICS
from headwater.monitoring import (
    Receivers,
    Targets,
    alertmanager_file,
    grafana_files,
    prometheus_files,
)
from observability import drift, quality, tables
from observability import queries as q
from observability.dashboards import dashboards
from observability.metrics import ApiMetrics
from observability.rules import FAST_SECONDS, alerts
from observability.textfile import exposition
from schemas import (
    Column,
    Entity,
    EventStream,
    FeatureView,
    Repository,
    Type,
    hours,
    minutes,
    over,
    total,
    unique,
    within,
)
from tools.chart import NAMESPACE, RELEASE, ROOT, TOOLS, render

JOBS = [job.name for job in jobs(repository)]
ALERTS = alerts(repository, JOBS)
PROGRAMS = TOOLS / "debian" / "usr" / "bin"
TARGETS = Targets(
    "api:8080", ("jobmanager:9249", "taskmanager:9249"), "exporter:9108", "alertmanager:9093"
)

JOB = 'job_name="flights_weather"'
WRITER = f'{JOB}, operator_name="redis_origin_weather:_Writer"'
TASK = f'{JOB}, task_name="ProcessTableFunction_1______redis_origin_weather:_Writer__Calc"'
PTF = f'{TASK}, operator_name="ProcessTableFunction_1_"'
SOURCE = 'operator_name="Source:_weather_1_"'
MALFORMED = f'{q.DEAD_LETTERS}{{{JOB}, {SOURCE}, reason="malformed"}}'
TEMP = f'{q.BROKEN}{{{JOB}, {SOURCE}, expectation="temp_within"}}'
TABLE = f'{JOB}, table="headwater_features_origin_weather"'
LOOKUP = 'method="POST", route="/v1/features"'
FEAST = 'method="POST", route="/get-online-features"'
GRPC = 'method="gRPC", route="/headwater.v1.Features/LookUp"'

API = (
    *(q.REQUESTS, q.REDIS_ERRORS, q.REDIS_ANSWERS, q.VALUES, q.UNREADABLE, q.REFUSED, q.IN_FLIGHT),
)
"""Those of the API that have no buckets."""


def failing(
    good: str, bad: str, door: str = LOOKUP, statuses: tuple[str, str] = ("200", "503")
) -> dict[str, str]:
    """Lookups that are answered and that fail, each by how it grows a minute."""
    return {
        f'{q.REQUESTS}{{{door}, status="{status}"}}': f"0+{each}x6000"
        for status, each in zip(statuses, (good, bad), strict=True)
    }


def timed(fast: str, all_: str, door: str = LOOKUP) -> dict[str, str]:
    """Lookups within the goal, and all of them, likewise."""
    return {
        f'{q.REQUEST_SECONDS}_bucket{{{door}, le="{FAST_SECONDS}"}}': f"0+{fast}x6000",
        f"{q.REQUEST_SECONDS}_count{{{door}}}": f"0+{all_}x6000",
    }


def served(status: str, part: int) -> dict[str, str]:
    """Values of a view, `part` of a hundred of one status."""
    values = f'{q.VALUES}{{view="origin_weather", status='
    return {
        f'{values}"present"}}': f"0+{100 - part}x200",
        f'{values}"{status}"}}': f"0+{part}x200",
    }


def late(part: int, all_: int = 100) -> dict[str, str]:
    """Records of a view's task, so many a minute and `part` of them late."""
    return {
        f"{q.RECORDS_IN}{{{PTF}}}": f"0+{all_}x200",
        f"{q.LATE_ROWS}{{{PTF}}}": f"0+{part}x200",
    }


def replayed(series: dict[str, str]) -> dict[str, str]:
    """The same of a replay's job, which reads what was counted when it came."""
    replay = JOB.replace("flights_weather", "replay_flights_weather")
    return {name.replace(JOB, replay): values for name, values in series.items()}


def one(series: str, values: str) -> dict[str, str]:
    return {series: values}


def moved(before: str, psi: str, chance: str) -> dict[str, str]:
    """A feature's index, for two days and then, and what chance would make of it."""
    named = '{view="origin_weather", feature="temp"}'
    return {
        f"{q.PSI}{named}": f"{before}x96 {psi}x8",
        f"{q.CHANCE}{named}": f"{chance}x104",
    }


# Each alert: series a minute that make it fire, series that do not, and when to look.
CASES = {
    "LookupErrorBudget": (failing("100", "2"), failing("10000", "5"), "70m"),
    "LookupLatencyBudget": (timed("80", "100"), timed("995", "1000"), "70m"),
    "ApiDown": (one('up{job="api"}', "0x10"), one('up{job="api"}', "1x10"), "5m"),
    # For as long as it lasts, also where nobody asks pods that are not ready.
    "RedisDown": (
        one(f'{q.REDIS_ANSWERS}{{pod="a"}}', "1x10 0x200")
        | one(f'{q.REDIS_ANSWERS}{{pod="b"}}', "1x10 0x200"),
        one(q.REDIS_ANSWERS, "1x110 0 1x60"),
        "120m",
    ),
    "RedisErrors": (one(q.REDIS_ERRORS, "0+60x20"), one(q.REDIS_ERRORS, "0+1x20"), "10m"),
    "JobNotRunning": (
        one(f'{q.UPTIME}{{job_name="flights_arrivals"}}', "1000x20"),
        one(f"{q.UPTIME}{{{JOB}}}", "0+60000x20"),
        "10m",
    ),
    "JobRestarts": (
        one(f"{q.RESTARTS}{{{JOB}}}", "0+1x30"),
        one(f"{q.RESTARTS}{{{JOB}}}", "2x30"),
        "20m",
    ),
    "CheckpointsStopped": (
        one(f"{q.CHECKPOINTS}{{{JOB}}}", "40x40"),
        one(f"{q.CHECKPOINTS}{{{JOB}}}", "0+12x40"),
        "30m",
    ),
    "JobLagging": (
        one(f"{q.PENDING}{{{JOB}}}", "200000+1000x60"),
        # As far behind, and catching up.
        one(f"{q.PENDING}{{{JOB}}}", "900000-10000x60"),
        "40m",
    ),
    "CommitsStopped": (
        one(f"{q.COMMIT_AGE}{{{TABLE}}}", "0+60x60"),
        one(f"{q.COMMIT_AGE}{{{TABLE}}}", "5x60")
        | replayed(one(f"{q.COMMIT_AGE}{{{TABLE}}}", "0+60x60")),
        "45m",
    ),
    "RedisWritesRetried": (
        one(f"{q.REDIS_RETRIES}{{{WRITER}}}", "0+60x30"),
        one(f"{q.REDIS_RETRIES}{{{WRITER}}}", "7x30")
        | replayed(one(f"{q.REDIS_RETRIES}{{{WRITER}}}", "0+60x30")),
        "20m",
    ),
    "ValuesStale": (served("stale", 20), served("stale", 2), "60m"),
    "ValuesMissing": (served("missing", 80), served("missing", 20), "90m"),
    "DeadLetters": (
        one(MALFORMED, "0+1x10"),
        one(MALFORMED, "3x30") | replayed(one(MALFORMED, "0+1x30")),
        "10m",
    ),
    "ExpectationsBroken": (one(TEMP, "0+1x10"), one(TEMP, "3x30"), "10m"),
    "RowsLate": (
        late(5) | replayed(late(0, 100_000)),
        late(0) | replayed(late(2000, 100_000)),
        "60m",
    ),
    "ExporterStopped": (
        # One of its measures never comes to an end.
        one(f'{q.DUE}{{measure="tables"}}', "900+60x200")
        | one(f'{q.DUE}{{measure="features.origin_delays"}}', "0x200"),
        # Of two, one has stopped.
        one(f'{q.DUE}{{measure="tables", pod="new"}}', "900+60x200")
        | one(f'{q.DUE}{{measure="tables", pod="old"}}', "0x200"),
        "180m",
    ),
    "FeatureMoved": (moved("0.2", "0.5", "0.1"), moved("0.2", "0.5", "0.6"), "50h"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("prometheus")
    for name, text in prometheus_files(repository, TARGETS).items():
        (found / name).write_text(text)
    return found


@pytest.fixture(scope="module")
def on_cluster(tmp_path_factory):
    """The rules as the chart installs them."""
    found = tmp_path_factory.mktemp("cluster")
    (rules,) = (thing for thing in render("prod") if thing["kind"] == "PrometheusRule")
    (found / "rules.yml").write_text(yaml.safe_dump(rules["spec"]))
    return found


def promtool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAMS / "promtool"), *arguments], cwd=cwd, capture_output=True, text=True
    )


def test_prometheus_accepts_its_configuration(folder):
    run = promtool("check", "config", "prometheus.yml", cwd=folder)
    assert run.returncode == 0, run.stderr


def test_alertmanager_accepts_every_receiver(tmp_path):
    text = alertmanager_file(
        Receivers("http://127.0.0.1:9", "/run/secrets/pagerduty", "/run/secrets/slack")
    )
    (tmp_path / "a.yml").write_text(text)
    run = subprocess.run(
        [str(PROGRAMS / "amtool"), "check-config", "a.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_message_has_the_summary_of_each_alert_of_its_group(tmp_path):
    local = yaml.safe_load(alertmanager_file(Receivers("", "/run/key", "/run/url")))["receivers"]
    page, everyone = local[0]["pagerduty_configs"][0], local[1]["slack_configs"][0]
    (config,) = (thing for thing in render("prod") if thing["kind"] == "AlertmanagerConfig")
    there = {r["name"]: r for r in config["spec"]["receivers"]}
    assert there["pagerduty"]["pagerdutyConfigs"][0]["description"] == page["description"]
    assert there["slack"]["slackConfigs"][0]["text"] == everyone["text"]
    one, other = ({"annotations": {"summary": f"burns over {over}"}} for over in ("1h", "6h"))
    data = {"alerts": [one, other], "commonAnnotations": {"runbook_url": "docs/x.md"}}
    (tmp_path / "data.json").write_text(json.dumps(data))
    told = [
        subprocess.run(
            [
                *(str(PROGRAMS / "amtool"), "template", "render"),
                # It asks for a file of templates, though the text is all.
                *("--template.glob=none", "--template.data=data.json"),
                f"--template.text={text}",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for text in (page["description"], everyone["text"])
    ]
    assert told == ["burns over 1h", "burns over 1h\nburns over 6h\ndocs/x.md"]


@pytest.mark.parametrize(
    ("severity", "told"), [("page", ["page", "everyone"]), ("ticket", ["everyone"])]
)
def test_pages_and_tickets_go_where_they_should(tmp_path, severity, told):
    (tmp_path / "a.yml").write_text(alertmanager_file(Receivers("http://127.0.0.1:9")))
    run = subprocess.run(
        [
            *(str(PROGRAMS / "amtool"), "config", "routes", "test", "--config.file=a.yml"),
            f"severity={severity}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip().split(",") == told


def test_every_alert_has_a_case():
    assert set(CASES) == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_only_then(folder, tmp_path, name):
    fires, silent, when = CASES[name]
    # What it says in full, for the first of its rules that fires: the one of the shortest window,
    # or of the job, the source and the view in the series.
    wanted = next(
        alert
        for alert in ALERTS
        if alert.name == name
        and dict(alert.labels).get("flink_job", "flights-weather") == "flights-weather"
        and dict(alert.labels).get("view", "origin_weather") == "origin_weather"
        and dict(alert.labels).get("source", "weather") == "weather"
    )
    for series, expected in ((fires, True), (silent, False)):
        run = _evaluate(folder, tmp_path, name, series, when)
        fired = re.findall(rf'alertname="{name}"[^}}]*', run)
        mine = [
            labels
            for labels in fired
            if all(f'{key}="{value}"' in labels for key, value in wanted.labels)
        ]
        assert bool(mine) is expected, run
        if mine:
            assert f'severity="{wanted.severity}"' in mine[0]


@pytest.mark.parametrize(
    ("values", "fired"),
    [
        (("0x30", "1x30"), {"some"}),
        (("0x30", "0x30"), {"some", "all"}),
        # Instances that restart are no instances.
        (("0x5 stale", "1x30"), set()),
    ],
)
def test_one_instance_without_redis_is_a_ticket_and_all_of_them_a_page(
    folder, tmp_path, values, fired
):
    series = {f'{q.REDIS_ANSWERS}{{pod="{n}"}}': each for n, each in enumerate(values)}
    run = _evaluate(folder, tmp_path, "RedisDown", series, "20m")
    found = dict(re.findall(r'alertname="RedisDown", instances="(\w+)", severity="(\w+)"', run))
    assert found == {name: {"all": "page", "some": "ticket"}[name] for name in fired}, run


def test_other_values_altogether_are_told_of_however_few_the_rows_are(folder, tmp_path):
    for psi, fires in (("7", True), ("2.9", False)):
        run = _evaluate(folder, tmp_path, "FeatureMoved", moved("1", psi, "18"), "50h")
        assert ('alertname="FeatureMoved"' in run) is fires, run


@pytest.mark.parametrize(("before", "fires"), [("0.3", True), ("0.4", False), ("_", False)])
def test_a_feature_that_always_moves_has_not_moved(folder, tmp_path, before, fires):
    """Half as far again as before, or nobody is told; nor where nobody knows of before."""
    run = _evaluate(folder, tmp_path, "FeatureMoved", moved(before, "0.5", "0.1"), "50h")
    assert ('alertname="FeatureMoved"' in run) is fires, run


@pytest.mark.parametrize(
    ("uptime", "when", "fires"),
    [
        # It fails as soon as it runs, or some time later, as it is seen each minute.
        ("0+60000x10 " + "0 4000 " * 10, "20m", True),
        ("0+60000x10 " + "0 0 4000 10000 25000 45000 " * 3, "20m", True),
        # It has restarted once, and was away for two minutes.
        ("0+60000x10 0 0 30000+60000x20", "13m", False),
        ("0+60000x10 0 0 30000+60000x20", "14m", False),
        # It begins.
        ("_x2 30000+60000x20", "4m", False),
    ],
)
def test_a_job_that_fails_again_and_again_does_not_run(folder, tmp_path, uptime, when, fires):
    run = _evaluate(folder, tmp_path, "JobNotRunning", one(f"{q.UPTIME}{{{JOB}}}", uptime), when)
    assert ('flink_job="flights-weather"' in run) is fires, run


@pytest.mark.parametrize(
    ("up", "features", "fires"),
    [
        # Killed while it reads a view, after three minutes or twenty.
        (3, "0", True),
        (20, "0", True),
        # It has done its work before it is killed.
        (20, "99999", False),
    ],
)
def test_an_exporter_that_is_killed_again_and_again_has_stopped(
    folder, tmp_path, up, features, fires
):
    """Each begins with what is quick, and is away for five minutes then."""
    rounds = range(0, 200, up + 5)
    quick = " ".join(f"{60 * at + 900}x{up - 1} stale _x3" for at in rounds)
    slow = " ".join(f"{features}x{up - 1} stale _x3" for _ in rounds)
    series = {f'{q.DUE}{{measure="tables"}}': quick} | {f'{q.DUE}{{measure="f"}}': slow}
    run = _evaluate(folder, tmp_path, "ExporterStopped", series, "180m")
    assert ('alertname="ExporterStopped"' in run) is fires, run


def test_a_record_that_several_jobs_read_is_one_dead_letter(folder, tmp_path):
    read = [
        MALFORMED.replace("flights_weather", job).replace("weather_1_", f"weather_{place}_")
        for job, place in (
            ("flights_weather", 1),
            ("flights_archive", 3),
            ("flights_departures", 9),
        )
    ]
    elsewhere = MALFORMED.replace("Source:_weather_1_", "Source:_weather_of_mars_1_")
    series = {one: "0+1x30" for one in read} | {elsewhere: "0+9x30"}
    run = _evaluate(folder, tmp_path, "DeadLetters", series, "20m")
    assert "weather: 15 records in 15 minutes could not be read" in run, run


PERSON = Entity("person", "person_id")
ORDERS = EventStream(
    name="orders",
    topic="shop.orders",
    columns=(Column("person_id", Type.STRING), Column("price", Type.FLOAT64)),
    partition_by="person_id",
    expectations=(within("price", 0, 1000), unique("person_id")),
    checked=minutes(1),
)
SPEND = FeatureView(
    "spend",
    ORDERS,
    (PERSON,),
    over([hours(1)], total("price")),
    ttl=hours(1),
    expectations=(within("price_sum_1h", 0, 9000),),
    checked=minutes(1),
)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("orders", "orders: person_id_unique broken 2 times lately"),
        ("view.spend", "spend: person_id_unique broken 2 times lately"),
    ],
)
def test_what_the_command_says_of_windows_is_an_alert_too(tmp_path, source, said):
    shop = Repository("shop", (SPEND,), ())
    for name, text in prometheus_files(shop, TARGETS).items():
        (tmp_path / name).write_text(text)
    told = {
        "source": source,
        "expectation": "person_id_unique",
        "newest_end": "2026-01-01T00:01:00+00:00",
        "newest_events": 9,
    }
    for broken, fires in ((2, True), (0, False)):
        text = exposition(quality.metrics([told | {"newest_broken": broken}]))
        lines = [line.rpartition(" ") for line in text.splitlines() if line[0] != "#"]
        series = {name: f"{float(value):.0f}x9" for name, _, value in lines}
        run = _evaluate(tmp_path, tmp_path, "ExpectationsBroken", series, "5m")
        assert (said in run) is fires, run


@pytest.mark.parametrize(
    ("labels", "fires"),
    [
        (f'namespace="{NAMESPACE}", service="{RELEASE}-api"', False),
        (f'namespace="{NAMESPACE}", service="orders"', True),
        (f'namespace="shop", service="{RELEASE}-api"', True),
    ],
)
def test_on_a_cluster_no_other_api_stands_in_for_ours(on_cluster, tmp_path, labels, fires):
    run = _evaluate(
        on_cluster, tmp_path, "ApiDown", one(f'up{{job="api", {labels}}}', "1x10"), "5m"
    )
    assert ('alertname="ApiDown"' in run) is fires, run


@pytest.mark.parametrize("name", CASES)
def test_on_a_cluster_another_release_neither_rings_ours_nor_calms_it(on_cluster, tmp_path, name):
    """It has the same jobs and views, and is well where ours is not, and the other way round."""
    ring, calm, when = CASES[name]
    if name == "JobNotRunning":
        # What every job of the repository does.
        calm = {f"{q.UPTIME}{{{q.job(job)}}}": "0+60000x20" for job in JOBS}
    for ours, theirs, fires in ((ring, calm, True), (calm, ring, False)):
        series = scraped(ours, NAMESPACE) | scraped(theirs, "staging")
        run = _evaluate(on_cluster, tmp_path, name, series, when)
        assert (f'alertname="{name}"' in run) is fires, run


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("sum(rate(headwater_x_total[5m]))", 'sum(rate(headwater_x_total{a="b"}[5m]))'),
        ('max by (up) (up{job="api"})', 'max by (up) (up{a="b", job="api"})'),
        ("headwater:x:rate5m > 1", 'headwater:x:rate5m{a="b"} > 1'),
        ("sum(rate(headwater_x{}[5m]))", 'sum(rate(headwater_x{a="b"}[5m]))'),
        ('flink_x{table="headwater_up"} > 0', 'flink_x{a="b", table="headwater_up"} > 0'),
    ],
)
def test_a_selector_is_put_into_series_and_nowhere_else(expression, chosen):
    assert q.within(expression, 'a="b"') == chosen


def scraped(series: dict[str, str], namespace: str) -> dict[str, str]:
    """With the labels that the Prometheus operator gives to what a monitor chooses."""
    labels = f'namespace="{namespace}", service="{RELEASE}-api"'
    return {
        re.sub(r"^(\w+)(\{)?", rf"\1{{{labels}" + (", " if "{" in one_ else "}"), one_): values
        for one_, values in series.items()
    }


@pytest.mark.parametrize(
    ("name", "series", "fires"),
    [
        ("LookupErrorBudget", failing("100", "2", FEAST), True),
        ("LookupErrorBudget", failing("100", "2", GRPC, ("OK", "UNAVAILABLE")), True),
        ("LookupErrorBudget", failing("100", "2", GRPC, ("OK", "INTERNAL")), True),
        ("LookupErrorBudget", failing("100", "2", GRPC, ("OK", "DEADLINE_EXCEEDED")), True),
        ("LookupErrorBudget", failing("100", "2", GRPC, ("OK", "CANCELLED")), False),
        # What callers do wrong costs nothing of the budget.
        ("LookupErrorBudget", failing("100", "2", GRPC, ("OK", "INVALID_ARGUMENT")), False),
        ("LookupErrorBudget", failing("100", "2", FEAST, ("200", "429")), False),
        # The doors have one budget: what comes by another counts as answered.
        ("LookupErrorBudget", failing("10000", "0") | failing("90", "5", FEAST), False),
        ("LookupLatencyBudget", timed("80", "100", FEAST), True),
        ("LookupLatencyBudget", timed("80", "100", GRPC), True),
        ("LookupLatencyBudget", timed("995", "1000", GRPC), False),
    ],
)
def test_lookups_by_every_door_are_in_the_budgets(folder, tmp_path, name, series, fires):
    run = _evaluate(folder, tmp_path, name, series, "70m")
    assert (f'alertname="{name}"' in run) is fires, run


def test_the_doors_are_those_of_the_api():
    app = create_app(repository, connect("redis://127.0.0.1:1"))
    assert set(q.DOORS) == {*app.state["doors"], f"/{SERVICE}/LookUp"}


def _evaluate(folder: Path, tmp_path: Path, name: str, series: dict[str, str], when: str) -> str:
    """What promtool found to fire: its complaint about an expectation of nothing.

    It looks every minute, but every half hour where that is for days.
    """
    every = "30m" if when.endswith("h") else "1m"
    test = {
        "rule_files": [str(folder / "rules.yml")],
        "evaluation_interval": every,
        "tests": [
            {
                "interval": every,
                "input_series": [{"series": s, "values": v} for s, v in series.items()],
                "alert_rule_test": [{"eval_time": when, "alertname": name, "exp_alerts": []}],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    run = promtool("test", "rules", "test.yml", cwd=tmp_path)
    assert "FAILED" in run.stdout + run.stderr or run.returncode == 0, run.stderr
    assert "parse error" not in run.stdout + run.stderr, run.stdout + run.stderr
    # Labels come as {a="b", c="d"} of each alert found.
    return run.stdout + run.stderr


def test_the_names_are_those_the_api_gives():
    metrics = ApiMetrics()
    families = {family.name: family for family in metrics.registry.collect()}
    for name in API:
        assert name.removesuffix("_total") in families
    for name in (q.REQUEST_SECONDS, q.REDIS_SECONDS, q.VALUE_AGE_SECONDS):
        assert name in families
    metrics.request_seconds.labels("POST", "/v1/features").observe(0.001)
    bounds = {
        sample.labels.get("le")
        for family in metrics.registry.collect()
        if family.name == q.REQUEST_SECONDS
        for sample in family.samples
    }
    assert str(FAST_SECONDS) in bounds


SERVED = {
    q.DUE,
    *(family.name for module in (drift, quality, tables) for family in module.metrics([])),
}
"""What `headwater exporter` serves."""


def test_only_known_metrics_are_asked_for():
    known = {
        *q.FLINK_METRICS,
        *API,
        *(
            f"{h}_{part}"
            for h in (q.REQUEST_SECONDS, q.REDIS_SECONDS, q.VALUE_AGE_SECONDS)
            for part in ("bucket", "count")
        ),
        *SERVED,
    }
    asked = {
        name
        for expression in (*(a.expression for a in ALERTS), *_panel_expressions())
        for name in re.findall(r"\b(?:headwater|flink)_\w+", re.sub(r'"[^"]*"', "", expression))
    }
    assert asked <= known
    # Nothing is declared and never asked for.
    assert set(q.FLINK_METRICS) <= asked


def _panel_expressions() -> list[str]:
    return [
        target["expr"]
        for dashboard in dashboards(repository, JOBS).values()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


def test_a_dashboard_shows_the_releases_that_are_chosen():
    for expression in _panel_expressions():
        plain = re.sub(r'"[^"]*"|by \([^)]*\)', "", expression)
        series = re.findall(r"\b(?:headwater|flink|ALERTS)[\w:]*", plain)
        chosen = expression.count('{namespace=~"$namespace"')
        assert len(series) == chosen > 0, expression
    for dashboard in dashboards(repository, JOBS).values():
        variables = {one["name"]: one for one in dashboard["templating"]["list"]}
        # All of them are also those that have no such label.
        assert variables["namespace"]["includeAll"]
        assert variables["namespace"]["allValue"] == ".*"


def test_prometheus_understands_every_panel(tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(_panel_expressions())
    ]
    (tmp_path / "panels.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]})
    )
    run = promtool("check", "rules", "panels.yml", cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr


def test_no_panel_takes_a_replays_series_for_those_of_live_jobs():
    """All but what is asked of whole processes, or by table and expectation of the exporter."""
    for expression in _panel_expressions():
        for name, labels in re.findall(r"\bflink_(\w+)\{([^}]*)\}", expression):
            assert 'job_name=~"' in labels or name.startswith("taskmanager_Status"), expression


def test_each_view_has_a_dashboard_and_each_panel_a_place():
    found = dashboards(repository, JOBS)
    assert list(found) == [
        "flights-overview",
        *(f"flights-{view.name}" for view in repository.views),
    ]
    for dashboard in found.values():
        places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
        assert len(set(places)) == len(places)
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_each_feature_is_drawn_once_by_what_it_is():
    found = dashboards(repository, JOBS)
    for view in repository.views:
        dashboard = found[f"flights-{view.name}"]
        values = {v["name"]: v["query"].split(",") for v in dashboard["templating"]["list"]}
        drawn = {}
        for panel in dashboard["panels"]:
            if "repeat" in panel:
                assert panel["gridPos"]["x"] == 0
                (asked,) = (target["expr"] for target in panel["targets"])
                assert f'feature="${panel["repeat"]}"' in asked
                drawn |= dict.fromkeys(values[panel["repeat"]], asked)
        assert drawn.keys() == {column.name for column in view.schema}
        for column in view.schema:
            numbers = column.type not in (Type.STRING, Type.BOOL)
            assert (q.QUANTILE if numbers else q.FREQUENT) in drawn[column.name]


@pytest.fixture
def dashboard_files(tmp_path):
    found = {}
    for name, dashboard in dashboards(repository, JOBS).items():
        found[name] = tmp_path / f"{name}.json"
        found[name].write_text(json.dumps(dashboard))
    return found


def refused(*files: Path) -> list[str]:
    run = subprocess.run(
        [str(TOOLS / "dashboards"), *map(str, files)], capture_output=True, text=True
    )
    assert run.returncode == bool(run.stdout), run.stderr
    return run.stdout.splitlines()


def test_grafanas_own_schema_accepts_every_dashboard(dashboard_files):
    assert refused(*dashboard_files.values()) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("color",), "red", "unexpected field 'color'"),
        (("panels", 0, "title"), 1, "panels[0].title: json: cannot unmarshal number"),
        (("panels", 0, "targets", 0, "exp"), "up", "unexpected field 'exp'"),
    ],
)
def test_a_dashboard_that_grafana_would_not_understand_is_seen(dashboard_files, path, value, said):
    file = dashboard_files["flights-overview"]
    document = json.loads(file.read_text())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file.write_text(json.dumps(document))
    assert said in "\n".join(refused(file))


def test_grafana_gets_what_it_reads():
    files = grafana_files(repository, "http://prometheus:9090")
    source = yaml.safe_load(files["provisioning/datasources/prometheus.yml"])["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    assert sum(name.startswith("dashboards/") for name in files) == 1 + len(repository.views)


def test_each_alert_links_a_runbook_that_says_what_to_do():
    for alert in ALERTS:
        text = (ROOT / alert.runbook).read_text("utf-8")
        assert text.startswith(f"# {alert.name}\n")
        for heading in ("## What it means", "## First", "## Then"):
            assert heading in text, alert.runbook


def test_flink_reports_to_prometheus_by_the_same_reporter_everywhere():
    chart = (ROOT / "helm/headwater/templates/flink.yaml").read_text("utf-8")
    for key, value in METRICS.items():
        assert f'"{key}" "{value}"' in chart
