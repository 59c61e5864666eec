"""`headwater online rebuild`: Redis, filled again from Iceberg."""

from __future__ import annotations

import json
import os
import time

import click
import redis

from flink_jobs.rest import FlinkCluster, FlinkError
from headwater.jobs import Jobs
from headwater.online import rebuild
from headwater.settings import Settings
from headwater.stores import catalog
from schemas import SettingsError
from schemas.loading import load_repository

_SECONDS = 120


@click.group()
def online() -> None:
    """The online store."""


@online.command(name="rebuild")
@click.argument("views", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def rebuild_(views: tuple[str, ...], as_json: bool) -> None:
    """Fill Redis again from Iceberg with the newest values of VIEWS, or of all.

    For a Redis that has lost its data. It waits until the running jobs have committed what they
    had written before the loss; what they write meanwhile is newer and stays.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    known = {view.name: view for view in repository.views}
    for name in views:
        if name not in known:
            raise SettingsError(f"no view {name!r}; choices: {', '.join(known)}")
    jobs = Jobs(settings, repository)
    for job in jobs.running().values():
        _await_commit(jobs.cluster, job.id)
    tables, written = catalog(settings), {}
    with redis.Redis(port=settings.ports.redis) as client:
        for name in views or known:
            written[name] = rebuild(tables, client, known[name], repository.name)
            if not as_json:
                click.echo(f"{name}: {written[name]} entities")
    if as_json:
        click.echo(json.dumps(written))


def _await_commit(cluster: FlinkCluster, job: str) -> None:
    """Two checkpoints from now the first is committed in Iceberg."""
    wanted = _completed(cluster, job) + 2
    deadline = time.monotonic() + _SECONDS
    while _completed(cluster, job) < wanted:
        if time.monotonic() > deadline:
            raise FlinkError(f"job {job} has made no two checkpoints in {_SECONDS} s")
        time.sleep(0.5)


def _completed(cluster: FlinkCluster, job: str) -> int:
    return int(cluster.get(f"/jobs/{job}/checkpoints")["counts"]["completed"])
