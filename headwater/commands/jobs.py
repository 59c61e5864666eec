"""`headwater jobs`: submit, list and stop the Flink jobs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from flink_jobs.replay import encode_readings
from flink_jobs.rest import RunningJob
from headwater.commands.options import interrupted, print_table
from headwater.jobs import OLDER, Jobs
from headwater.settings import Settings
from headwater.unarchived import unarchived
from schemas.loading import load_repository

_STOPPING = (
    "a job that was asked to stop does so all the same, with a savepoint that `headwater jobs"
    " submit` goes on from; `headwater jobs list` says which run, `headwater jobs stop` stops those"
)

_CANCELLING = (
    "a job that was asked to end does so all the same; `headwater jobs list` says which run,"
    " `headwater jobs stop --cancel` ends those"
)

_names = click.argument("names", nargs=-1)


@click.group(name="jobs")
def jobs_group() -> None:
    """The Flink jobs that compute the features."""


def _jobs() -> Jobs:
    settings = Settings.read(os.environ)
    return Jobs(settings, load_repository(settings.repository))


@jobs_group.command()
@_names
@click.option("--from", "savepoint", help="Another savepoint or retained checkpoint, of one job.")
@click.option("--anew", is_flag=True, help="From the beginning of the log, whatever was written.")
def submit(names: tuple[str, ...], savepoint: str | None, anew: bool) -> None:
    """Submit the jobs called NAMES (all if none is named), each from where it was last.

    It waits while another command submits or stops jobs: each job runs once.

    What would write rows to Iceberg again is refused: a savepoint from before the job's last
    commit, and a job that wrote and left no trace of where it was. A job that is refused keeps no
    other from being submitted. Of a job that was lost for so long that Kafka may have dropped late
    rows of it that is said.
    """
    _jobs().submit(names, click.echo, savepoint, anew)


@jobs_group.command()
@_names
@click.option("--cancel", is_flag=True, help="Without a savepoint, such as of what always fails.")
def stop(names: tuple[str, ...], cancel: bool) -> None:
    """Stop the jobs called NAMES (all if none is named) with a savepoint.

    Also one that `jobs list` says is no longer declared: nothing else ends it. Of a job whose tasks
    fail again and again Flink makes no savepoint: --cancel ends it, and it goes on from its newest
    checkpoint.
    """
    with interrupted(lambda: _CANCELLING if cancel else _STOPPING):
        _jobs().stop(names, click.echo, cancel)


@jobs_group.command()
@click.argument("name")
@click.option("--file", type=click.Path(path_type=Path), help="Write it there, not to the output.")
def ends(name: str, file: Path | None) -> None:
    """Where the tables of the archive's job NAME end, for an application that begins there.

    One JSON document that `application.py --ends` reads: the offsets by stream and partition. A
    cluster's job begins there when its state does not fit its script any more.
    """
    jobs = _jobs()
    found = unarchived(jobs.settings, jobs.find(name), lambda text: click.echo(text, err=True))
    if file is None:
        click.echo(encode_readings(found))
    else:
        file.write_bytes(encode_readings(found))
        click.echo(f"{name}: {file} says where its tables end")


@jobs_group.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def list_(as_json: bool) -> None:
    """The jobs and their state; exits with 1 unless all run, and none beside those declared."""
    jobs = _jobs()
    running, undeclared = jobs.running(), jobs.undeclared()
    there = running | undeclared
    older = {name for name in running if jobs.is_changed(jobs.known[name])}
    if as_json:
        told = [
            asdict(job) | {"declared": name in running, "older": name in older}
            for name, job in there.items()
        ]
        click.echo(json.dumps(told, indent=2))
    else:
        print_table(_table([*jobs.known, *undeclared], there))
        for name, job in there.items():
            if job.state != "RUNNING" and (said := jobs.cluster.exception(job.id)):
                click.echo(f"{name}: {said}")
        for name in sorted(older):
            click.echo(f"{name} runs {OLDER}")
        for name in undeclared:
            click.echo(f"{name} is no longer declared: `headwater jobs stop {name}` ends it")
    well = len(running) == len(jobs.known) and all(j.state == "RUNNING" for j in running.values())
    sys.exit(0 if well and not undeclared else 1)


def _table(names: Iterable[str], there: Mapping[str, RunningJob]) -> Table:
    table = Table("job", "state", "since (UTC)", "id", box=None)
    for name in names:
        job = there.get(name)
        since = datetime.fromtimestamp(job.started / 1000, UTC) if job else None
        table.add_row(
            name,
            job.state if job else "does not run",
            f"{since:%Y-%m-%d %H:%M:%S}" if since else "",
            job.id if job else "",
        )
    return table
