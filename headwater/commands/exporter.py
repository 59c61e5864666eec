"""`headwater exporter`: numbers of tables, expectations and features for Prometheus."""

from __future__ import annotations

import os
from functools import cache, partial

import click
from prometheus_client import CollectorRegistry, start_http_server

from headwater.commands.options import length, until_stopped, with_comparison
from headwater.exporter import Exporter, Windows, measures
from headwater.settings import Settings
from headwater.stores import catalog
from schemas import SettingsError
from schemas.loading import load_repository


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option(
    "--every",
    default="15m",
    show_default=True,
    callback=length,
    help="From one look at tables and expectations to the next.",
)
@click.option(
    "--features-every",
    default="6h",
    show_default=True,
    callback=length,
    help="Of the features, which reads as much of the views as the two windows have.",
)
@with_comparison("a view's newest event")
def exporter(
    host: str, every: int, features_every: int, last: int, against: int, sample: int
) -> None:
    """Measure tables, expectations and features every while, and serve that to Prometheus.

    At /metrics of HEADWATER_EXPORTER_PORT, until it is stopped. What cannot be measured is said,
    and tried again.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    stop = until_stopped()
    windows, opened = Windows(last, against, sample), cache(partial(catalog, settings))
    found = Exporter(measures(repository, opened, windows, every / 1000, features_every / 1000))
    registry = CollectorRegistry()
    registry.register(found)
    port = settings.ports.exporter
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            f"{host}:{port} cannot be listened on ({error.strerror}); HEADWATER_EXPORTER_PORT says"
            " another port"
        ) from error
    click.echo(f"metrics at http://{host}:{port}/metrics")
    try:
        found.keep_measuring(stop, lambda text: click.echo(text, err=True))
    finally:
        server.shutdown()
        thread.join()
