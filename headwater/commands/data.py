"""`headwater apply | load | produce`: topics, tables, connector, and the recorded history."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from connectors.producer import Event, between, produce
from connectors.tables import load_tables
from connectors.topics import differences, topics
from headwater.apply import apply_all
from headwater.commands.options import interrupted, moment
from headwater.local.marker import claim
from headwater.settings import Settings
from observability.tracing import PRODUCER, Sends, tracer_provider
from schemas import EventStream, SettingsError
from schemas.history import History
from schemas.loading import load_history, load_repository


@click.command()
@click.argument("kinds", nargs=-1)
def apply(kinds: tuple[str, ...]) -> None:
    """Create what the declarations need: topics, tables, registry, connector, or KINDS of it.

    What is there is left alone; a topic that is not as it would be made is told of.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    claim(settings.state, settings.repository)
    apply_all(settings, repository, click.echo, kinds)
    if not kinds or "topics" in kinds:
        for text in differences(settings.kafka_access, topics(repository)):
            click.echo(f"topics: {text}; it is left as it is, `kafka-configs --alter` changes it")


@click.command()
def load() -> None:
    """Fill the source tables in PostgreSQL with the history's rows."""
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    url = settings.source_url(repository.name)
    history = history_of(settings, tables=[table.name for table in repository.tables])
    claim(settings.state, settings.repository)
    loaded = load_tables(url, repository.tables, history)
    for table, count in loaded.items():
        click.echo(f"{table}: {count} rows inserted")


def history_of(
    settings: Settings, streams: Iterable[str] = (), tables: Iterable[str] = ()
) -> History:
    """The history; SettingsError where it has nothing of one of those, as another repository's."""
    history = load_history(settings.history)
    for kind, wanted, there in (
        ("stream", streams, history.streams),
        ("table", tables, history.tables),
    ):
        for name in wanted:
            if name not in there:
                raise SettingsError(
                    f"HEADWATER_HISTORY: {settings.history!r} has no {kind} {name!r} of"
                    f" HEADWATER_REPOSITORY {settings.repository!r}; {kind}s it has:"
                    f" {', '.join(there) or 'none'}"
                )
    return history


def _speed(_: click.Context, __: click.Parameter, text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0
    if not 0 < speed < float("inf"):
        raise click.BadParameter(f"{text!r} is neither `max` nor a number above 0")
    return speed


@click.command(name="produce")
@click.argument("streams", nargs=-1)
@click.option("--from", "start", callback=moment, help="First event time, ISO 8601, UTC.")
@click.option("--to", "end", callback=moment, help="Event time to stop before.")
@click.option(
    "--speed",
    default="max",
    show_default=True,
    callback=_speed,
    help="Event time over wall time: 1 as it happened, 3600 an hour a second, or max.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document, no progress.")
def produce_(
    streams: tuple[str, ...],
    start: int | None,
    end: int | None,
    speed: float | None,
    as_json: bool,
) -> None:
    """Send the history of the STREAMS (of all if none is named) to Kafka."""
    settings = Settings.read(os.environ)
    declared = {s.name: s for s in load_repository(settings.repository).streams}
    for name in streams:
        if name not in declared:
            raise SettingsError(f"no stream {name!r}; choices: {', '.join(declared)}")
    history = history_of(settings, streams or declared)
    recorded: dict[EventStream, list[Event]] = {
        stream: between(history.streams[name](), start, end)
        for name, stream in declared.items()
        if not streams or name in streams
    }
    claim(settings.state, settings.repository)
    sent = send(settings, recorded, speed, quiet=as_json, wakes=True)
    if as_json:
        click.echo(json.dumps({"sent": sent[0], "seconds": round(sent[1], 3)}))


def send(
    settings: Settings,
    recorded: dict[EventStream, list[Event]],
    speed: float | None,
    quiet: bool = False,
    wakes: bool = False,
) -> tuple[dict[str, int], float]:
    """Produce with a progress bar; events by stream, and seconds."""
    total = sum(len(events) for events in recorded.values())
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} events/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=quiet,
    )
    with bar:
        task = bar.add_task("events to Kafka", total=total, rate="…")

        done = 0

        def show(number: int) -> None:
            nonlocal done
            done = number
            elapsed = bar.tasks[task].elapsed or 0
            bar.update(task, completed=number, rate=f"{number / max(elapsed, 0.001):,.0f}")

        traces = tracer_provider(PRODUCER, os.environ) if settings.otlp_endpoint else None
        sample = Sends(traces.get_tracer("headwater"), settings.traced_events) if traces else None
        try:
            with interrupted(lambda: _left(done, total)):
                sent = produce(settings.kafka_access, recorded, speed, show, sample, wakes)
        finally:
            if traces:
                traces.shutdown()
    if not quiet:
        rate = total / max(sent.seconds, 0.001)
        click.echo(f"{total:,} events in Kafka after {sent.seconds:.1f} s ({rate:,.0f}/s)")
    return sent.counts, sent.seconds


def _left(done: int, total: int) -> str:
    return (
        f"{done:,} of {total:,} events or a few more are in Kafka, in the order of event time, and"
        " stay there; the same command would send them again, one with --from those after a time"
    )
