"""The command as a whole: quick to answer, and what it says of its parts is true."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from rich.table import Table

from headwater.cli import COMMANDS, headwater, main
from headwater.commands import data, jobs, replay
from headwater.commands.options import print_table
from headwater.jobs import StateMismatch
from headwater.replays.journal import Replay
from headwater.settings import Settings
from iceberg.catalog import TableMismatch
from schemas import SettingsError
from tests.conftest import ROOT
from tests.ports import free_ports


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_said_of_a_command_is_what_it_says_itself(name):
    command = headwater.get_command(click.Context(headwater), name)
    assert command.name == name
    assert COMMANDS[name][1] == command.get_short_help_str(200)


def test_the_help_needs_none_of_what_the_commands_need():
    """Feast, PyIceberg and pandas together take seconds."""
    assert not {"feast", "pyiceberg", "pyarrow", "pandas", "kafka"} & loaded("headwater.cli")


def test_what_is_asked_of_replays_and_jobs_needs_nothing_to_make_topics_and_compare_rows():
    for name in ("replay", "jobs"):
        assert not {"feast", "pandas", "kafka", "duckdb"} & loaded(f"headwater.commands.{name}")


def loaded(module):
    script = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    found = set(run.stdout.split())
    assert "click" in found, run.stderr
    return found


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("apply topics", "Kafka at 127.0.0.1:{kafka} does not answer"),
        ("apply tables", "the Iceberg catalog at 127.0.0.1:{postgres} does not answer"),
        ("apply registry", "PostgreSQL: "),
        ("apply serving", "Redis at 127.0.0.1:{redis}: "),
        ("apply source", "PostgreSQL: "),
        ("load", "PostgreSQL: "),
        ("connectors restart", "Connect at http://127.0.0.1:{connect} does not answer"),
        ("schemas register", "the schema registry does not answer"),
        ("jobs list", "Flink at http://127.0.0.1:{flink} does not answer"),
    ],
)
def test_where_a_part_is_away_a_command_says_which_and_ends_with_one(
    command, said, tmp_path, monkeypatch, capsys
):
    ports = free_ports()
    (tmp_path / "password").write_text("secret")
    for name, value in ports.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADWATER_POSTGRES_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("HEADWATER_SCHEMA_REGISTRY", "http://127.0.0.1:1")
    monkeypatch.setattr(sys, "argv", ["headwater", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    names = {name.split("_", 1)[1][:-5].lower(): port for name, port in ports.items()}
    told = capsys.readouterr().err
    assert told.startswith(f"headwater: {said.format(**names)}"), told
    assert ended.value.code == 1


def test_what_was_asked_for_wrongly_ends_with_two():
    assert {error.exit_code for error in (SettingsError, StateMismatch, TableMismatch)} == {2}


@pytest.mark.parametrize(
    ("command", "lacking", "there"),
    [
        (["produce"], "stream 'purchases'", "streams it has: departures, arrivals, weather"),
        (["produce", "visits"], "stream 'visits'", "streams it has: departures, arrivals"),
        (["load"], "table 'customers'", "tables it has: planes, airlines, airports"),
        (["demo"], "stream 'purchases'", "streams it has: departures, arrivals, weather"),
    ],
)
def test_a_history_of_another_repository_is_refused_before_anything_is_done(
    command, lacking, there, monkeypatch, tmp_path
):
    monkeypatch.setenv("HEADWATER_REPOSITORY", "tests.shop:repository")
    monkeypatch.setenv("HEADWATER_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(Settings, "source_url", lambda *_: "")
    with pytest.raises(SettingsError) as caught:
        headwater(command, standalone_mode=False)
    said = str(caught.value)
    assert said.startswith("HEADWATER_HISTORY: 'feature_repo.flights.history:history' has no ")
    assert f"no {lacking} of HEADWATER_REPOSITORY 'tests.shop:repository'; {there}" in said
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_table_is_whole_however_narrow_the_terminal_is(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    words = ["flights-departures", "RUNNING", "2026-01-05 12:00:00", "a" * 32]
    table = Table("job", "state", "since (UTC)", "id", box=None)
    table.add_row(*words)
    print_table(table)
    _, row = capsys.readouterr().out.splitlines()
    assert [word.strip() for word in row.split("  ") if word.strip()] == words


class Interrupting:
    """Stands for what a command calls; Ctrl-C comes in some call of it."""

    def __init__(self, within):
        self.within = within
        self.journal = self

    def __getattr__(self, name):
        def called(*_, **__):
            if name == self.within:
                raise KeyboardInterrupt
            return Replay("0007", ("v",), 0, 1)

        return called


@pytest.mark.parametrize("within", ["start", "follow", "promote", "upgrade"])
def test_who_interrupts_a_replay_is_told_how_to_go_on(within, monkeypatch):
    monkeypatch.setattr(replay, "_replays", lambda: Interrupting(within))
    if within != "follow":
        monkeypatch.setattr(replay, "_follow", lambda *_, **__: None)
    said = interrupt("replay", "run", "v", "--from", "2013-01-01", "--promote")
    assert ("`headwater replay list` says whether it has begun" in said) == (within == "start")
    assert ("replay 0007 goes on; `headwater replay follow 0007`" in said) == (within == "follow")
    assert ("`headwater replay promote 0007 --upgrade` does" in said) == (within != "start")


def test_who_interrupts_the_stop_of_jobs_is_told_that_flink_goes_on(monkeypatch):
    monkeypatch.setattr(jobs, "_jobs", lambda: Interrupting("stop"))
    assert "`headwater jobs list` says which run" in interrupt("jobs", "stop")


def test_who_interrupts_the_producer_is_told_what_is_in_kafka(monkeypatch):
    def produce(_, recorded, speed, show, *more):
        show(2000)
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "produce", produce)
    monkeypatch.setattr(data, "claim", lambda *_: None)
    said = interrupt("produce", "weather", "--to", "2013-02-01", "--json")
    assert re.search(r"2,000 of \d,\d+ events or a few more are in Kafka", said)


def interrupt(*arguments):
    """What a command says that is interrupted."""
    done = CliRunner().invoke(headwater, arguments)
    assert done.exit_code == 1
    assert "Aborted!" in done.output
    return done.output
