"""Every error Headwater raises on purpose.

    HeadwaterError
    ├── DeclarationError   a declaration does not hold together (also a ValueError)
    ├── SettingsError      a setting is missing or wrong
    └── EventError         an event does not fit its stream

The text always gives the path, the value found and the valid choices.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class HeadwaterError(Exception):
    """Root of the tree; catch it to catch everything Headwater raises on purpose."""

    exit_code = 2
    """Of a command that ends with it: 2 for wrong use or a wrong setting, 1 for a failed part."""


class DeclarationError(HeadwaterError, ValueError):
    """A declaration does not hold together.

    `path` leads to the wrong part (`origin_delays.features.mean_delay.column`), `value` is what
    stands there, `choices` are the values that would do (empty where they cannot be listed).
    """

    def __init__(self, path: str, problem: str, value: object, choices: Iterable[str] = ()) -> None:
        self.path = path
        self.value = value
        self.choices = tuple(choices)
        text = f"{path}: {problem}, got {value!r}"
        near = get_close_matches(str(value), self.choices, n=1)
        if near:
            text += f"; did you mean {near[0]!r}?"
        if self.choices:
            text += f" Choices: {', '.join(self.choices)}."
        super().__init__(text)


class SettingsError(HeadwaterError):
    """A setting is missing or wrong; the text names its variable."""


class EventError(HeadwaterError, ValueError):
    """An event does not fit its stream; the text gives the path of the wrong value."""
