"""What the API refuses or cannot do, below `schemas.HeadwaterError`.

HeadwaterError
├── RequestError       the request does not fit the repository         -> 400
├── Unauthenticated    nobody who may ask                               -> 401
├── Forbidden          a caller who may not read this                  -> 403
├── TooMany            more often than the caller may                  -> 429
├── TooSlow            its body does not come in time                  -> 408
├── TooLarge           its body is larger than the API reads           -> 413
├── Overloaded         more at once than can be answered in good time  -> 503
└── StoreUnavailable   Redis or an issuer of tokens does not answer     -> 503
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from schemas import HeadwaterError

_LONGEST_NAME = 100
_MOST_NAMES = 200


class RequestError(HeadwaterError, ValueError):
    """A request asks for what there is not: `value` stands at `path`, `choices` would do."""

    def __init__(self, path: str, problem: str, value: object, choices: Iterable[str] = ()) -> None:
        self.path = path
        self.value = value
        self.choices = tuple(choices)
        text = f"{problem}, got {value!r} - at `{path}`"
        if near := _near(value, self.choices):
            text += f"; did you mean {near!r}?"
        super().__init__(text)


class Unauthenticated(HeadwaterError):
    """The caller has not shown who it is."""


class Forbidden(HeadwaterError):
    """The caller may not read `value`; it may read `choices`."""

    def __init__(self, problem: str, value: str, choices: Iterable[str] = ()) -> None:
        self.value = value
        self.choices = tuple(choices)
        super().__init__(f"{problem}, got {value!r}")


class TooMany(HeadwaterError):
    """The caller has asked more than `rate` times a second."""

    def __init__(self, rate: float, retry_seconds: float) -> None:
        self.rate = rate
        self.retry_seconds = retry_seconds
        super().__init__(f"more than {rate:g} requests a second")


class TooSlow(HeadwaterError):
    """A body that was not there within `limit` seconds."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        super().__init__(f"the body was not there within {limit:g} seconds")


class TooLarge(HeadwaterError):
    """A body of more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"the body is larger than the {limit} bytes that are read")


class Overloaded(HeadwaterError):
    """`limit` requests are that far already, as `what` says; more would only wait."""

    def __init__(self, limit: int, what: str) -> None:
        self.limit = limit
        super().__init__(f"{limit} {what} already; try again in a second")


class StoreUnavailable(HeadwaterError):
    """A part the API stands on does not answer; `part` names it, `reason` says what it said."""

    def __init__(self, part: str, reason: str, retry_seconds: float = 1.0) -> None:
        self.part = part
        self.reason = reason
        self.retry_seconds = retry_seconds
        self.others: dict[str, str] = {}  # what else was asked, by part
        super().__init__(f"{part} does not answer: {reason}")


def _near(value: object, choices: tuple[str, ...]) -> str | None:
    """The choice that was probably meant.

    Among many it would be sought for longer than a lookup takes, with everybody else waiting: then
    among those of the same view, or of the same beginning.
    """
    if type(value) is not str or len(value) > _LONGEST_NAME:
        return None
    if len(choices) > _MOST_NAMES:
        beginning = value.partition(":")[0] if ":" in value else value[:1]
        choices = tuple(c for c in choices if c.startswith(beginning))[:_MOST_NAMES]
    near = get_close_matches(value, choices, n=1)
    return near[0] if near else None
