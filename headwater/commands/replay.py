"""`headwater replay`: backfills."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

import click
from prometheus_client import start_http_server
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from headwater.commands.options import interrupted, moment, print_table
from headwater.refusals import Refusals
from headwater.replays.holdings import Freed
from headwater.replays.journal import Replay
from headwater.replays.page import page
from headwater.replays.plan import SOURCES, ReplayError, Wanted
from headwater.replays.progress import Progress as Now
from headwater.replays.promote import Moved
from headwater.replays.reports import Thresholds, ViewReport, passed
from headwater.replays.run import Replays, as_dict
from headwater.settings import Settings
from observability.replays import ReplayMetrics
from schemas.loading import load_repository


def _keys(
    _: click.Context, __: click.Parameter, texts: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """`column=a,b` as a column and its values."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        column, equals, values = text.partition("=")
        if not equals or not values:
            raise click.BadParameter(f"{text!r}: expected COLUMN=VALUE,VALUE")
        found[column] = found.get(column, ()) + tuple(values.split(","))
    return found


_views = click.argument("views", nargs=-1, required=True)
_from = click.option("--from", "start", callback=moment, required=True, help="ISO 8601, UTC.")
_to = click.option(
    "--to", "end", callback=moment, help="Up to, not including; without it, to now, and on."
)
_keys_option = click.option(
    "--keys", multiple=True, callback=_keys, help="COLUMN=VALUE,VALUE: just these entities."
)
_source = click.option(
    "--source",
    type=click.Choice(SOURCES),
    default="auto",
    show_default=True,
    help="The log's part.",
)
_as_of = click.option(
    "--as-of", callback=moment, help="ISO 8601, UTC: just the events archived before."
)
_rate = click.option("--rate", type=click.FloatRange(min=1), help="Records a second at most.")
_max_p99 = click.option(
    "--max-p99", type=click.FloatRange(min=0.1), help="Slow down while the API's p99 is over, ms."
)
_max_lag = click.option(
    "--max-lag",
    type=click.IntRange(min=1),
    help="Slow down while a live job has more records to read.",
)
_metrics_port = click.option(
    "--metrics-port", type=click.IntRange(1, 65_535), help="Serve the progress to Prometheus."
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document.")
_id = click.argument("replay_id")


@click.group()
def replay() -> None:
    """Compute a span of the past again, beside the live jobs."""


def _replays() -> Replays:
    settings = Settings.read(os.environ)
    return Replays(settings, load_repository(settings.repository))


def _note(text: str) -> None:
    click.echo(text, err=True)


@replay.command()
@_views
@_from
@_to
@_keys_option
@_source
@_as_of
@_rate
@_json
def plan(
    views: tuple[str, ...],
    start: int,
    end: int | None,
    keys: dict[str, tuple[str, ...]],
    source: str,
    as_of: int | None,
    rate: float | None,
    as_json: bool,
) -> None:
    """What replaying VIEWS would read; changes nothing. Exits with 1 if the log has a gap."""
    found = _replays().plan(Wanted(views, start, end, keys, source, as_of), rate)
    if as_json:
        click.echo(json.dumps(as_dict(found), indent=2))
        sys.exit(1 if found.gap else 0)
    for one in found.sources:
        before = one.warm_up_seconds
        warm = "from the beginning of the log" if before is None else f"{before:,} s before"
        click.echo(f"{one.topic}: {one.rows:,} rows, {one.bytes / 1e6:,.1f} MB, warm-up {warm}")
        click.echo(f"  views: {', '.join(one.views)}")
        for place, offsets in (("archive", one.archive), ("Kafka", one.log)):
            for partition, (first, last) in offsets.items():
                click.echo(f"  partition {partition}: offsets {first:,} to {last:,} from {place}")
        if one.gap:
            click.echo(f"  {one.gap}")
    how = f"as {found.measured} replays before" if found.measured else "a guess: none was measured"
    click.echo(f"about {found.seconds:,.0f} s at {found.records_per_second:,.0f} rows/s ({how})")
    if found.state_bytes is not None:
        click.echo(f"state: up to {found.state_bytes / 1e6:,.1f} MB, as the live jobs have")
    sys.exit(1 if found.gap else 0)


@replay.command()
@_views
@_from
@_to
@_keys_option
@_source
@_as_of
@_rate
@_max_p99
@_max_lag
@_metrics_port
@click.option(
    "--promote",
    "and_promote",
    is_flag=True,
    help="Then promote it and bring the live jobs up to date.",
)
@_json
def run(
    views: tuple[str, ...],
    start: int,
    end: int | None,
    keys: dict[str, tuple[str, ...]],
    source: str,
    as_of: int | None,
    rate: float | None,
    max_p99: float | None,
    max_lag: int | None,
    metrics_port: int | None,
    and_promote: bool,
    as_json: bool,
) -> None:
    """Replay VIEWS over a span and follow it to its end.

    The replay goes on if this command is killed: `headwater replay follow ID`.
    """
    replays = _replays()
    wanted = Wanted(views, start, end, keys, source, as_of)
    with interrupted(lambda: "`headwater replay list` says whether it has begun, and so goes on"):
        begun = replays.start(wanted, _note, rate, max_p99, max_lag)
    if not and_promote:
        _follow(replays, begun, as_json, metrics_port)
        return
    with interrupted(lambda: _to_promote(begun.id)):
        _follow(replays, begun, as_json, metrics_port, told=not as_json)
        moved = replays.promote(replays.journal.find(begun.id), _note)
        replays.upgrade(replays.journal.find(begun.id), _note)
    _moved(begun.id, "promoted", moved, as_json)


def _to_promote(id_: str) -> str:
    return f"once it is done, `headwater replay promote {id_} --upgrade` does what is left"


@replay.command()
@_id
@_metrics_port
@_json
def follow(replay_id: str, metrics_port: int | None, as_json: bool) -> None:
    """Follow a replay to its end, or until it has caught up with the log."""
    replays = _replays()
    _follow(replays, replays.journal.find(replay_id), as_json, metrics_port)


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
    print_table(table)


@replay.command()
@_id
@_json
def show(replay_id: str, as_json: bool) -> None:
    """One replay: what it is, how far it is, what it holds. Exits with 1 if it has failed."""
    replays = _replays()
    found = replays.journal.find(replay_id)
    try:
        progress = replays.progress(found)
        problem = replays.failure(found) if progress.state == "failed" else ""
    except ReplayError as error:
        progress, problem = None, str(error)
    if as_json:
        shown = asdict(found) | {
            "progress": None if progress is None else asdict(progress),
            "problem": problem,
        }
        click.echo(json.dumps(shown, indent=2))
    else:
        click.echo(f"replay {found.id} is {progress.state if progress else found.state}")
        click.echo(f"  views: {', '.join(found.views)}")
        click.echo(f"  from {_iso(found.start)} to {_iso(found.end)}")
        for column, values in found.keys.items():
            click.echo(f"  only {column}: {', '.join(map(str, values))}")
        for name, id_ in found.jobs.items():
            click.echo(f"  job {name}: {id_ or 'not submitted'}")
        if progress is not None:
            click.echo(f"  {progress.share:.0%}, {progress.rows:,} of {found.planned:,} rows")
        if problem:
            click.echo(f"  {problem}")
    sys.exit(1 if problem else 0)


@replay.command()
@_id
@_json
def pause(replay_id: str, as_json: bool) -> None:
    """Stop a replay with savepoints that `resume` goes on from."""
    replays = _replays()
    _state(replays.pause(replays.journal.find(replay_id), _note), as_json)


@replay.command()
@_id
@_json
def resume(replay_id: str, as_json: bool) -> None:
    """Go on with a replay that was paused or cancelled, or whose command or cluster was lost."""
    replays = _replays()
    _follow(replays, replays.resume(replays.journal.find(replay_id), _note), as_json)


@replay.command()
@_id
@_json
def cancel(replay_id: str, as_json: bool) -> None:
    """End a replay; what it has written stays until `drop`."""
    replays = _replays()
    _state(replays.cancel(replays.journal.find(replay_id)), as_json)


@replay.command()
@_id
@click.argument("records_per_second", type=click.FloatRange(min=1), required=False)
@_json
def rate(replay_id: str, records_per_second: float | None, as_json: bool) -> None:
    """Hold a running replay to RECORDS_PER_SECOND; without it, let it go as fast as it can."""
    replays = _replays()
    _state(replays.set_rate(replays.journal.find(replay_id), records_per_second), as_json)


@replay.command()
@_id
@_json
def drop(replay_id: str, as_json: bool) -> None:
    """Remove all that a replay has written; of one that was promoted, all but its values."""
    replays = _replays()
    _freed([replays.drop(replays.journal.find(replay_id))], as_json, "dropped")


@replay.command()
@click.option("--older-than", type=click.FloatRange(min=0), default=7.0, help="Days; 7 if not set.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; say what would be freed.")
@_json
def prune(older_than: float, dry_run: bool, as_json: bool) -> None:
    """Drop the replays that have ended and began OLDER_THAN days ago, and say what that frees.

    A promoted replay keeps its values, and can no longer be rolled back.
    """
    refusals = Refusals()
    freed = _replays().prune(older_than * 86_400, dry_run, refusals)
    _freed(freed, as_json, "would be dropped" if dry_run else "dropped")
    refusals.tell()


def _freed(freed: list[Freed], as_json: bool, what: str) -> None:
    if as_json:
        click.echo(json.dumps([asdict(one) for one in freed], indent=2))
        return
    for one in freed:
        click.echo(
            f"replay {one.id} ({one.state}) {what}: {one.redis_keys:,} Redis keys of about"
            f" {one.redis_bytes / 1e6:,.1f} MB, {one.disk_bytes / 1e6:,.1f} MB of files"
        )
    if not freed:
        click.echo("nothing to drop")


@replay.command()
@_id
@click.option("--upgrade", is_flag=True, help="Then bring the live jobs to the declarations.")
@click.option("--anew", is_flag=True, help="The same, with no state: theirs lacks what came late.")
@_json
def promote(replay_id: str, upgrade: bool, anew: bool, as_json: bool) -> None:
    """Put a replay's values in the place of live ones, offline and online.

    Killed on the way, it is finished by the same command.
    """
    replays = _replays()
    moved = replays.promote(replays.journal.find(replay_id), _note)
    if upgrade or anew:
        replays.upgrade(replays.journal.find(replay_id), _note, anew)
    _moved(replay_id, "promoted", moved, as_json)


@replay.command()
@_id
@_json
def rollback(replay_id: str, as_json: bool) -> None:
    """Put back what the values were before a replay was promoted."""
    replays = _replays()
    moved = replays.roll_back(replays.journal.find(replay_id), _note)
    _moved(replay_id, "rolled back", moved, as_json)


def _state(found: Replay, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"id": found.id, "state": found.state}))
    else:
        click.echo(f"replay {found.id} is {found.state}")


