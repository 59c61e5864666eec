"""`headwater connectors`: the Debezium connector that captures the tables."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict

import click

from connectors.capture import Capture, Slot, script
from connectors.debezium import ConnectCluster, connector_name
from headwater.apply import apply_connector, apply_source, capture, document
from headwater.settings import Settings
from schemas import Repository, SettingsError
from schemas.loading import load_repository

_json = click.option("--json", "as_json", is_flag=True, help="One JSON document.")

_SLOT_SECONDS = 5.0
"""How long a slot may have no reader before that is told."""


@click.group()
def connectors() -> None:
    """The connector that captures the repository's PostgreSQL tables."""


class _Connector:
    """The repository's one connector, and all that is asked of it."""

    def __init__(self) -> None:
        self.settings = Settings.read(os.environ)
        self.repository: Repository = load_repository(self.settings.repository)
        if not self.repository.tables:
            raise SettingsError(f"{self.repository.name}: no captured tables are declared")
        self.name = connector_name(self.repository)
        self.cluster = ConnectCluster(self.settings.connect_url)

    @property
    def capture(self) -> Capture:
        return capture(self.settings, self.repository)


@connectors.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 on a difference.")
@_json
def apply(check: bool, as_json: bool) -> None:
    """Show what differs, in PostgreSQL and in Connect, then make it as declared."""
    it = _Connector()
    changes = it.capture.changes()
    settings = it.cluster.difference(it.name, document(it.settings, it.repository))
    drift = it.capture.drift()
    pending = [table.name for table in it.capture.pending()]
    if as_json:
        click.echo(
            json.dumps(
                {
                    "postgres": [asdict(change) for change in changes],
                    "connector": {name: asdict(one) for name, one in settings.items()},
                    "drift": drift,
                    "pending": pending,
                },
                indent=2,
            )
        )
    else:
        for change in changes:
            click.echo(f"PostgreSQL: {change}")
        for name, one in settings.items():
            if one.found is not None:
                click.echo(f"- {name} = {one.found}")
            if one.wanted is not None:
                click.echo(f"+ {name} = {one.wanted}")
        for text in drift:
            click.echo(f"drift: {text}")
        for table in pending:
            click.echo(f"{table}: its present rows are still to be asked for")
    if check:
        sys.exit(1 if changes or settings or drift or pending else 0)
    if drift:
        click.echo("the tables are not as declared: nothing is applied", err=True)
        sys.exit(1)
    report = (lambda _: None) if as_json else click.echo
    apply_source(it.settings, it.repository, report)
    apply_connector(it.settings, it.repository, report)


@connectors.command()
@click.option("--user", default="headwater", show_default=True, help="Whom the connector is.")
def sql(user: str) -> None:
    """The SQL that makes the database ready, for whoever owns the tables; nothing is asked."""
    click.echo(script(load_repository(Settings.read(os.environ).repository), user), nl=False)


@connectors.command()
@_json
def status(as_json: bool) -> None:
    """The connector, its task, what it has still to read, what is not as it must be in PostgreSQL,
    and drift; exits with 1 unless well.
    """
    it = _Connector()
    states = it.cluster.status(it.name)
    runs = set(states.values()) == {"RUNNING"}
    changes, drift = it.capture.changes(), it.capture.drift()
    slot = _read_slot(it.capture) if runs else it.capture.slot()
    lag = slot.lag if slot else None
    troubles = _troubles(it, slot, runs)
    pending = [table.name for table in it.capture.pending()]
    if as_json:
        postgres = [asdict(change) for change in changes]
        told = {"states": states, "lag_bytes": lag, "slot": troubles, "postgres": postgres}
        click.echo(json.dumps(told | {"drift": drift, "pending": pending}, indent=2))
    else:
        for part, state in states.items():
            click.echo(f"{part}: {state}")
        click.echo("not started" if lag is None else f"{lag:,} bytes of PostgreSQL's log to read")
        for text in troubles:
            click.echo(f"slot: {text}")
        for change in changes:
            click.echo(f"PostgreSQL: {change}")
        if changes:
            click.echo(
                "`headwater connectors apply` makes PostgreSQL so, or its owner with what"
                " `headwater connectors sql` prints"
            )
        for text in drift:
            click.echo(f"drift: {text}")
        if pending:
            names = " ".join(pending)
            click.echo(f"`headwater connectors snapshot {names}` asks for rows that are to come")
    sys.exit(0 if runs and not (troubles or changes or drift or pending) else 1)


def _read_slot(source: Capture) -> Slot | None:
    """The slot once somebody reads it, or as it is after some seconds: a task takes a while."""
    deadline = time.monotonic() + _SLOT_SECONDS
    while True:
        slot = source.slot()
        if (slot and slot.reader is not None) or time.monotonic() > deadline:
            return slot
        time.sleep(0.5)


def _troubles(it: _Connector, slot: Slot | None, runs: bool) -> list[str]:
    """What is wrong with a slot, and what to do."""
    name = it.capture.publication
    if slot and slot.wal_status == "lost":
        return [
            f"PostgreSQL has removed log of {name} that was not read, and changes are missing:"
            f" stop the connector (`PUT {it.cluster.url}/connectors/{it.name}/stop`, or with"
            " Strimzi `state: stopped` of its KafkaConnector), delete where"
            " it was (`DELETE` of its `/offsets`) and the slot (`SELECT"
            f" pg_drop_replication_slot('{name}')`), and `headwater connectors resume` has all rows"
            " sent again; those that were deleted meanwhile stay"
        ]
    told = []
    if slot and slot.wal_status == "unreserved":
        told.append(
            f"PostgreSQL is about to remove log of {name} that is not read yet: raise"
            " max_slot_wal_keep_size, and see that the connector reads"
        )
    if runs and (slot is None or slot.reader is None):
        told.append(
            f"nobody reads {name}, though the connector runs: `headwater connectors restart`,"
            " unless it is new and still reads the rows that were there"
        )
    return told


@connectors.command()
def restart() -> None:
    """Restart the connector and its task, and wait until they run."""
    it = _Connector()
    it.cluster.restart(it.name)
    it.cluster.wait(it.name, 60)
    click.echo(f"{it.name} runs")


@connectors.command()
def pause() -> None:
    """Stop reading; PostgreSQL keeps its log until `resume`."""
    it = _Connector()
    it.cluster.pause(it.name)
    click.echo(f"{it.name} is paused")


@connectors.command()
def resume() -> None:
    """Go on after `pause`."""
    it = _Connector()
    it.cluster.resume(it.name)
    it.cluster.wait(it.name, 60)
    click.echo(f"{it.name} runs")


@connectors.command()
@click.argument("tables", nargs=-1)
def snapshot(tables: tuple[str, ...]) -> None:
    """Send the present rows of TABLES (of all if none is named) again, beside the changes."""
    it = _Connector()
    known = {table.name: table for table in it.repository.tables}
    for name in tables:
        if name not in known:
            raise SettingsError(f"no table {name!r}; choices: {', '.join(known)}")
    chosen = [known[name] for name in tables or known]
    it.capture.snapshot(chosen)
    click.echo(f"asked for a snapshot of {', '.join(table.name for table in chosen)}")
