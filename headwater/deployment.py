"""What the chart under helm/ takes from the declarations: values files, committed with the plan."""

from __future__ import annotations

from pathlib import Path

import yaml  # type: ignore[import-untyped]

from connectors.debezium import Database, connector_document, connector_name
from connectors.topics import topics
from flink_jobs.place import digest
from flink_jobs.sql import Job, job_sql, jobs
from headwater.jobs import CONFIGURATION
from headwater.local.flink import java_options
from headwater.settings import Settings
from observability.dashboards import dashboards
from observability.rules import OF_RELEASE, rule_groups
from schemas import Repository

_HEADER = "# Derived by `headwater plan`; a change is made in the declarations.\n"
_REPOSITORIES = Path(__file__).resolve().parent.parent / "feature_repo"
_NOWHERE = Database("", 0, "", "", "")


def chart_values(repository: Repository) -> dict[str, str]:
    """Each values file by its name: what to install, its alert rules, its dashboards."""
    names = [job.name for job in jobs(repository)]
    groups = rule_groups(repository, names, OF_RELEASE)
    return {
        "values.yaml": _text(_objects(repository)),
        "rules.yaml": _text({"monitoring": {"rules": {"groups": groups}}}),
        "dashboards.yaml": _text({"monitoring": {"dashboards": dashboards(repository, names)}}),
    }


def source_tables(repository: Repository) -> str:
    """SQL that makes the captured tables, empty, where no system that owns them does."""
    file = _REPOSITORIES / repository.name / "tables.sql"
    return file.read_text("utf-8") if file.exists() else ""


def _objects(repository: Repository) -> dict[str, object]:
    values: dict[str, object] = {
        "repository": {
            "name": repository.name,
            "module": f"feature_repo.{repository.name}.repository:repository",
            "views": [view.name for view in repository.views],
            "heartbeats": [s.name for s in repository.streams if s.heartbeat is not None],
        },
        "flink": {
            "configuration": {
                **CONFIGURATION,
                "table.exec.source.idle-timeout": f"{Settings.idle_seconds} s",
                "env.java.opts.all": java_options(),
            }
        },
        "jobs": {job.name: _job(job) for job in jobs(repository)},
        "topics": {
            name: {"partitions": topic.partitions}
            | ({"config": dict(topic.config)} if topic.config else {})
            for name, topic in topics(repository).items()
        },
    }
    if repository.tables:
        config, ready = (
            {
                key: value
                for key, value in connector_document(repository, _NOWHERE, prepared).items()
                # Where the tables are is the deployment's to say, how many replicas the cluster's.
                if not key.startswith("database.")
                and key != "topic.creation.default.replication.factor"
            }
            for prepared in (False, True)
        )
        config["topic.creation.default.replication.factor"] = "-1"
        if tables := source_tables(repository):
            values["source"] = {"tables": tables}
        prepared = {key: value for key, value in ready.items() if config.get(key) != value}
        values["connectors"] = {
            connector_name(repository): {"config": config, "prepared": prepared}
        }
    return values


def _job(job: Job) -> dict[str, object]:
    return {
        "sql": digest(job_sql(job)),
        "sources": [source.name for source in job.sources],
        "views": [view.name for view in job.views],
    }


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Indents lists as people do, and keeps long texts on one line."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


# YAML 1.1, which Helm's readers speak, takes these for booleans, and PyYAML writes them bare.
_BOOLEANS = ("y", "Y", "n", "N")


def _style(text: str) -> str | None:
    if text in _BOOLEANS:
        return "'"
    return "|" if "\n" in text else None


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text)),
)


def _text(values: dict[str, object]) -> str:
    return _HEADER + str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=1000))
