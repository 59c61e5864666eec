"""`headwater demo`."""

from __future__ import annotations

import json
import os
import time

import click

from headwater.commands.data import history_of, send
from headwater.commands.options import moment
from headwater.demo import Demo, Outcome
from headwater.settings import Settings
from schemas.loading import load_repository


@click.command()
@click.option("--from", "start", callback=moment, default="2013-01-01", show_default=True)
@click.option("--to", "end", callback=moment, default="2013-03-04", show_default=True)
def demo(start: int, end: int) -> None:
    """Run everything on recorded data and prove that all answers agree; leaves it running.

    What a demo before has left in HEADWATER_STATE is removed first. A platform that is no demo's,
    or was given data of another repository since, is left alone, and the demo refuses.
    """
    began = time.monotonic()
    # Months pass in seconds: however slow the machine, no partition counts as silent.
    settings = Settings.read({"HEADWATER_IDLE_SECONDS": "600"} | os.environ)
    repository = load_repository(settings.repository)
    history = history_of(
        settings,
        [stream.name for stream in repository.streams],
        [table.name for table in repository.tables],
    )
    run = Demo(settings, repository, history, click.echo)
    outcome = run.run(start, end, lambda recorded: send(settings, recorded, None)[0])
    _show(settings, outcome)
    click.echo(f"Done in {time.monotonic() - began:.0f} s. `make down` stops it.")


def _show(settings: Settings, outcome: Outcome) -> None:
    row = outcome.reply["rows"][0]
    click.echo(f"  {json.dumps(row['entity'])}")
    click.echo("  stale: older than the view's ttl, since these flights left long ago")
    for name, value in row["features"].items():
        click.echo(f"    {name:45} {value['value']!r:>22}  {value['status']}")
    total = sum(outcome.sent.values())
    click.echo(f"\nFlink dashboard  {settings.flink_url}")
    click.echo(f"API page         {settings.api_url}/docs")
    click.echo(
        f"{total:,} events in, {total:,} processed by every view over them. "
        f"{outcome.agreement.values:,} values agree four ways: "
        "Redis = Iceberg = API = recomputation."
    )
