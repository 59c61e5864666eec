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
    script = "import sys, headwater.cli; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    loaded = run.stdout.split()
    assert "click" in loaded
    assert not {"feast", "pyiceberg", "pyarrow", "pandas", "kafka"} & set(loaded)
