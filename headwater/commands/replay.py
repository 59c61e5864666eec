"""`headwater replay`: backfills."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from headwater.commands.data import moment
from headwater.replays.journal import Replay
from headwater.replays.promote import Moved
from headwater.replays.run import ReplayError, Replays
from headwater.replays.verify import ViewReport
from headwater.settings import Settings
from schemas.loading import load_repository

_views = click.argument("views", nargs=-1, required=True)
_from = click.option("--from", "start", callback=moment, required=True, help="ISO 8601, UTC.")
_to = click.option("--to", "end", callback=moment, required=True, help="Up to, not including.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document.")
_id = click.argument("replay_id")


@click.group()
def replay() -> None:
    """Compute a span of the past again, beside the live jobs."""


def _replays() -> Replays:
    settings = Settings.read(os.environ)
    return Replays(settings, load_repository(settings.repository))


@replay.command()
@_views
@_from
@_to
@_json
def plan(views: tuple[str, ...], start: int, end: int, as_json: bool) -> None:
    """What replaying VIEWS would read; changes nothing. Exits with 1 if the log has a gap."""
    found = _replays().plan(views, start, end)
    if as_json:
        click.echo(json.dumps([asdict(source) for source in found], indent=2))
    else:
        for source in found:
            before = source.warm_up_seconds
            warm = "from the beginning of the log" if before is None else f"{before:,} s before"
            click.echo(f"{source.topic}: {source.rows:,} rows, warm-up {warm}")
            click.echo(f"  views: {', '.join(source.views)}")
            for partition, (first, last) in source.offsets.items():
                click.echo(f"  partition {partition}: offsets {first:,} to {last:,}")
            if source.gap:
                click.echo(f"  {source.gap}")
    sys.exit(1 if any(source.gap for source in found) else 0)


@replay.command()
@_views
@_from
@_to
@_json
def run(views: tuple[str, ...], start: int, end: int, as_json: bool) -> None:
    """Replay VIEWS over a span and follow it to its end.

    The replay goes on if this command is killed: `headwater replay follow ID`.
    """
    replays = _replays()
    begun = replays.start(views, start, end, lambda text: click.echo(text, err=True))
    _follow(replays, begun, as_json)


@replay.command()
@_id
@_json
def follow(replay_id: str, as_json: bool) -> None:
    """Follow a replay to its end."""
    replays = _replays()
    _follow(replays, replays.journal.find(replay_id), as_json)


@replay.command(name="list")
@_json
def list_(as_json: bool) -> None:
    """All replays, oldest first."""
    found = _replays().journal.all()
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    table = Table("replay", "state", "views", "from", "to", box=None)
    for one in found:
        table.add_row(one.id, one.state, ", ".join(one.views), _iso(one.start), _iso(one.end))
    Console().print(table)


@replay.command()
@_id
def cancel(replay_id: str) -> None:
    """End a replay; what it has written stays until `drop`."""
    replays = _replays()
    replays.cancel(replays.journal.find(replay_id))
    click.echo(f"replay {replay_id} is cancelled")


@replay.command()
@_id
def drop(replay_id: str) -> None:
    """Remove all that a replay has written."""
    replays = _replays()
    found = replays.journal.find(replay_id)
    keys = replays.drop(found)
    click.echo(f"replay {replay_id}: {len(found.views)} branches and {keys:,} Redis keys removed")


@replay.command()
@_id
def promote(replay_id: str) -> None:
    """Put a replay's values in the place of live ones, offline and online.

    Killed on the way, it is finished by the same command.
    """
    replays = _replays()
    _moved(replay_id, "promoted", replays.promote(replays.journal.find(replay_id)))


@replay.command()
@_id
def rollback(replay_id: str) -> None:
    """Put back what the values were before a replay was promoted."""
    replays = _replays()
    _moved(replay_id, "rolled back", replays.roll_back(replays.journal.find(replay_id)))


def _moved(replay_id: str, done: str, moved: dict[str, Moved]) -> None:
    for view, found in moved.items():
        click.echo(f"{view}: {found.rows:,} rows offline, {found.entities:,} entities online")
    click.echo(f"replay {replay_id} is {done}")


@replay.command()
@_id
@_json
def verify(replay_id: str, as_json: bool) -> None:
    """Compare a replay with what live wrote, row for row; exits with 1 on a difference."""
    replays = _replays()
    reports = replays.verify(replays.journal.find(replay_id))
    if as_json:
        click.echo(json.dumps({name: asdict(found) for name, found in reports.items()}, indent=2))
    else:
        for name, found in reports.items():
            _show(name, found)
    sys.exit(0 if all(found.equal for found in reports.values()) else 1)


def _follow(replays: Replays, begun: Replay, as_json: bool) -> None:
    bar = Progress(
        TextColumn(f"replay {begun.id}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
        disable=as_json,
    )
    state, rows = begun.state, 0
    with bar:
        task = bar.add_task("", total=1.0, told="starting")
        for now in replays.follow(begun):
            left = "" if now.seconds_left is None else f", {now.seconds_left:.0f} s left"
            told = f"{now.rows:,} rows, {now.rows_per_second:,.0f}/s{left}"
            bar.update(task, completed=now.share, told=told)
            state, rows = now.state, now.rows
    if as_json:
        click.echo(json.dumps({"id": begun.id, "state": state, "rows": rows}))
    if state == "failed":
        raise ReplayError(f"replay {begun.id} failed: {replays.failure(begun)}")
    if not as_json:
        click.echo(
            f"replay {begun.id} is {state}; `headwater replay verify {begun.id}` compares it"
        )


def _show(name: str, found: ViewReport) -> None:
    told = "equal in every row" if found.equal else "differs"
    click.echo(
        f"{name}: {told}; {found.live:,} rows live, {found.replayed:,} replayed,"
        f" {found.missing:,} missing, {found.extra:,} extra"
    )
    for feature, report in found.features.items():
        if report.changed:
            click.echo(f"  {feature}: {report.changed:,} changed, {report.equal:,} equal")
            for one in report.largest:
                keys = ", ".join(f"{k}={v}" for k, v in one.keys.items())
                click.echo(f"    {keys} at {one.event_time}: {one.live!r} -> {one.replayed!r}")


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
