"""Import this before Feast, and that takes one second instead of four.

Feast has typeguard compile most of its classes anew at each import, so that they check what they
are called with. What we call them with mypy has checked.
"""

from __future__ import annotations

from typing import TypeVar

import typeguard

_Any = TypeVar("_Any")
_checked = typeguard.typechecked


def _as_it_is(target: _Any) -> _Any:
    return target


typeguard.typechecked = _as_it_is  # type: ignore[assignment]
try:
    import feast  # noqa: F401
finally:
    typeguard.typechecked = _checked
