"""The derived plan: what the declarations become, as text a reviewer reads before it runs."""

from __future__ import annotations

import json
from difflib import unified_diff
from pathlib import Path

import msgspec

from api.catalog import Catalog
from connectors.debezium import Database, connector_document
from connectors.redis_codec import feature_field, timestamp_field
from connectors.registered import served
from feature_repo.registration import describe_feast
from flink_jobs.sql import job_sql, jobs
from flink_jobs.upgrade import breaks, way_out
from headwater.deployment import chart_values
from iceberg.catalog import ARCHIVE
from iceberg.tables import describe, describe_archive
from schemas import FeatureView, Repository
from schemas.event import json_schema

# Where the tables are is filled in when the connector is applied.
_DATABASE = Database("${host}", 5432, "${database}", "${user}", "${file:${password_file}:password}")


def derive(repository: Repository) -> dict[str, str]:
    """Every file of the plan: its path under the checkout, and its text."""
    folder = f"feature_repo/{repository.name}/plan"
    files = {
        f"schemas/events/{stream.topic}.v{stream.version}.json": json.dumps(
            json_schema(stream), indent=2
        )
        + "\n"
        for stream in repository.streams
    }
    for job in jobs(repository):
        files[f"{folder}/jobs/{job.name}.sql"] = job_sql(job)
    files[f"{folder}/iceberg.txt"] = "\n".join(
        [
            *(describe(view) for view in repository.views),
            *(describe_archive(stream) for stream in repository.archived),
        ]
    )
    files[f"{folder}/redis.txt"] = "\n".join(_redis_layout(view) for view in repository.views)
    files[f"{folder}/feast.txt"] = describe_feast(repository)
    files[f"{folder}/api.json"] = _api_schema(repository)
    if repository.tables:
        files[f"{folder}/connector.json"] = _json(connector_document(repository, _DATABASE))
    for name, text in chart_values(repository).items():
        files[f"{folder}/helm/{name}"] = text
    return files


def _json(document: object) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"


def _api_schema(repository: Repository) -> str:
    """What the API tells of services and views, which is what a lookup may ask for."""
    catalog = Catalog(served(repository))
    document = {"feature_services": catalog.services, "feature_views": catalog.views}
    return _json(document)


def _redis_layout(view: FeatureView) -> str:
    fields = "".join(
        f"  {feature_field(view.name, column.name).hex()} {column.name} {column.type.value}\n"
        for column in view.schema
    )
    keys = ", ".join(sorted(view.keys))
    return f"hash of {keys}\n  {timestamp_field(view.name).decode()} event time\n{fields}"


def stale(files: dict[str, str], root: Path) -> list[str]:
    """Committed scripts below `root` of jobs that are declared no more."""
    plans = [Path(path).parent for path in files if Path(path).name == "iceberg.txt"]
    found = [file for plan in plans for file in sorted((root / plan / "jobs").glob("*.sql"))]
    return [path for file in found if (path := str(file.relative_to(root))) not in files]


def write(files: dict[str, str], root: Path) -> list[str]:
    """Write what differs below `root`, and remove what is stale; the paths written."""
    changed = [path for path, text in files.items() if _read(root / path) != text]
    for path in changed:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(files[path], encoding="utf-8")
    for path in stale(files, root):
        (root / path).unlink()
    return changed


def upgrades(files: dict[str, str], root: Path) -> list[str]:
    """For each job whose committed script differs: whether it can go on from its state, or why not.

    And which jobs are declared no more. To be asked before the new plan is written.
    """
    told = []
    for path, text in files.items():
        old = _read(root / path)
        if path.endswith(".sql") and old and old != text:
            told.append(f"{Path(path).stem}: {_fate(breaks(old, text), text)}")
    for path in stale(files, root):
        name = Path(path).stem
        told.append(f"{name}: is gone; where it runs, `headwater jobs stop {name}` ends it")
    return told


def _fate(reasons: list[str], script: str) -> str:
    if not reasons:
        return "goes on from its savepoint"
    if f"INTO headwater.`{ARCHIVE}`" in script:
        return f"goes on where its tables end: {'; '.join(reasons)}"
    return f"cannot go on from its savepoint: {'; '.join(reasons)}. {way_out(script)}"


def difference(files: dict[str, str], root: Path) -> str:
    """A unified diff from the committed plan below `root` to `files`; empty when they agree."""
    wanted = files | dict.fromkeys(stale(files, root), "")
    return "".join(
        line
        for path, text in wanted.items()
        for line in unified_diff(
            _read(root / path).splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"committed/{path}",
            f"derived/{path}",
        )
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