def _moved(replay_id: str, done: str, moved: dict[str, Moved], as_json: bool) -> None:
    if as_json:
        told = {view: asdict(found) for view, found in moved.items()}
        click.echo(json.dumps({"id": replay_id, "state": done, "moved": told}))
        return
    for view, found in moved.items():
        click.echo(f"{view}: {found.rows:,} rows offline, {found.entities:,} entities online")
    click.echo(f"replay {replay_id} is {done}")


_share = click.FloatRange(0, 1)


@replay.command()
@_id
@click.option("--max-changed", type=_share, default=0.0, help="Share of rows, of each feature.")
@click.option("--max-missing", type=_share, default=0.0, help="Share of rows live alone has.")
@click.option("--max-extra", type=_share, default=0.0, help="Share of rows the replay alone has.")
@_json
def verify(
    replay_id: str, max_changed: float, max_missing: float, max_extra: float, as_json: bool
) -> None:
    """Compare a replay with what live wrote, row for row.

    Exits with 1 if more differs than is allowed, which is nothing by default, and if no view has a
    row to compare. Leaves a report as JSON and as a page with plots.
    """
    replays = _replays()
    found = replays.journal.find(replay_id)
    allowed = Thresholds(max_changed, max_missing, max_extra)
    with _bar(as_json) as bar:
        reports = replays.verify(found, _compared(bar))
    document = json.dumps({name: asdict(one) for name, one in reports.items()}, indent=2)
    folder = replays.journal.folder(found)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(document + "\n", "utf-8")
    (folder / "report.html").write_text(page(found, reports, allowed), "utf-8")
    if as_json:
        click.echo(document)
    else:
        for name, one in reports.items():
            _show(name, one)
        click.echo(f"report: {folder / 'report.html'}")
    sys.exit(0 if passed(reports.values(), allowed) else 1)


