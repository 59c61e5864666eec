"""Commands of ours as people, or a schedule, are told to run them."""

from __future__ import annotations

import click

from headwater.cli import headwater


def understood(words: list[str]) -> None:
    """Parse a command as it stands, options and arguments too; nothing is run.

    An AssertionError if there is no such command, a click.UsageError says what else is wrong.
    """
    words = list(words)
    known: click.Command = headwater
    context = click.Context(known)
    while isinstance(known, click.Group):
        found = known.get_command(context, words.pop(0))
        assert found is not None, words
        known = found
        context = click.Context(known, parent=context)
    known.make_context(known.name, words, parent=context.parent)
