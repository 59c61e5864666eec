"""The command line. Exit codes: 0 done, 1 a check or a part failed, 2 wrong use or setting."""

from __future__ import annotations

import sys

import click

from headwater.commands.audit import audit
from headwater.commands.connectors import connectors
from headwater.commands.data import apply, load, produce_
from headwater.commands.deadletters import deadletters
from headwater.commands.demo import demo
from headwater.commands.heartbeat import heartbeat
from headwater.commands.jobs import jobs_group
from headwater.commands.keys import keys_group
from headwater.commands.local import down, logs, status, up
from headwater.commands.online import online
from headwater.commands.plan import plan
from headwater.commands.replay import replay
from headwater.commands.schemas import schemas
from headwater.commands.snapshots import snapshots
from headwater.commands.tables import tables
from headwater.demo import DemoFailed
from headwater.local.part import PartFailed
from headwater.replays.plan import ReplayError
from headwater.replays.promote import PromotionError
from schemas import HeadwaterError


@click.group()
def headwater() -> None:
    """Features declared once, computed as streams, served live."""


for command in (
    plan,
    up,
    down,
    status,
    logs,
    apply,
    load,
    produce_,
    jobs_group,
    snapshots,
    replay,
    keys_group,
    deadletters,
    audit,
    schemas,
    connectors,
    tables,
    online,
    heartbeat,
    demo,
):
    headwater.add_command(command)


def main() -> None:
    """Entry point; a known error is its text on standard error."""
    try:
        headwater()
    except HeadwaterError as error:
        click.echo(f"headwater: {error}", err=True)
        sys.exit(
            1 if isinstance(error, PartFailed | DemoFailed | ReplayError | PromotionError) else 2
        )
