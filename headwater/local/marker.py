"""Whose the data of a state folder is: a demo's, which the next demo may remove, or a user's."""

from __future__ import annotations

import json
from pathlib import Path

from headwater.files import write_whole

_NAME, _KEY = "demo", "demo of"


def mark(state: Path, repository: str) -> None:
    """All that is in the state folder comes from the demo of a repository."""
    write_whole(state / _NAME, json.dumps({_KEY: repository}) + "\n")


def marked(state: Path) -> str | None:
    """The repository whose demo made all that is there; None where nothing says so."""
    try:
        found = json.loads((state / _NAME).read_text("utf-8"))[_KEY]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, str) else None


def claim(state: Path, repository: str) -> None:
    """Of a repository comes more than a demo: of another than its own, the folder is no demo's."""
    if marked(state) != repository:
        (state / _NAME).unlink(missing_ok=True)
