"""What the API refuses or cannot do, below `schemas.HeadwaterError`.

HeadwaterError
├── RequestError       the request does not fit the repository         -> 400
├── Unauthenticated    nobody who may ask                               -> 401
├── Forbidden          a caller who may not read this                  -> 403
├── TooMany            more often than the caller may                  -> 429
├── TooSlow            its body does not come in time                  -> 408
├── TooLarge           its body is larger than the API reads           -> 413
├── Overloaded         more at once than can be answered in good time  -> 503
└── StoreUnavailable   Redis does not answer                           -> 503
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from schemas import HeadwaterError


class RequestError(HeadwaterError, ValueError):
    """A request asks for what there is not: `value` stands at `path`, `choices` would do."""

    def __init__(self, path: str, problem: str, value: object, choices: Iterable[str] = ()) -> None:
        self.path = path
        self.value = value
        self.choices = tuple(choices)
        text = f"{problem}, got {value!r} - at `{path}`"
        near = get_close_matches(str(value), self.choices, n=1)
        if near:
            text += f"; did you mean {near[0]!r}?"
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
