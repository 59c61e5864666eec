"""Finds the feature repository, and its history, that a setting names."""

from __future__ import annotations

from importlib import import_module
from typing import TypeVar

from schemas.errors import SettingsError
from schemas.features import Repository
from schemas.history import History

T = TypeVar("T")


def load_repository(name: str) -> Repository:
    """The Repository called `module:attribute`; SettingsError if there is none."""
    return _load("HEADWATER_REPOSITORY", name, Repository)


def load_history(name: str) -> History:
    """The History called `module:attribute`; SettingsError if there is none."""
    return _load("HEADWATER_HISTORY", name, History)


def _load(variable: str, name: str, kind: type[T]) -> T:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"{variable}: cannot load {name!r} ({error}); expected module:attribute"
        ) from error
    if not isinstance(found, kind):
        raise SettingsError(
            f"{variable}: {name!r} is a {type(found).__name__}, not a {kind.__name__}"
        )
    return found
