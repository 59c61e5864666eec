"""`headwater keys`: who may ask the API, in a file that holds no secret."""

from __future__ import annotations

import os
from pathlib import Path

import click
import msgspec

from api.auth import PrincipalDocument, PrincipalsDocument, key_hash, new_key, read_principals
from headwater.settings import Settings
from schemas import SettingsError
from schemas.loading import load_repository


@click.group("keys")
def keys_group() -> None:
    """API keys: made once, shown once, kept as hashes."""


_file = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="HEADWATER_PRINCIPALS",
    required=True,
    help="The file of principals, HEADWATER_PRINCIPALS.",
)


@keys_group.command()
@click.argument("name")
@click.option("--view", "views", multiple=True, required=True, help="A view it may read, or *.")
@click.option("--rate", type=float, help="Requests a second it may make; no limit without.")
@_file
def make(name: str, views: tuple[str, ...], rate: float | None, path: Path) -> None:
    """Make a key for NAME, or another in place of the one it has, and print it."""
    known = _views()
    there = read_principals(path, known) if path.exists() else []
    key = new_key()
    made = PrincipalDocument(name, list(views), key_hash(key), None, rate)
    _write(path, [*(one for one in there if one.name != name), made])
    try:
        read_principals(path, known)
    except SettingsError:
        _write(path, there)
        raise
    click.echo(key)


@keys_group.command()
@click.argument("name")
@_file
def revoke(name: str, path: Path) -> None:
    """Take away what NAME may; it holds when the API starts next."""
    known = _views()
    there = read_principals(path, known)
    if name not in (names := [one.name for one in there]):
        raise SettingsError(f"no principal {name!r}; choices: {', '.join(names)}")
    _write(path, [one for one in there if one.name != name])


def _views() -> list[str]:
    repository = load_repository(Settings.read(os.environ).repository)
    return [view.name for view in repository.views] + [view.name for view in repository.on_demand]


def _write(path: Path, principals: list[PrincipalDocument]) -> None:
    document = msgspec.json.encode(PrincipalsDocument(principals))
    partial = path.with_name(f".{path.name}.new")
    partial.touch(mode=0o600)
    partial.write_bytes(msgspec.json.format(document, indent=1) + b"\n")
    partial.replace(path)
