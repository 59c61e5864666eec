"""Options that several commands take."""

from __future__ import annotations

import functools
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event
from typing import Any

import click
from rich.console import Console
from rich.table import Table

_WIDEST = 10_000
_UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}

with_style = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "prometheus"]),
    default="text",
    show_default=True,
)
"""How something is told: to people, to programs, or to a textfile collector."""


def moment(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """An instant given in ISO 8601, as milliseconds since 1970 UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no ISO 8601 time, such as 2013-02-01") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def length(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """A length of time such as 30m, 24h or 7d, in milliseconds."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no length of time, such as 30m, 24h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def now() -> int:
    """The present, in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def with_comparison(until: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that give a command a window, `last`, which ends at `until`, and its reference.

    `last` and `against` are lengths in milliseconds, `sample` a number of rows.
    """

    def given(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option(
                "--sample",
                type=click.IntRange(min=1),
                default=200_000,
                show_default=True,
                help="Rows of a window that are read, about.",
            ),
            click.option(
                "--against",
                default="7d",
                show_default=True,
                callback=length,
                help="The reference: so long before the window.",
            ),
            click.option(
                "--last",
                default="24h",
                show_default=True,
                callback=length,
                help=f"The window: so long before {until}.",
            ),
        ):
            command = option(command)
        return command

    return given


@contextmanager
def interrupted(told: Callable[[], str]) -> Iterator[None]:
    """Says on Ctrl-C what goes on or is left, and which command tells of it or finishes it."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\n{told()}", err=True)
        raise


def print_table(table: Table) -> None:
    """Whole, however narrow the terminal is: what is cut off an id cannot be typed."""
    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    Console(width=max(needed, console.width)).print(table)


def until_stopped() -> Event:
    """Set when the process is told to end."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def with_window(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that give a command its `start` and `end`: --from and --to, or --last.

    Milliseconds since 1970 UTC; None is open. `what` is what begins or stands at the first.
    """

    def given(command: Callable[..., None]) -> Callable[..., None]:
        @click.option("--from", "start", callback=moment, help=f"{what}, ISO 8601, UTC.")
        @click.option("--to", "end", callback=moment, help="Up to, not including.")
        @click.option(
            "--last",
            callback=length,
            help="In the place of --from: so long before --to, or now; such as 24h.",
        )
        @functools.wraps(command)
        def within(*, start: int | None, end: int | None, last: int | None, **rest: Any) -> None:
            if last is not None:
                if start is not None:
                    raise click.UsageError("--from and --last both say where to begin")
                start = (now() if end is None else end) - last
            command(start=start, end=end, **rest)

        return within

    return given
