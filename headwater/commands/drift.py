"""`headwater drift`: whether features have moved from what they were."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from headwater.commands.options import moment, now, with_comparison, with_style
from headwater.drift import ViewDrift, compare
from headwater.settings import Settings
from headwater.stores import catalog
from observability import drift as observed
from observability.rules import MAX_PSI
from observability.textfile import exposition
from schemas.loading import load_repository


@click.command()
@click.argument("names", metavar="[VIEW]...", nargs=-1)
@with_comparison("--to")
@click.option("--to", "end", callback=moment, help="Up to, not including, ISO 8601, UTC; or now.")
@click.option(
    "--max-psi",
    type=click.FloatRange(min=0),
    default=MAX_PSI,
    show_default=True,
    help="A feature above it has moved.",
)
@with_style
def drift(
    names: tuple[str, ...],
    last: int,
    against: int,
    end: int | None,
    max_psi: float,
    sample: int,
    style: str,
) -> None:
    """Hold the features of the last hours against those of the days before.

    Of each VIEW, or of all, by the population stability index. Exits with 1 if any feature has
    moved, but for Prometheus, and if there was nothing to compare.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    views = repository.named(names) or repository.views
    end = now() if end is None else end
    middle = end - last
    found = compare(views, catalog(settings), middle - against, middle, end, sample)
    if style == "prometheus":
        numbers = (feature for one in found for feature in one.numbers())
        click.echo(exposition(observed.metrics(numbers)), nl=False)
        return
    told = [
        {
            "view": one.view,
            "feature": name,
            "rows": one.rows,
            "reference_rows": one.reference_rows,
            **asdict(feature),
            "distribution": asdict(one.distributions[name]),
            "moved": feature.moved(max_psi),
        }
        for one in found
        for name, feature in one.features.items()
    ]
    if style == "json":
        empty = [_counts(one) for one in found if not one.features]
        click.echo(json.dumps({"features": told, "empty": empty}, indent=2))
    else:
        _show(found, max_psi)
    sys.exit(1 if any(one["moved"] for one in told) else 0)


def _counts(one: ViewDrift) -> dict[str, object]:
    return {"view": one.view, "rows": one.rows, "reference_rows": one.reference_rows}


def _show(found: list[ViewDrift], max_psi: float) -> None:
    headings = ("feature", "PSI", "chance", "null", "was null", "rows", "against", "")
    table = Table(*headings, box=None)
    for one in found:
        if not one.features:
            which = "no rows" if not one.rows else "nothing to hold them against"
            click.echo(f"{one.view}: {which} in that time")
        for name, feature in one.features.items():
            table.add_row(
                f"{one.view}:{name}",
                f"{feature.psi:.3f}",
                f"{feature.chance:.3f}",
                f"{feature.nulls:.1%}",
                f"{feature.reference_nulls:.1%}",
                f"{one.rows:,}",
                f"{one.reference_rows:,}",
                "MOVED" if feature.moved(max_psi) else "grows" if feature.grows else "",
            )
    # A job's log is no terminal, and as wide as what is written.
    Console(width=None if sys.stdout.isatty() else 140).print(table)
