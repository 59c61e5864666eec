"""The command line. Exit codes: 0 done, 1 a check or a part failed, 2 wrong use or setting."""

from __future__ import annotations

import importlib
import sys

import click

from schemas import HeadwaterError

COMMANDS = {
    "plan": ("plan:plan", "Write what the declarations become, as text."),
    "up": (
        "local:up",
        "Start the PARTS (all of them if none is named) and wait until they answer.",
    ),
    "down": ("local:down", "Stop the PARTS (all of them if none is named); their data stays."),
    "status": ("local:status", "What each part is doing; exits with 1 unless all are up."),
    "logs": ("local:logs", "The end of a PART's log."),
    "apply": (
        "data:apply",
        "Create what the declarations need: topics, tables, registry, connector, or KINDS of it.",
    ),
    "load": ("data:load", "Fill the source tables in PostgreSQL with the history's rows."),
    "produce": (
        "data:produce_",
        "Send the history of the STREAMS (of all if none is named) to Kafka.",
    ),
    "jobs": ("jobs:jobs_group", "The Flink jobs that compute the features."),
    "snapshots": ("snapshots:snapshots", "The snapshots of the views' Iceberg tables."),
    "replay": ("replay:replay", "Compute a span of the past again, beside the live jobs."),
    "keys": ("keys:keys_group", "API keys: made once, shown once, kept as hashes."),
    "deadletters": (
        "deadletters:deadletters",
        "The records that could not be read: kept with their reason until somebody decides.",
    ),
    "audit": (
        "audit:audit",
        "Account for every record of the sources called NAMES, or of all, offset by offset.",
    ),
    "skew": ("skew:skew", "Compare logged answers with a recomputation, feature by feature."),
    "quality": (
        "quality:quality",
        "How often the expectations of NAMES, or of all, were broken: STREAM or view.VIEW.",
    ),
    "drift": (
        "drift:drift",
        "Hold the features of the last hours against those of the days before.",
    ),
    "schemas": ("schemas:schemas", "The schemas of the events, and what may become of them."),
    "connectors": (
        "connectors:connectors",
        "The connector that captures the repository's PostgreSQL tables.",
    ),
    "tables": ("tables:tables", "The Iceberg tables: what they look like, and care for them."),
    "online": ("online:online", "The online store."),
    "exporter": (
        "exporter:exporter",
        "Measure tables, expectations and features every while, and serve that to Prometheus.",
    ),
    "heartbeat": (
        "heartbeat:heartbeat",
        "Send heartbeats to the streams that declare one, until it is stopped.",
    ),
    "demo": (
        "demo:demo",
        "Run everything on recorded data and prove that all answers agree; leaves it running.",
    ),
}
"""Where each command is, and what it says of itself: loading all of them takes seconds."""


class _Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        found = getattr(importlib.import_module(f"headwater.commands.{module}"), name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=_Lazy)
def headwater() -> None:
    """Features declared once, computed as streams, served live."""


def main() -> None:
    """Entry point; a known error is its text on standard error."""
    try:
        headwater()
    except HeadwaterError as error:
        click.echo(f"headwater: {error}", err=True)
        sys.exit(error.exit_code)
