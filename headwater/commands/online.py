"""`headwater online rebuild`: Redis, filled again from Iceberg."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable

import click

from flink_jobs.rest import FlinkError
from headwater.jobs import Jobs
from headwater.online import rebuild
from headwater.settings import Settings
from headwater.stores import catalog
from headwater.stores import online as store
from schemas.loading import load_repository

_SECONDS = 120


@click.group()
def online() -> None:
    """The online store."""


@online.command(name="rebuild")
@click.argument("views", nargs=-1)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    help="Seconds to wait, and ask no Flink: for jobs on clusters of their own.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def rebuild_(views: tuple[str, ...], wait: float | None, as_json: bool) -> None:
    """Fill Redis again from Iceberg with the newest values of VIEWS, or of all.

    For a Redis that has lost its data. It waits until the running jobs have committed what they
    had written before the loss; what they write meanwhile is newer and stays.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    chosen = repository.named(views) or repository.views
    if wait is None:
        _await_commits(Jobs(settings, repository), [view.name for view in chosen])
    else:
        time.sleep(wait)
    tables, written = catalog(settings), {}
    with store(settings) as client:
        for view in chosen:
            written[view.name] = rebuild(tables, client, view, repository.name)
            if not as_json:
                click.echo(f"{view.name}: {written[view.name]} entities")
    if as_json:
        click.echo(json.dumps(written))


def _await_commits(jobs: Jobs, views: Iterable[str]) -> None:
    chosen = set(views)
    running = [
        job.id
        for job in jobs.running().values()
        if any(view.name in chosen for view in jobs.known[job.name].views)
    ]
    # When the second is complete, the first is committed in Iceberg.
    if behind := set(running) - jobs.cluster.checkpoint(running, 2, _SECONDS).keys():
        raise FlinkError(
            f"{', '.join(sorted(behind))}: no two checkpoints in {_SECONDS} s;"
            " `headwater jobs list` says what the job is doing"
        )
