"""What the platform knows of each of its parts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas import HeadwaterError


class PartFailed(HeadwaterError):
    """A part did not come up; the text names it, says why and ends with its log."""

    exit_code = 1


def _nothing() -> None:
    """Nothing to do."""


@dataclass(frozen=True)
class Part:
    """One server of the platform, and how to start it, ask it and stop it."""

    name: str
    address: str
    """Where a person or a client finds it."""

    command: tuple[str, ...]
    check: Callable[[], None]
    """Returns when the part answers, raises otherwise; it takes a second at most."""

    ports: tuple[int, ...] = ()
    """The ports that must be free before it starts."""

    needs: tuple[str, ...] = ()
    """The parts that must be up before it starts."""

    env: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = _nothing
    """Before each start: configuration files, and formatting the first time."""

    finish: Callable[[], None] = _nothing
    """Whenever it is to be up and `check` passes, also where it is up already; soon done."""

    seconds: float = 180
    """How long it may take until `check` passes: some seconds, but for a machine that is busy."""

    gives_way: bool = False
    """Whether it runs at a lower priority than what answers lookups on the same cores."""

    stop_by: signal.Signals = signal.SIGTERM
    user: str | None = None
    elsewhere: tuple[Path, ...] = ()
    """The folders outside of the state folder that it writes to."""

    cwd: Path = Path()
