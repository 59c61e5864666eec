"""Finds the feature repository that a setting names."""

from __future__ import annotations

from importlib import import_module

from schemas.errors import SettingsError
from schemas.features import Repository


def load_repository(name: str) -> Repository:
    """The Repository called `module:attribute`; SettingsError if there is none."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"HEADWATER_REPOSITORY: cannot load {name!r} ({error}); expected module:attribute"
        ) from error
    if not isinstance(found, Repository):
        raise SettingsError(
            f"HEADWATER_REPOSITORY: {name!r} is a {type(found).__name__}, not a Repository"
        )
    return found
