"""`headwater audit`: in, dead and late events together are all that were produced."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import click

from headwater.audit import Audit, StreamAudit, TableAudit
from headwater.commands.options import with_window
from headwater.settings import Settings
from headwater.stores import catalog
from schemas import CdcTable, EventStream, SettingsError
from schemas.loading import load_repository

_VERDICTS = {True: "balanced", False: "NOT balanced", None: "not checked"}


@click.command()
@click.argument("names", nargs=-1)
@with_window("Time of the first records")
@click.option("--wait", default=30.0, show_default=True, help="Seconds for what is on its way.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def audit(
    names: tuple[str, ...], start: int | None, end: int | None, wait: float, as_json: bool
) -> None:
    """Account for every record of the sources called NAMES, or of all, offset by offset.

    Exits with 1 unless each is in the archive or a dead letter, once, and each change of a captured
    table a row of its views. What cannot be checked is said; nothing else to check exits with 1.
    """
    settings = Settings.read(os.environ)
    repository = load_repository(settings.repository)
    sources: list[EventStream | CdcTable] = [*repository.streams, *repository.tables]
    known = {source.name: source for source in sources}
    for name in names:
        if name not in known:
            raise SettingsError(f"no source {name!r}; choices: {', '.join(known)}")
    it = Audit(settings.kafka_access, catalog(settings), repository)
    found = it.run([known[name] for name in names or known], start, end, wait)
    if as_json:
        click.echo(json.dumps([one.document() for one in found], indent=2))
    else:
        for one in found:
            for line in _of_table(one) if isinstance(one, TableAudit) else _of_stream(one):
                click.echo(line)
    verdicts = {one.balanced for one in found}
    sys.exit(1 if False in verdicts or verdicts == {None} else 0)


def _of_stream(one: StreamAudit) -> Iterator[str]:
    told = one.document()
    yield (
        f"{one.topic}: {told['produced']:,} produced, {told['dead']:,} dead,"
        f" {told['missing']:,} missing, {told['twice']:,} twice,"
        f" {told['pending']:,} pending: {_VERDICTS[one.balanced]}"
    )
    for view, late in one.late.items():
        if one.whole:
            yield f"  {view}: {one.came_in[view]:,} in, {late:,} late"
        else:
            yield f"  {view}: {late:,} late over the whole log"
    for view, lost in one.lost.items():
        yield (
            f"  {view}: {lost:,} late rows LOST: their job was away for longer than"
            " HEADWATER_OUTAGE_SECONDS, and Kafka dropped them. Their events are in the"
            " archive: a replay takes them in"
        )
    for part in one.partitions:
        if part.deleted:
            yield (
                f"  partition {part.partition}: {part.deleted:,} records of offsets"
                f" {part.deleted_where} LOST: Kafka deleted them before they were archived; unless"
                " all were heartbeats or marks of transactions, of which nothing is kept"
            )
        for where in part.where:
            yield f"  partition {part.partition}: missing {where}"
    if one.note:
        yield f"  {one.note}"


def _of_table(one: TableAudit) -> Iterator[str]:
    told = one.document()
    yield (
        f"{one.topic}: {told['produced']:,} produced, {told['dead']:,} dead:"
        f" {_VERDICTS[one.balanced]}"
    )
    for name, view in one.views.items():
        yield f"  {name}: {view.rows:,} rows, {view.missing:,} missing, {view.twice:,} twice"
    if one.note:
        yield f"  {one.note}"
