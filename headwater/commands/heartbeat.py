"""`headwater heartbeat`: tells silent streams what time it is."""

from __future__ import annotations

import os

import click

from connectors.heartbeat import keep_beating
from headwater.commands.options import until_stopped
from headwater.settings import Settings
from schemas import SettingsError
from schemas.loading import load_repository


@click.command()
def heartbeat() -> None:
    """Send heartbeats to the streams that declare one, until it is stopped.

    One such process for a repository; a second one does no harm.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    streams = [stream for stream in repository.streams if stream.heartbeat is not None]
    if not streams:
        raise SettingsError(f"{repository.name}: no stream declares a heartbeat")
    stop = until_stopped()
    click.echo(f"heartbeats for {', '.join(stream.name for stream in streams)}")
    keep_beating(settings.kafka_access, streams, stop, lambda text: click.echo(text, err=True))
