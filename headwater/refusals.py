"""Refusals that keep nothing else from being done, and are told when that is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from schemas import HeadwaterError


class Several(HeadwaterError):
    """More than one thing was refused, or has failed; the text says each."""

    def __init__(self, errors: list[HeadwaterError]) -> None:
        super().__init__("\n".join(dict.fromkeys(map(str, errors))))
        self.exit_code = max(error.exit_code for error in errors)


class Refusals:
    """What was refused so far."""

    def __init__(self) -> None:
        self._errors: list[HeadwaterError] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """What is refused within ends that, and nothing after it."""
        try:
            yield
        except HeadwaterError as error:
            self._errors.append(error)

    def __bool__(self) -> bool:
        """Whether anything was."""
        return bool(self._errors)

    def tell(self) -> None:
        """Raise what was refused: one as it is, more as Several."""
        if len(self._errors) > 1:
            raise Several(self._errors)
        for error in self._errors:
            raise error
