"""`headwater schemas check | release | register`: event schemas that evolve safely."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from connectors.registry import SchemaRegistry
from headwater.settings import Settings
from schemas import EventStream, SettingsError
from schemas.compatibility import Level, incompatibilities, released
from schemas.event import json_schema
from schemas.loading import load_repository

_root = click.option(
    "--root", type=click.Path(path_type=Path), default=Path(), help="The checkout."
)
_level = click.option(
    "--level",
    type=click.Choice([level.value for level in Level]),
    default=Level.BACKWARD.value,
    show_default=True,
)


@click.group()
def schemas() -> None:
    """The schemas of the events, and what may become of them."""


def _streams() -> tuple[EventStream, ...]:
    return load_repository(Settings.read(os.environ).repository).streams


def _path(root: Path, stream: EventStream) -> Path:
    return root / "schemas" / "released" / f"{stream.topic}.json"


@schemas.command()
@_level
@_root
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def check(level: str, root: Path, as_json: bool) -> None:
    """Hold each declared stream against its released schema; exits with 1 on a break.

    Against what a field was that was removed before, as well. A stream that was never released
    breaks nothing: it is named, and in JSON null.
    """
    found: dict[str, list[str] | None] = {}
    for stream in _streams():
        old, new = _known(root, stream), json_schema(stream)
        found[stream.topic] = None if old is None else incompatibilities(old, new, Level(level))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for topic, texts in found.items():
            if texts is None:
                click.echo(f"{topic}: never released; `headwater schemas release` does that")
                continue
            click.echo(f"{topic}: {'compatible' if not texts else 'incompatible'}")
            for text in texts:
                click.echo(f"  {text}")
    sys.exit(1 if any(found.values()) else 0)


@schemas.command()
@_level
@_root
def release(level: str, root: Path) -> None:
    """Write the declared schemas down as released; refuses what is incompatible."""
    streams = _streams()
    for stream in streams:
        old = _known(root, stream)
        if old and (texts := incompatibilities(old, json_schema(stream), Level(level))):
            click.echo(f"{stream.topic} is not released: {'; '.join(texts)}", err=True)
            sys.exit(1)
    for stream in streams:
        path, document = _path(root, stream), released(json_schema(stream), _known(root, stream))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        click.echo(f"wrote {path}")


@schemas.command()
@_level
def register(level: str) -> None:
    """Tell the schema registry, HEADWATER_SCHEMA_REGISTRY, of every declared schema."""
    url = Settings.read(os.environ).schema_registry
    if not url:
        raise SettingsError("HEADWATER_SCHEMA_REGISTRY is not set: there is no schema registry")
    registry = SchemaRegistry(url)
    for stream in _streams():
        # First: the registry holds a schema against the level that is set as it comes.
        registry.set_level(stream.topic, level)
        id_ = registry.register(stream.topic, json_schema(stream))
        click.echo(f"{stream.topic}: schema {id_}")


def _known(root: Path, stream: EventStream) -> dict[str, Any] | None:
    """The schema that a stream was released with; None if it never was."""
    path = _path(root, stream)
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found
