"""What the runbooks tell people to type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "docs" / "runbooks"
FILES = sorted(FOLDER.glob("*.md"))


def lines(path: Path) -> list[str]:
    """The lines of a runbook's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def commands(path: Path) -> list[str]:
    """Those, and what stands in running text or is set off from it."""
    text = path.read_text("utf-8")
    inline = re.findall(r"`((?:headwater|kubectl|helm -n) [^`]+)`", text)
    return [*lines(path), *inline, *re.findall(r"^    (headwater .+)$", text, re.MULTILINE)]


def of(program: str, paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """One program's, by runbook, also where another one runs it or a pipe ends in it."""
    for path in paths:
        for command in commands(path):
            for part in re.split(r" \| | -- ", command):
                if part.split()[0] == program:
                    yield path.stem, part
