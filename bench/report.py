"""What every benchmark ends with: a table to read and a JSON file to compare."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

OUTPUT = Path("build/bench")


def publish(
    name: str, figures: Mapping[str, float], goals: Mapping[str, str], details: object = None
) -> Path:
    """Print `figures` beside their `goals` and write them to build/bench/NAME.json.

    `goals` are texts such as "≥ 0.6", by the name of the figure; `details` is whatever the
    figures were computed from, and goes into the file only.
    """
    width = max(map(len, figures))
    print(f"\n{name}: {os.cpu_count()} cores, {platform.machine()}")
    for key, value in figures.items():
        shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        print(f"  {key:<{width}}  {shown:>12}   {goals.get(key, '')}".rstrip())
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"{name}.json"
    path.write_text(json.dumps({**figures, "goals": goals, "details": details}, indent=2) + "\n")
    print(f"  written to {path}")
    return path
