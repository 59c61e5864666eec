"""Options that several commands take."""

from __future__ import annotations

from datetime import UTC, datetime

import click

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
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
