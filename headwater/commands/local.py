"""`headwater up | down | status | logs`: the platform on one machine."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict

import click
from rich.table import Table

from flink_jobs.rest import FlinkCluster, FlinkError
from headwater.commands.options import print_table
from headwater.local.monitoring import NAMES as OPTIONAL
from headwater.local.platform import PartStatus, Platform
from headwater.settings import Settings

_COLOURS = {"up": "green", "starting": "yellow", "crashed": "red", "down": "dim"}
_parts = click.argument("parts", nargs=-1)


def _platform() -> Platform:
    return Platform(Settings.read(os.environ))


@click.command()
@_parts
@click.option(
    "--observability", is_flag=True, help="Prometheus, Alertmanager and the exporter too."
)
def up(parts: tuple[str, ...], observability: bool) -> None:
    """Start the PARTS (all of them if none is named) and wait until they answer.

    What runs already is left alone; what crashed is started again. Where a port is taken nothing is
    started.
    """
    began = time.monotonic()
    platform = _platform()
    platform.up(parts, click.echo)
    if observability:
        platform.up(OPTIONAL, click.echo)
    click.echo(f"all up after {time.monotonic() - began:.1f} s")
    if any(part.name == "flink" for part in platform.select(parts)) and _no_job(platform):
        click.echo(
            "no job runs: `headwater apply` makes what they need, `headwater jobs submit` starts"
            " them, each from where it was last"
        )


def _no_job(platform: Platform) -> bool:
    """Whether Flink says so."""
    with suppress(FlinkError):
        return not FlinkCluster(platform.settings.flink_url).jobs()
    return False


@click.command()
@_parts
def down(parts: tuple[str, ...]) -> None:
    """Stop the PARTS (all of them if none is named); their data stays."""
    _platform().down(parts, click.echo)


@click.command()
@_parts
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def status(parts: tuple[str, ...], as_json: bool) -> None:
    """What each part is doing; exits with 1 unless all are up."""
    found = _platform().status(parts)
    if as_json:
        click.echo(json.dumps([asdict(part) for part in found], indent=2))
    else:
        print_table(_table(found))
        for part in found:
            if part.problem:
                click.echo(f"\n{part.name} {part.state}:\n{part.problem}")
    sys.exit(0 if all(part.state == "up" for part in found) else 1)


@click.command()
@click.argument("part")
@click.option("-n", "lines", default=50, show_default=True, help="How many lines.")
@click.option("-f", "follow", is_flag=True, help="Go on with what comes.")
def logs(part: str, lines: int, follow: bool) -> None:
    """The end of a PART's log."""
    platform = _platform()
    process = platform.process(platform.select([part])[0])
    click.echo(process.last_lines(lines))
    if not follow:
        return
    with process.log.open("r", encoding="utf-8", errors="replace") as log:
        log.seek(0, os.SEEK_END)
        try:
            while True:
                click.echo(log.read(), nl=False)
                time.sleep(0.3)
        except KeyboardInterrupt:
            return


def _table(found: list[PartStatus]) -> Table:
    table = Table("part", "state", "address", "pid", "memory", "up for", box=None)
    for part in found:
        table.add_row(
            part.name,
            f"[{_COLOURS[part.state]}]{part.state}",
            part.address,
            str(part.pid or ""),
            f"{part.memory_mb} MB" if part.pid else "",
            f"{part.uptime_seconds} s" if part.pid else "",
        )
    return table
