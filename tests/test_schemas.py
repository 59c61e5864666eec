"""Event schemas evolve without breaking a reader of the whole log."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from click.testing import CliRunner

from feature_repo.flights.sources import departures, weather
from headwater.cli import headwater
from headwater.commands import schemas as commands
from iceberg.catalog import TableMismatch, create_tables, open_catalog
from schemas import Column, Type
from schemas.compatibility import Level, incompatibilities, released
from schemas.event import json_schema
from tests.conftest import ROOT


def changed(stream, name, **to):
    columns = tuple(replace(c, **to) if c.name == name else c for c in stream.columns)
    return replace(stream, columns=columns)


def without(stream, name):
    return replace(stream, columns=tuple(c for c in stream.columns if c.name != name))


def more(stream, column):
    return replace(stream, columns=(*stream.columns, column))


@pytest.mark.parametrize(
    ("new", "backward", "forward"),
    [
        (weather, [], []),
        (more(weather, Column("uv", Type.FLOAT64, required=False)), [], []),
        (
            more(weather, Column("uv", Type.FLOAT64)),
            ["$.uv: required by readers, not there in the events"],
            [],
        ),
        (without(weather, "visib"), [], []),
        (
            changed(weather, "visib", required=True),
            ["$.visib: required by readers, optional in the events"],
            [],
        ),
        (
            changed(weather, "origin", required=False),
            [],
            ["$.origin: required by readers, optional in the events"],
        ),
        (
            changed(weather, "visib", type=Type.STRING),
            ["$.visib: number in the events, null or string for readers"],
            ["$.visib: string in the events, null or number for readers"],
        ),
        (
            changed(weather, "visib", type=Type.INT64),
            ["$.visib: number in the events, integer or null for readers"],
            ["$.visib: integer in the events, null or number for readers"],
        ),
        (
            changed(weather, "visib", type=Type.TIMESTAMP),
            ["$.visib: number in the events, null or timestamp for readers"],
            ["$.visib: timestamp in the events, null or number for readers"],
        ),
    ],
)
def test_a_change_is_held_against_the_last_release(new, backward, forward):
    old, new = json_schema(weather), json_schema(new)
    backward = [f"backward: {text}" for text in backward]
    forward = [f"forward: {text}" for text in forward]
    assert incompatibilities(old, new, Level.BACKWARD) == backward
    assert incompatibilities(old, new, Level.FORWARD) == forward
    assert incompatibilities(old, new, Level.FULL) == backward + forward


def of_x(type_):
    return json_schema(more(weather, Column("x", type_, required=False)))


def test_a_field_that_was_removed_comes_again_as_what_it_was_alone():
    """The topic has the events of the first version for ever, and the archive their column."""
    first, last = of_x(Type.INT64), json_schema(weather)
    for _ in range(3):
        last = released(json_schema(weather), released(last, first))
    assert incompatibilities(last, of_x(Type.INT64), Level.FULL) == []
    assert incompatibilities(last, of_x(Type.STRING), Level.FULL) == [
        "backward: $.x: integer in the events, null or string for readers",
        "forward: $.x: string in the events, integer or null for readers",
    ]
    anew = released(of_x(Type.INT64), last)
    assert incompatibilities(anew, of_x(Type.STRING), Level.BACKWARD) == [
        "backward: $.x: integer in the events, null or string for readers"
    ]
    assert released(last, None) == last, "what was released first has removed nothing"


@pytest.mark.parametrize("new", Type)
@pytest.mark.parametrize("old", Type)
@pytest.mark.parametrize("described", ["", "When"])
def test_a_change_is_compatible_where_the_archive_can_follow_it(tmp_path, old, new, described):
    catalog = open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}")
    first, second = (
        more(weather, Column("x", type_, required=False, description=described))
        for type_ in (old, new)
    )
    create_tables(catalog, [], [first])
    found = incompatibilities(json_schema(first), json_schema(second), Level.BACKWARD)
    with nullcontext() if not found else pytest.raises(TableMismatch, match=r"weather\.x: "):
        create_tables(catalog, [], [second])
    assert (not found) is (old is new)


def check(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "headwater", "schemas", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_declared_schemas_follow_the_released_ones():
    done = check("check")
    assert done.returncode == 0, done.stdout


def test_check_and_release_refuse_a_break_and_name_the_field(tmp_path):
    assert check("release", "--root", str(tmp_path)).returncode == 0
    path = tmp_path / "schemas" / "released" / f"{departures.topic}.json"
    released = json.loads(path.read_text("utf-8"))
    del released["properties"]["tailnum"]
    released["required"].remove("tailnum")
    path.write_text(json.dumps(released), "utf-8")
    done = check("check", "--root", str(tmp_path), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)[departures.topic] == [
        "backward: $.tailnum: required by readers, not there in the events"
    ]
    refused = check("release", "--root", str(tmp_path))
    assert refused.returncode == 1
    assert "$.tailnum" in refused.stderr
    assert json.loads(path.read_text("utf-8")) == released


def test_release_keeps_what_a_field_was_that_it_removes(tmp_path, monkeypatch):
    """Told of the files that release wrote, which is all that is known of the versions before."""
    root, declared = ["--root", str(tmp_path)], []
    monkeypatch.setattr(commands, "_streams", lambda: tuple(declared))

    def schemas(command, *columns):
        declared[:] = [replace(weather, columns=(*weather.columns, *columns))]
        return CliRunner().invoke(headwater, ["schemas", command, *root])

    number, text = (Column("x", type_, required=False) for type_ in (Type.INT64, Type.STRING))
    for columns in ((number,), (), ()):
        assert schemas("release", *columns).exit_code == 0
    for command in ("check", "release"):
        refused = schemas(command, text)
        assert refused.exit_code == 1, command
        assert "backward: $.x: integer in the events, null or string for" in refused.output
    assert schemas("release", number).exit_code == 0


def test_a_stream_that_was_never_released_is_not_called_compatible(tmp_path):
    root = ("--root", str(tmp_path))
    done = check("check", *root)
    never = f"{departures.topic}: never released; `headwater schemas release` does that"
    assert done.returncode == 0
    assert never in done.stdout.splitlines()
    assert "compatible" not in done.stdout
    assert json.loads(check("check", *root, "--json").stdout)[departures.topic] is None
    assert check("release", *root).returncode == 0
    assert f"{departures.topic}: compatible" in check("check", *root).stdout.splitlines()
    assert json.loads(check("check", *root, "--json").stdout)[departures.topic] == []


class Registry(BaseHTTPRequestHandler):
    """It asks nothing of a schema until it is told to, and finds that none follows the last."""

    levels: dict[str, str]
    taken: list[str]

    def do_PUT(self):
        self.levels[self.path.split("/")[2]] = self.body()["compatibility"]
        self.answer(200, {})

    def do_POST(self):
        subject = self.path.split("/")[2]
        self.body()
        if subject in self.levels:
            return self.answer(409, {"message": f"not {self.levels[subject]}"})
        self.taken.append(subject)
        return self.answer(200, {"id": 1})

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, code, document):
        text = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@contextmanager
def registry():
    of_this_test = type("OfThisTest", (Registry,), {"levels": {}, "taken": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), of_this_test) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", of_this_test
        finally:
            server.shutdown()


def test_a_schema_is_registered_by_the_level_that_is_asked_for(monkeypatch):
    """Not by the one of before, which a break of the asked level may not be one of."""
    with registry() as (url, at):
        monkeypatch.setenv("HEADWATER_SCHEMA_REGISTRY", url)
        done = CliRunner().invoke(headwater, ["schemas", "register", "--level", "full"])
    assert "not FULL" in str(done.exception), done.output
    assert at.taken == []
