"""`headwater snapshots`: what the offline tables' history is, and back to a part of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

import click
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update.snapshot import ManageSnapshots

from headwater.commands.options import moment
from headwater.replays.journal import Journal
from headwater.rollback import check_promotions, stopped, views_of
from headwater.savepoints import Savepoint, check_not_behind
from headwater.settings import Settings
from headwater.stores import catalog
from iceberg.catalog import NAMESPACE
from iceberg.commits import TableBusy
from iceberg.lineage import by_id, of_branch
from iceberg.together import commit_each
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
@click.argument("views", nargs=-1)
@click.option("--before", callback=moment, help="A time, ISO 8601, UTC if it says no zone.")
@click.option("--savepoint", help="A savepoint's path: the tables go back to where it left them.")
def rollback(views: tuple[str, ...], before: int | None, savepoint: str | None) -> None:
    """Make an earlier snapshot of each VIEW's table its current one.

    The last one before a time, or the one that a job's savepoint left, of all its views if none is
    named: the job goes on from there then. One that the current one was made from, and not one that
    was rolled back before. No job may run that writes it. Rows are not removed: the snapshots after
    it stay until they expire, and `set` takes that back.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    tables, known = catalog(settings), repository.named(views)
    choose: Callable[[Table, str], Snapshot]
    if before is not None and savepoint is None:
        if not known:
            raise SettingsError("name the views that go back to before a time")
        choose = partial(_last_before, before=before)
    elif savepoint is not None and before is None:
        left = Savepoint.read(savepoint, tables.properties)
        known = [*views_of(tables, repository, left, known)]
        choose = partial(_left, savepoint=left)
    else:
        raise SettingsError("--before goes back to a time, and --savepoint to a job's: choose one")
    with stopped(settings, repository, known, click.echo):
        there = {view.name: tables.load_table(f"{NAMESPACE}.{view.name}") for view in known}
        chosen = {name: (table, choose(table, name)) for name, table in there.items()}
        _make_current(settings, tables, chosen)


@snapshots.command(name="set")
@_view
@click.argument("snapshot", type=int)
def set_(view: str, snapshot: int) -> None:
    """Make any SNAPSHOT that a VIEW's table was at, and that is still there, its current one.

    Such as the one that a roll-back was from. No job may run that writes it.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    tables = catalog(settings)
    with stopped(settings, repository, repository.named([view]), click.echo):
        table = tables.load_table(f"{NAMESPACE}.{view}")
        chosen = by_id(table).get(snapshot)
        if chosen is None or snapshot not in {entry.snapshot_id for entry in table.history()}:
            raise SettingsError(
                f"{view} was never at a snapshot {snapshot}, or it has expired; `headwater"
                f" snapshots list {view}` says which there are"
            )
        _make_current(settings, tables, {view: (table, chosen)})


def _make_current(
    settings: Settings, catalog: Catalog, wanted: Mapping[str, tuple[Table, Snapshot]]
) -> None:
    """Make each view's snapshot its table's current one, and say what that changes.

    Of all or none; in a REST catalog one after the other.
    """
    moving, replays = {}, Journal(settings.state / "replays").there()
    for view, (table, chosen) in wanted.items():
        now = table.current_snapshot()
        if now is not None and now.snapshot_id == chosen.snapshot_id:
            click.echo(f"{view} is there already: snapshot {chosen.snapshot_id}")
            continue
        check_promotions(table, view, chosen, replays, click.echo)
        transaction = table.transaction()
        ManageSnapshots(transaction).set_current_snapshot(chosen.snapshot_id).commit()
        moving[view] = transaction
    try:
        commit_each(catalog, list(moving.values()))
    except CommitFailedException as error:  # trying again would take back what was committed
        raise TableBusy(
            f"{', '.join(moving)}: somebody else committed just now; stop the jobs that write there"
            f" first, and try again ({error})"
        ) from error
    for view in moving:
        table, chosen = wanted[view]
        now = table.current_snapshot()
        was = "" if now is None else f"; it was at {_time(now.timestamp_ms)}, {now.snapshot_id}"
        click.echo(
            f"{view} is as it was at {_time(chosen.timestamp_ms)}, snapshot {chosen.snapshot_id}"
            f"{was}"
        )


def _left(table: Table, view: str, savepoint: Savepoint) -> Snapshot:
    """The snapshot that a savepoint left; RolledBack if the table went back past that before."""
    check_not_behind(table, f"{NAMESPACE}.{view}", savepoint)
    if (chosen := savepoint.left(table)) is None:
        raise SettingsError(
            f"{view}: no snapshot is left from before {savepoint.path} that the current one was"
            " made from"
        )
    return chosen


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
