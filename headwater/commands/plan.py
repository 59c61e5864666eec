"""`headwater plan`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from flink_jobs.place import digest
from flink_jobs.sql import job_sql, jobs
from headwater.settings import Settings
from schemas import Repository
from schemas.loading import load_repository


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; show the difference and exit with 1.")
@click.option(
    "--sql",
    "expected",
    multiple=True,
    metavar="JOB=SHA-256",
    help="With --check: a job's script that a deployment expects; all of them, if one is given.",
)
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="The checkout.")
@click.option(
    "--repository",
    envvar="HEADWATER_REPOSITORY",
    help=f"module:attribute of the feature repository; {Settings.repository} by default.",
)
def plan(check: bool, expected: tuple[str, ...], root: Path, repository: str | None) -> None:
    """Write what the declarations become, as text."""
    # Feast takes seconds to import
    from headwater.plan import derive, difference, stale, upgrades, write

    declared = load_repository(repository or Settings.read(os.environ).repository)
    if check and expected:
        _as_expected(
            declared, {name: sql for name, _, sql in (one.partition("=") for one in expected)}
        )
    files = derive(declared)
    told = upgrades(files, root)
    if check:
        diff = difference(files, root)
        click.echo(diff or f"The plan is up to date ({len(files)} files).", nl=not diff)
        for line in told:
            click.echo(line)
        sys.exit(1 if diff else 0)
    removed = stale(files, root)
    changed = write(files, root)
    for path in changed:
        click.echo(f"wrote {path}")
    for path in removed:
        click.echo(f"removed {path}")
    for line in told:
        click.echo(line)
    click.echo(f"{len(changed)} of {len(files)} files changed.")


def _as_expected(repository: Repository, expected: dict[str, str]) -> None:
    """Exits with 1 where a job's script is not the one that a deployment expects."""
    ours = {job.name: digest(job_sql(job)) for job in jobs(repository)}
    others = sorted(name for name in ours.keys() | expected if ours.get(name) != expected.get(name))
    for name in others:
        click.echo(
            f"{name}: the script is {ours.get(name, 'not there')} here,"
            f" {expected.get(name, 'none')} is expected"
        )
    if others:
        sys.exit("these declarations and the deployment's plan are not of one version")