def _compared(bar: Progress) -> Callable[[str, int, int], None]:
    """Shows of each view how many of its rows are compared."""
    tasks: dict[str, TaskID] = {}

    def told(view: str, done: int, rows: int) -> None:
        if view not in tasks:
            tasks[view] = bar.add_task(view, told="")
        elapsed = bar.tasks[tasks[view]].elapsed or 0
        rate = done / max(elapsed, 0.001)
        left = f", {(rows - done) / rate:.0f} s left" if 0 < done < rows else ""
        text = f"{done:,} of {rows:,} rows, {rate:,.0f}/s{left}"
        bar.update(tasks[view], completed=done, total=rows, told=text)

    return told


def _follow(
    replays: Replays,
    begun: Replay,
    as_json: bool,
    metrics_port: int | None = None,
    told: bool = True,
) -> None:
    """Show the progress to its end; what it came to is left to the caller unless `told`."""
    metrics = ReplayMetrics(begun.id)
    if metrics_port is not None:
        start_http_server(metrics_port, "127.0.0.1", metrics.registry)
    state, rows = begun.state, begun.rows
    going = f"replay {begun.id} goes on; `headwater replay follow {begun.id}` follows it again"
    with interrupted(lambda: going), _bar(as_json) as bar:
        task = bar.add_task(f"replay {begun.id}", total=1.0, told="starting")
        for now in replays.follow(begun):
            left = "" if now.seconds_left is None else f", {now.seconds_left:.0f} s left"
            held = "" if now.rate is None else f" of at most {now.rate:,.0f}"
            text = f"{now.rows:,} rows, {now.rows_per_second:,.0f}/s{held}{left}"
            bar.update(task, completed=now.share, told=text)
            state, rows = now.state, now.rows
            _tell(metrics, now)
    if as_json and told:
        click.echo(json.dumps({"id": begun.id, "state": state, "rows": rows}))
    if state == "failed":
        raise ReplayError(f"replay {begun.id} failed: {replays.failure(begun)}")
    if not as_json:
        click.echo(
            f"replay {begun.id} is {state}; `headwater replay verify {begun.id}` compares it"
        )


