"""Finds the feature repository, and its history, that a setting names."""

from __future__ import annotations

import sysconfig
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from typing import TypeVar

from schemas.errors import HeadwaterError, SettingsError
from schemas.features import Repository
from schemas.history import History

T = TypeVar("T")

_PYTHONS = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_INSTALLED = tuple(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
_VOCABULARY = Path(__file__).parent


def load_repository(name: str) -> Repository:
    """The Repository called `module:attribute`; SettingsError if there is none.

    Of what is wrong in a module it says where in it that stands.
    """
    return _load("HEADWATER_REPOSITORY", name, Repository)


def load_history(name: str) -> History:
    """The History called `module:attribute`; SettingsError if there is none."""
    return _load("HEADWATER_HISTORY", name, History)


def _load(variable: str, name: str, kind: type[T]) -> T:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:
        if (place := _place(error)) is not None:
            raise SettingsError(f"{variable}: {place}: {_said(error)}") from error
        raise SettingsError(
            f"{variable}: cannot load {name!r} ({error}); expected module:attribute"
        ) from error
    if not isinstance(found, kind):
        raise SettingsError(
            f"{variable}: {name!r} is a {type(found).__name__}, not a {kind.__name__}"
        )
    return found


def _place(error: Exception) -> str | None:
    """FILE:LINE of a repository's own where it went wrong; None if none of it was run."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in extract_tb(error.__traceback__) if _is_read(Path(frame.filename))]
    own = [frame for frame in frames if not _is_within(Path(frame.filename), _INSTALLED)]
    for frame in reversed(own or frames):  # a repository may be installed, too
        return f"{frame.filename}:{frame.lineno}"
    return None


def _is_read(file: Path) -> bool:
    """Whether it is a file, neither Python's nor of the vocabulary."""
    python = _is_within(file, _PYTHONS) and not _is_within(file, _INSTALLED)
    return file.is_file() and not python and _VOCABULARY not in file.parents


def _is_within(file: Path, folders: tuple[Path, ...]) -> bool:
    return any(folder in file.parents for folder in folders)


def _said(error: Exception) -> str:
    """On one line; what Headwater says itself needs no name before it."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    text = " ".join(text.split())
    return text if isinstance(error, HeadwaterError) else f"{type(error).__name__}: {text}"
