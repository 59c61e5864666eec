"""`headwater plan`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from headwater.settings import Settings
from schemas.loading import load_repository


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; show the difference and exit with 1.")
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="The checkout.")
@click.option(
    "--repository",
    envvar="HEADWATER_REPOSITORY",
    help=f"module:attribute of the feature repository; {Settings.repository} by default.",
)
def plan(check: bool, root: Path, repository: str | None) -> None:
    """Write what the declarations become, as text."""
    from headwater.plan import derive, difference, upgrades, write  # Feast takes seconds to import

    files = derive(load_repository(repository or Settings.read(os.environ).repository))
    told = upgrades(files, root)
    if check:
        diff = difference(files, root)
        click.echo(diff or f"The plan is up to date ({len(files)} files).", nl=not diff)
        for line in told:
            click.echo(line)
        sys.exit(1 if diff else 0)
    changed = write(files, root)
    for path in changed:
        click.echo(f"wrote {path}")
    for line in told:
        click.echo(line)
    click.echo(f"{len(changed)} of {len(files)} files changed.")
