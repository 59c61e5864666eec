"""What is wrong in a feature repository is said with the line of it, and nothing around that."""

from __future__ import annotations

import sys

import pytest

from schemas import SettingsError
from schemas.loading import load_history, load_repository
from tests.conftest import command

STREAM = """\
from schemas import Column, EventStream, Type

clicks = EventStream(
    "clicks", "shop.clicks", (Column("user", Type.STRING),), partition_by="usr"
)
"""
WRONG = {
    "declaration": (STREAM, 3, "stream.clicks.partition_by: unknown column, got 'usr'; did you"),
    "type": ("x = 1\nrepository = x()\n", 2, "TypeError: 'int' object is not callable"),
    "attribute": ("repository = ''.nothing\n", 1, "AttributeError: 'str' object has no"),
    "name": ("\n\nrepository = typo\n", 3, "NameError: name 'typo' is not defined"),
    "value": ("repository = int('x')\n", 1, "ValueError: invalid literal for int()"),
    "key": ("repository = {}['x']\n", 1, "KeyError: 'x'"),
    "import": ("import no_such_module\n", 1, "ModuleNotFoundError: No module named 'no_such_"),
    "name of an import": ("from schemas import Strem\n", 1, "ImportError: cannot import name"),
    "syntax": ("x = 1\nrepository = = 2\n", 2, "SyntaxError: invalid syntax"),
    "indentation": ("x = 1\n  y = 2\n", 2, "IndentationError: unexpected indent"),
    "far below": ("import json\nrepository = json.loads('{')\n", 2, "JSONDecodeError: Expecting"),
    "of many lines": ("raise OSError('one\\ntwo')\n", 1, "OSError: one two"),
}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes modules to import; they are forgotten at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def written(name, text):
        names.append(name)
        file = tmp_path / f"{name}.py"
        file.write_text(text, "utf-8")
        return file

    yield written
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("text", "line", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_a_module_is_said_with_its_place(written, text, line, said):
    file = written("wrong", text)
    with pytest.raises(SettingsError) as caught:
        load_repository("wrong:repository")
    assert str(caught.value).startswith(f"HEADWATER_REPOSITORY: {file}:{line}: {said}")
    assert "\n" not in str(caught.value)


def test_the_place_is_in_the_module_that_is_wrong_and_not_in_who_imports_it(written):
    file = written("sources", STREAM)
    written("outer", "from sources import clicks\n")
    with pytest.raises(SettingsError) as caught:
        load_history("outer:history")
    assert str(caught.value).startswith(f"HEADWATER_HISTORY: {file}:3: stream.clicks")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module:repository", "No module named 'no_such_module'"),
        ("json:repository", "module 'json' has no attribute 'repository'"),
        ("", "Empty module name"),
        (".relative:repository", "the 'package' argument is required"),
    ],
)
def test_a_module_or_an_attribute_that_is_not_there_is_what_the_setting_has_wrong(name, why):
    with pytest.raises(SettingsError) as caught:
        load_repository(name)
    assert str(caught.value).startswith(f"HEADWATER_REPOSITORY: cannot load {name!r} ({why}")
    assert str(caught.value).endswith("expected module:attribute")


def test_the_command_says_it_on_one_line(written, tmp_path):
    file = written("mistaken", "x = 1\nrepository = x()\n")
    environ = {"PYTHONPATH": str(tmp_path), "HEADWATER_REPOSITORY": "mistaken:repository"}
    done = command(environ, "schemas", "check")
    where = f"headwater: HEADWATER_REPOSITORY: {file}:2"
    said = f"{where}: TypeError: 'int' object is not callable\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
