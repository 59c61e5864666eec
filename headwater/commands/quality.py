"""`headwater quality`: what became of the expectations of streams and views."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import click
from rich.table import Table

from headwater.commands.options import print_table, with_style, with_window
from headwater.settings import Settings
from headwater.stores import catalog
from iceberg.quality import kept
from observability import quality as observed
from observability.textfile import exposition
from schemas import SettingsError
from schemas.loading import load_repository


@click.command()
@click.argument("names", nargs=-1)
@with_window("Windows that begin then")
@with_style
def quality(names: tuple[str, ...], start: int | None, end: int | None, style: str) -> None:
    """How often the expectations of NAMES, or of all, were broken: STREAM or view.VIEW.

    Exits with 1 if any was, but not for Prometheus: its alert ExpectationsBroken says so. Where
    nothing declares `checked` it says so, and that is well.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    for name in names:
        if name not in repository.checked:
            choices = ", ".join(repository.checked)
            raise SettingsError(f"nothing is checked of {name!r}; choices: {choices}")
    found = []
    if repository.checked:
        rows = kept(catalog(settings), repository, start, end)
        found = [one for one in rows if not names or one.source in names]
    else:
        click.echo(f"{repository.name}: nothing declares `checked`", err=True)
    told = [asdict(one) for one in found]
    if style == "prometheus":
        click.echo(exposition(observed.metrics(told)), nl=False)
        return
    if style == "json":
        click.echo(json.dumps(told, indent=2))
    else:
        table = Table("source", "expectation", "windows", "events", "broken", "until", box=None)
        for one in found:
            counts = (f"{n:,}" for n in (one.windows, one.events, one.broken))
            table.add_row(one.source, one.expectation, *counts, one.newest_end)
        print_table(table)
    sys.exit(1 if any(one.broken for one in found) else 0)
