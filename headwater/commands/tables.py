"""`headwater tables list | maintain | expire | wait`: care for the Iceberg tables."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, replace
from datetime import timedelta

import click
from pyiceberg.catalog import Catalog
from rich.table import Table

from headwater.commands.options import print_table, with_style
from headwater.settings import Settings
from headwater.stores import catalog
from iceberg.catalog import CatalogUnavailable, declared, table_names
from iceberg.maintenance import Care, Done, TableState, expire, maintain, states, utc_now
from observability import tables as observed
from observability.textfile import exposition
from schemas import SettingsError
from schemas.loading import load_repository

_names = click.argument("names", nargs=-1)
_snapshots = click.option(
    "--keep-snapshots",
    "snapshots",
    default=Care().keep_snapshots / timedelta(hours=1),
    show_default=True,
    help="Hours. Each commit of a job writes all of them anew.",
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.group()
def tables() -> None:
    """The Iceberg tables: what they look like, and care for them."""


def _known(names: tuple[str, ...]) -> tuple[Catalog, list[str]]:
    found = catalog(Settings.read(os.environ))
    known = table_names(found)
    for name in names:
        if name not in known:
            raise SettingsError(f"no table {name!r}; choices: {', '.join(known)}")
    return found, list(names) or known


@tables.command(name="list")
@_names
@with_style
def list_(names: tuple[str, ...], style: str) -> None:
    """Rows, files, snapshots and the last commit of the tables called NAMES, or of all."""
    tables, wanted = _known(names)
    found = states(tables, wanted, Care(), utc_now())
    if style == "json":
        click.echo(json.dumps([asdict(state) for state in found], indent=2))
    elif style == "prometheus":
        click.echo(exposition(observed.metrics(asdict(state) for state in found)), nl=False)
    else:
        print_table(_table(found))


@tables.command(name="maintain")
@_names
@click.option(
    "--target-mb",
    default=Care().target_bytes >> 20,
    show_default=True,
    help="Size files are put together to. It takes up to twenty times of it in memory.",
)
@click.option(
    "--min-files", default=5, show_default=True, help="Small ones in a partition, or more."
)
@_snapshots
@click.option(
    "--keep-orphans",
    "orphans",
    default=72.0,
    show_default=True,
    help="Hours. Never shorter than a job may take from writing a file to committing it.",
)
@_json
def maintain_(
    names: tuple[str, ...],
    target_mb: int,
    min_files: int,
    snapshots: float,
    orphans: float,
    as_json: bool,
) -> None:
    """Put small files together, forget old snapshots, remove orphans; safe beside running jobs."""
    care = replace(
        Care(),
        target_bytes=target_mb << 20,
        min_files=max(2, min_files),
        keep_snapshots=timedelta(hours=snapshots),
        keep_orphans=timedelta(hours=orphans),
    )
    found, wanted = _known(names)
    done: list[Done] = []
    for name in wanted:
        done.append(maintain(found, name, care, utc_now()))
        if not as_json:
            one = done[-1]
            click.echo(
                f"{name}: {one.files_before} files became {one.files_after},"
                f" {one.snapshots} snapshots expired, {one.orphans} orphans removed"
            )
    if as_json:
        click.echo(json.dumps([asdict(one) for one in done], indent=2))


@tables.command(name="expire")
@_names
@_snapshots
@_json
def expire_(names: tuple[str, ...], snapshots: float, as_json: bool) -> None:
    """Forget old snapshots, and nothing else: the part of `maintain` that is due every hour."""
    care = replace(Care(), keep_snapshots=timedelta(hours=snapshots))
    found, wanted = _known(names)
    expired: dict[str, int] = {}
    for name in wanted:
        expired[name] = expire(found, name, care, utc_now())
        if not as_json:
            click.echo(f"{name}: {expired[name]} snapshots expired")
    if as_json:
        click.echo(json.dumps(expired, indent=2))


@tables.command(name="wait")
@click.option("--seconds", default=600.0, show_default=True, help="For so long at most.")
def wait_(seconds: float) -> None:
    """Wait until every declared table is there; exits with 1 if one is missing at the end."""
    settings = Settings.read(os.environ)
    deadline = time.monotonic() + seconds
    said = ""
    while missing := _missing(settings):
        if time.monotonic() >= deadline:
            sys.exit(f"{missing}, for {seconds:.0f} s: `headwater apply tables` makes them")
        if missing != said:
            click.echo(said := missing)
        time.sleep(min(2, seconds))
    click.echo("every table is there")


def _missing(settings: Settings) -> str:
    """What is wrong with the tables; nothing when all are there."""
    from sqlalchemy.exc import SQLAlchemyError

    wanted = declared(load_repository(settings.repository))
    try:
        there = table_names(catalog(settings))
    except (CatalogUnavailable, SQLAlchemyError) as error:
        return str(error)
    missing = [name for name in wanted if name not in there]
    return f"no table {', '.join(missing)}" if missing else ""


def _table(found: list[TableState]) -> Table:
    table = Table(*("table", "rows", "files", "small", "MB", "snapshots", "since commit"), box=None)
    for state in found:
        since = state.seconds_since_commit
        table.add_row(
            state.name,
            f"{state.rows:,}",
            str(state.files),
            str(state.small_files),
            f"{state.bytes / 1e6:,.1f}",
            str(state.snapshots),
            "never" if since is None else f"{since:,.0f} s",
        )
    return table
