"""The command line. Exit codes: 0 done, 1 a check failed, 2 wrong use or a wrong setting."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from headwater.plan import derive, difference, write
from headwater.repository import load
from schemas import HeadwaterError

FLIGHTS = "feature_repo.flights.repository:repository"


@click.group()
def headwater() -> None:
    """Features declared once, computed as streams, served live."""


@headwater.command()
@click.option("--check", is_flag=True, help="Write nothing; show the difference and exit with 1.")
@click.option("--root", type=click.Path(path_type=Path), default=Path(), help="The checkout.")
@click.option(
    "--repository",
    envvar="HEADWATER_REPOSITORY",
    default=FLIGHTS,
    show_default=True,
    show_envvar=True,
    help="module:attribute of the feature repository.",
)
def plan(check: bool, root: Path, repository: str) -> None:
    """Write what the declarations become, as text."""
    files = derive(load(repository))
    if check:
        diff = difference(files, root)
        click.echo(diff or f"The plan is up to date ({len(files)} files).", nl=not diff)
        sys.exit(1 if diff else 0)
    changed = write(files, root)
    for path in changed:
        click.echo(f"wrote {path}")
    click.echo(f"{len(changed)} of {len(files)} files changed.")


def main() -> None:
    """Entry point; a known error is one line on standard error."""
    try:
        headwater()
    except HeadwaterError as error:
        click.echo(f"headwater: {error}", err=True)
        sys.exit(2)
