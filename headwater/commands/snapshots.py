"""`headwater snapshots`: what the offline tables' history is, and back to a part of it."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import click
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from headwater.commands.options import moment
from headwater.settings import Settings
from headwater.stores import catalog
from iceberg.catalog import NAMESPACE
from iceberg.commits import TableBusy
from iceberg.lineage import by_id, of_branch
from schemas import SettingsError
from schemas.loading import load_repository

_view = click.argument("view")


@click.group()
def snapshots() -> None:
    """The snapshots of the views' Iceberg tables."""


@snapshots.command(name="list")
@_view
@click.option("-n", "count", default=20, show_default=True, help="How many, newest first.")
def list_(view: str, count: int) -> None:
    """The snapshots of a VIEW's table: when, what, rows added and rows in all."""
    table = _table(view)
    there = by_id(table)
    for entry in table.history()[-count:][::-1]:
        snapshot = there.get(entry.snapshot_id)
        said = snapshot.summary if snapshot else None
        added, total = (
            said.get(key) if said else None for key in ("added-records", "total-records")
        )
        click.echo(
            f"{_time(entry.timestamp_ms)} {entry.snapshot_id}"
            f" {said.operation.value if said else 'expired'}"
            f" +{added or 0} {total or '?'} rows"
        )


@snapshots.command()
@_view
@click.option(
    "--before", callback=moment, required=True, help="A time, ISO 8601, UTC if it says no zone."
)
def rollback(view: str, before: int) -> None:
    """Make the last snapshot of a VIEW's table before a time its current one.

    One that the current one was made from, and not one that was rolled back before. For a job that
    is to go back to an older savepoint; it must not run. Rows are not removed: the snapshots after
    it stay until they expire.
    """
    table = _table(view)
    chosen = _last_before(table, view, before)
    try:
        table.manage_snapshots().rollback_to_snapshot(chosen.snapshot_id).commit()
    except CommitFailedException as error:  # trying again would take back what was committed
        raise TableBusy(
            f"{view}: somebody else committed just now; stop the jobs that write it first"
        ) from error
    click.echo(
        f"{view} is as it was at {_time(chosen.timestamp_ms)}, snapshot {chosen.snapshot_id}"
    )


def _last_before(table: Table, view: str, before: int) -> Snapshot:
    """The newest snapshot that is older, among the current one and its ancestors."""
    line = list(of_branch(table))
    for snapshot in line:
        if snapshot.timestamp_ms < before:
            return snapshot
    oldest = f"; the oldest of those is of {_time(line[-1].timestamp_ms)}" if line else ""
    raise SettingsError(
        f"{view}: no snapshot is left from before {_time(before)} that the current one was made"
        f" from{oldest}"
    )


def _table(view: str) -> Table:
    settings = Settings.read(os.environ)
    (known,) = load_repository(settings.repository).named([view])
    return catalog(settings).load_table(f"{NAMESPACE}.{known.name}")


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:23] + "Z"
