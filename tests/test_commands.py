"""The command as a whole: quick to answer, and what it says of its parts is true."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from headwater.cli import COMMANDS, headwater
from tests.conftest import ROOT


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