def _bar(quiet: bool) -> Progress:
    """For tasks that have a text beside how far they are."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
        disable=quiet,
    )


def _tell(metrics: ReplayMetrics, now: Now) -> None:
    metrics.tell(
        {
            "share": now.share,
            "rows": now.rows,
            "rows_per_second": now.rows_per_second,
            "seconds_left": now.seconds_left,
            "lag_records": now.lag,
            "rate_limit": float("inf") if now.rate is None else now.rate,
            "serving_p99_seconds": None if now.seen is None else now.seen.p99_seconds,
            "live_lag_records": None if now.seen is None else now.seen.lag_records,
        },
        now.slowed,
    )


def _show(name: str, found: ViewReport) -> None:
    until = f" up to {found.until}" if found.until else ""
    click.echo(
        f"{name}: {found.told}{until}; {found.live:,} rows live, {found.replayed:,} replayed,"
        f" {found.missing:,} missing, {found.extra:,} extra"
    )
    for feature, report in found.features.items():
        if report.changed:
            click.echo(f"  {feature}: {report.changed:,} changed, {report.equal:,} equal")
            for one in report.largest:
                keys = ", ".join(f"{k}={v}" for k, v in one.keys.items())
                click.echo(f"    {keys} at {one.event_time}: {one.live!r} -> {one.replayed!r}")


def _iso(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "now, and on"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
