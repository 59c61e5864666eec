"""Prints what every profile of the chart consists of, by kind, and which checks hold.

python -m tools.check
"""

from __future__ import annotations

import sys
from collections import Counter

from rich.console import Console
from rich.table import Table

from tools.chart import CHECKS, PROFILES, applies, check, render


def main() -> int:
    """1 if a check does not hold."""
    columns = ("schema", *CHECKS)
    objects = {profile: render(profile) for profile in PROFILES}
    findings = {profile: check(found) for profile, found in objects.items()}
    counts = {profile: Counter(o["kind"] for o in found) for profile, found in objects.items()}
    seen = {
        (thing["kind"], name)
        for found in objects.values()
        for thing in found
        for name in columns
        if applies(name, thing)
    }
    table = Table("kind", *PROFILES, *columns, box=None)
    for kind in sorted({kind for found in counts.values() for kind in found}):
        wrong = Counter(f.check for found in findings.values() for f in found if f.kind == kind)
        table.add_row(
            kind,
            *(str(counts[profile][kind] or "") for profile in PROFILES),
            *(
                f"[red]{wrong[name]} wrong"
                if wrong[name]
                else "holds"
                if (kind, name) in seen
                else "-"
                for name in columns
            ),
        )
    Console(width=120).print(table)
    for profile, found in findings.items():
        for finding in found:
            print(f"{profile}: {finding}")
    return 1 if any(findings.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
