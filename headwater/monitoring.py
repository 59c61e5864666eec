"""The configuration of Prometheus, Alertmanager and Grafana, for one machine and for Compose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import yaml  # type: ignore[import-untyped]

from flink_jobs.sql import jobs
from observability.dashboards import dashboards
from observability.rules import rule_groups
from schemas import Repository

_INTERVAL = "5s"

# A message is of a group, and the summaries of its alerts differ: none would be common to all.
_SUMMARY = "{{ (index .Alerts 0).Annotations.summary }}"
_RUNBOOK = "{{ .CommonAnnotations.runbook_url }}"
_SUMMARIES = f"{{{{ range .Alerts }}}}{{{{ .Annotations.summary }}}}\n{{{{ end }}}}{_RUNBOOK}"


@dataclass(frozen=True)
class Targets:
    """Where the parts answer, host:port each."""

    api: str
    flink: tuple[str, ...]
    exporter: str
    alertmanager: str


@dataclass(frozen=True)
class Receivers:
    """Who is told; empty is nobody. Keys and addresses of services are files: they are secrets."""

    webhook: str = ""
    """Address that alerts are posted to."""

    pagerduty_key_file: str = ""
    slack_url_file: str = ""
    slack_channel: str = "#headwater"


def prometheus_files(repository: Repository, targets: Targets) -> dict[str, str]:
    """`prometheus.yml` and the rules beside it."""
    scraped = {"api": (targets.api,), "flink": targets.flink, "exporter": (targets.exporter,)}
    document = {
        "global": {"scrape_interval": _INTERVAL, "evaluation_interval": _INTERVAL},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [targets.alertmanager]}]}]},
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": list(addresses)}]}
            for name, addresses in scraped.items()
        ],
    }
    names = [job.name for job in jobs(repository)]
    rules = {"groups": rule_groups(repository, names)}
    return {"prometheus.yml": _yaml(document), "rules.yml": _yaml(rules)}


def alertmanager_file(receivers: Receivers) -> str:
    """Pages to PagerDuty, everything to Slack and to the webhook, as in the chart."""
    page: dict[str, object] = {"name": "page"}
    everyone: dict[str, object] = {"name": "everyone"}
    if receivers.pagerduty_key_file:
        page["pagerduty_configs"] = [
            {
                "routing_key_file": receivers.pagerduty_key_file,
                "description": _SUMMARY,
                "details": {"runbook": _RUNBOOK},
            }
        ]
    if receivers.slack_url_file:
        everyone["slack_configs"] = [
            {
                "api_url_file": receivers.slack_url_file,
                "channel": receivers.slack_channel,
                "send_resolved": True,
                "title": "{{ .CommonLabels.alertname }}",
                "text": _SUMMARIES,
            }
        ]
    if receivers.webhook:
        everyone["webhook_configs"] = [{"url": receivers.webhook, "send_resolved": True}]
    document = {
        "route": {
            "receiver": "everyone",
            "group_by": ["alertname", "source", "view", "flink_job"],
            "group_wait": "1s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": [
                {"receiver": "page", "matchers": ['severity="page"'], "continue": True},
                {"receiver": "everyone", "matchers": ['severity=~"page|ticket"']},
            ],
        },
        "receivers": [page, everyone],
    }
    return _yaml(document)


def grafana_files(repository: Repository, prometheus: str) -> dict[str, str]:
    """Grafana's provisioning: the data source, where dashboards lie, and the dashboards."""
    source = {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "uid": "prometheus",
                "type": "prometheus",
                "url": prometheus,
                "isDefault": True,
            }
        ],
    }
    provider = {
        "apiVersion": 1,
        "providers": [
            {
                "name": "headwater",
                "folder": "Headwater",
                "type": "file",
                "options": {"path": "/var/lib/grafana/dashboards"},
            }
        ],
    }
    names = [job.name for job in jobs(repository)]
    return {
        "provisioning/datasources/prometheus.yml": _yaml(source),
        "provisioning/dashboards/headwater.yml": _yaml(provider),
        **{
            f"dashboards/{name}.json": json.dumps(dashboard, indent=1) + "\n"
            for name, dashboard in dashboards(repository, names).items()
        },
    }


def _yaml(document: Mapping[str, object]) -> str:
    return str(yaml.safe_dump(document, sort_keys=False, width=1000))
