"""`headwater skew`: whether what was served is what it should have been."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import click

from headwater.commands.options import with_window
from headwater.settings import Settings
from headwater.skew import Skew
from headwater.stores import catalog
from schemas.loading import load_repository


@click.command()
@with_window("Served since")
@click.option("--sample", default=1000, show_default=True, help="Answers to compare, a view.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def skew(start: int | None, end: int | None, sample: int, as_json: bool) -> None:
    """Compare logged answers with a recomputation, feature by feature.

    Exits with 1 if any value differs, and if of a declared view no answer could be compared.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    report = Skew(repository, catalog(settings), settings.kafka_access).compare(start, end, sample)
    if as_json:
        click.echo(json.dumps({name: asdict(one) for name, one in report.items()}, indent=2))
    else:
        for name, view in report.items():
            unknown = f", {view.unknown:,} not comparable" if view.unknown else ""
            missing = f", {view.missing:,} entities answered with nothing" if view.missing else ""
            lost = f", {view.lost:,} of which had values in Iceberg before" if view.lost else ""
            click.echo(f"{name}: {view.answers:,} answers compared{unknown}{missing}{lost}")
            for feature, one in view.features.items():
                if not one.mismatched:
                    continue
                of = one.equal + one.mismatched
                click.echo(f"  {feature}: {one.mismatched:,} of {of:,} values differ")
                for example in one.examples:
                    entity = ", ".join(map(str, example.entity.values()))
                    click.echo(
                        f"    {entity} at {example.event_time}: served {example.served!r},"
                        f" expected {example.expected!r} (trace {example.trace_id})"
                    )
    declared = {view.name for view in repository.views}
    blind = any(view.is_blind for name, view in report.items() if name in declared)
    compared = any(view.answers for view in report.values())
    differs = any(view.mismatched for view in report.values())
    sys.exit(1 if differs or blind or not compared else 0)
