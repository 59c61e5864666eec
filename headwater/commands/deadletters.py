"""`headwater deadletters list | show | replay | purge`: what could not be read."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click
from rich.table import Table

from connectors.deadletters import DeadLetters, Letter
from headwater.commands.options import moment, print_table
from headwater.locks import locked
from headwater.settings import Settings
from schemas import CdcTable, EventStream, SettingsError
from schemas.loading import load_repository
from schemas.topics import source_topic

_WAIT_SECONDS = 10
"""For another command that works on the same letters."""

_json = click.option("--json", "as_json", is_flag=True, help="One JSON document.")
_topic = click.option("--topic", help="Only of this topic.")
_KINDS = ("empty", "size", "malformed", "missing", "type", "range", "future", "expectation")
"""Of reasons, as the kernel's `BadRecord` has them."""

_reason = click.option(
    "--reason", type=click.Choice(_KINDS), help="Only of this kind: the first word of a reason."
)


@click.group()
def deadletters() -> None:
    """The records that could not be read: kept with their reason until somebody decides."""


def _letters(topic: str | None = None) -> DeadLetters:
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    sources: list[EventStream | CdcTable] = [*repository.archived, *repository.tables]
    known = [source_topic(source, repository.name) for source in sources]
    if topic is not None and topic not in known:
        raise SettingsError(f"no topic {topic!r}; choices: {', '.join(known)}")
    return DeadLetters(settings.kafka_access, [topic] if topic else known)


@contextmanager
def _alone(topic: str, command: str) -> Iterator[None]:
    """Nobody else replays or purges a topic's letters meanwhile; Busy says who does."""
    path = Settings.read(os.environ).state / "deadletters" / f"{topic}.lock"
    name = f"dead letters of {topic}"
    with locked(path, name, f"headwater deadletters {command}", _WAIT_SECONDS):
        yield


@deadletters.command(name="list")
@_topic
@_json
def list_(topic: str | None, as_json: bool) -> None:
    """How many there are, by topic, reason and state; exits with 1 while any is open."""
    letters = _letters(topic)
    counts: Counter[tuple[str, str, str]] = Counter()
    spans: dict[tuple[str, str, str], tuple[int, int]] = {}
    for name in letters.topics:
        for letter in letters.read(name):
            key = (name, letter.kind, letter.state)
            counts[key] += 1
            first, last = spans.get(key, (letter.time, letter.time))
            spans[key] = (min(first, letter.time), max(last, letter.time))
    rows = [
        {
            "topic": key[0],
            "reason": key[1],
            "state": key[2],
            "count": counts[key],
            "first": _iso(spans[key][0]),
            "last": _iso(spans[key][1]),
        }
        for key in sorted(counts)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("no dead letters")
    else:
        table = Table("topic", "reason", "state", "count", "first (UTC)", "last (UTC)", box=None)
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        print_table(table)
    sys.exit(1 if any(row["state"] in ("open", "sending") for row in rows) else 0)


@deadletters.command()
@click.argument("letter_id", required=False)
@_topic
@_reason
@click.option("-n", "limit", default=20, show_default=True, help="How many of the newest.")
@_json
def show(
    letter_id: str | None, topic: str | None, reason: str | None, limit: int, as_json: bool
) -> None:
    """One letter with its payload, or the newest ones without."""
    if letter_id is not None:
        letter = _letters().find(letter_id)
        if as_json:
            payload = None if letter.payload is None else letter.payload.hex()
            click.echo(json.dumps(_document(letter) | {"payload_hex": payload}, indent=2))
        else:
            click.echo(f"{letter.id}  {_iso(letter.time)}  {letter.state}  {letter.reason}")
            click.echo(letter.payload if letter.payload is not None else "(no payload)")
        return
    letters = _letters(topic)
    found = [x for name in letters.topics for x in letters.read(name) if _is(x, reason)]
    found = sorted(found, key=lambda x: x.time)[-limit:] if limit > 0 else []
    if as_json:
        click.echo(json.dumps([_document(letter) for letter in found], indent=2))
    else:
        for letter in found:
            click.echo(f"{letter.id}  {_iso(letter.time)}  {letter.state}  {letter.reason}")


@deadletters.command()
@click.argument("letter_ids", nargs=-1)
@_topic
@_reason
@click.option("--all", "everything", is_flag=True, help="All that are open.")
@_json
def replay(
    letter_ids: tuple[str, ...],
    topic: str | None,
    reason: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Send letters to their topic again, once the cause is fixed.

    Name them by LETTER_IDS, or choose the open ones by --topic, --reason or --all. What still does
    not fit becomes a new letter; what has become late goes the way of late events. A letter that
    was cut for its size is left, and the exit code is 1.
    """
    if not (letter_ids or topic or reason or everything):
        raise click.UsageError("name letters, or choose them by --topic, --reason or --all")
    letters = _letters(topic)
    chosen: dict[str, list[str]] = defaultdict(list)
    for id_ in letter_ids:
        chosen[letters.topic_of(id_)].append(id_)
    if not letter_ids:
        for name in letters.topics:
            chosen[name] = [x.id for x in letters.read(name) if _is(x, reason)]
    done = {}
    for name, ids in chosen.items():
        with _alone(name, "replay"):
            done[name] = letters.replay(name, ids)
    if as_json:
        sent = {name: again.sent for name, again in done.items()}
        cut = {name: again.cut for name, again in done.items()}
        click.echo(json.dumps({"sent": sent, "cut": cut}))
    else:
        for name, again in done.items():
            click.echo(f"{name}: {again.sent} sent again")
            if again.cut:
                click.echo(
                    f"{name}: {again.cut} cut for their size, which their producer has whole"
                )
    if any(again.cut for again in done.values()):
        sys.exit(1)


@deadletters.command()
@click.argument("topic")
@click.option("--before", callback=moment, help="Only records older than this, ISO 8601, UTC.")
@click.option("--all", "everything", is_flag=True, help="All, open ones too.")
@_json
def purge(topic: str, before: int | None, everything: bool, as_json: bool) -> None:
    """Remove the payloads of a TOPIC's letters, for good; they stay counted.

    Say of which: those of records --before a time, or --all.
    """
    if (before is None) is not everything:
        raise click.UsageError("payloads are removed for good: say --before TIME, or --all")
    letters = _letters(topic)
    with _alone(topic, "purge"):
        removed = letters.purge(topic, before)
    click.echo(json.dumps({"purged": removed}) if as_json else f"{topic}: {removed} purged")


def _is(letter: Letter, reason: str | None) -> bool:
    return reason is None or letter.kind == reason


def _document(letter: Letter) -> dict[str, object]:
    return {
        "id": letter.id,
        "reason": letter.reason,
        "time": _iso(letter.time),
        "state": letter.state,
    }


def _iso(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
    except (OverflowError, ValueError):  # a producer may write any number
        return f"{milliseconds} ms"
