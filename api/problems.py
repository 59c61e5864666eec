"""Errors as RFC 9457 documents."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from api.errors import (
    Forbidden,
    Overloaded,
    RequestError,
    StoreUnavailable,
    TooLarge,
    TooMany,
    TooSlow,
    Unauthenticated,
)
from schemas import HeadwaterError

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)

AnyRequest = Request[Any, Any, Any]


@dataclass(frozen=True)
class Problem:
    """An error as it is answered."""

    status: HTTPStatus
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def problem_of(error: Exception) -> Problem:
    """What the caller is told of an error; of an unexpected one only that there is one.

    Its text may hold what is not for the caller. The log has it, under the answer's trace id.
    """
    match error:
        case RequestError():
            more = {"path": error.path, "value": error.value, "choices": error.choices}
            return _problem(HTTPStatus.BAD_REQUEST, "invalid-request", str(error), more)
        case Unauthenticated():
            asked = {"www-authenticate": "Bearer"}
            return _problem(HTTPStatus.UNAUTHORIZED, "unauthenticated", str(error), {}, asked)
        case Forbidden():
            more = {"value": error.value, "choices": error.choices}
            return _problem(HTTPStatus.FORBIDDEN, "forbidden", str(error), more)
        case TooMany():
            status = HTTPStatus.TOO_MANY_REQUESTS
            retry = {"retry-after": str(math.ceil(error.retry_seconds))}
            return _problem(status, "too-many", str(error), {"limit": error.rate}, retry)
        case TooSlow():
            status, close = HTTPStatus.REQUEST_TIMEOUT, {"connection": "close"}
            return _problem(status, "too-slow", str(error), {"limit": error.limit}, close)
        case TooLarge():
            more = {"limit": error.limit}
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            return _problem(status, "too-large", str(error), more)
        case Overloaded():
            status, retry = HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "1"}
            return _problem(status, "overloaded", str(error), {"limit": error.limit}, retry)
        case StoreUnavailable():
            status = HTTPStatus.SERVICE_UNAVAILABLE
            retry = {"retry-after": str(math.ceil(error.retry_seconds))}
            parts = {"parts": {error.part: error.reason, **error.others}}
            return _problem(status, "part-down", str(error), parts, retry)
        case msgspec.DecodeError():
            detail = str(error)
            if not isinstance(error, msgspec.ValidationError):
                detail = f"the body is not JSON: {detail}"
            elif "at `$" not in detail:
                detail = f"{detail} - at `$`"
            return _problem(HTTPStatus.BAD_REQUEST, "invalid-request", detail, {})
        case HeadwaterError():
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", str(error), {})
    detail = "an unexpected error; the log has it under this answer's trace id"
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail, {})


def answered(_: AnyRequest, error: HeadwaterError) -> Response[bytes]:
    """An error of ours as the framework answers it."""
    return _response(problem_of(error))


def http_error(_: AnyRequest, error: HTTPException) -> Response[bytes]:
    """What the framework refused: an unknown path, a wrong method, a wrong parameter."""
    status = HTTPStatus(error.status_code)
    return _response(
        _problem(status, "invalid-request", error.detail, {}, dict(error.headers or {}))
    )


def unexpected(_: AnyRequest, error: Exception) -> Response[bytes]:
    """500, and the error in the log."""
    _log.error("unexpected error", exc_info=error)
    return _response(problem_of(error))


def _response(problem: Problem) -> Response[bytes]:
    return Response(
        problem.body,
        status_code=problem.status.value,
        media_type=MEDIA_TYPE,
        headers=dict(problem.headers),
    )


def _problem(
    status: HTTPStatus,
    kind: str,
    detail: str,
    more: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> Problem:
    document = {
        "type": f"urn:headwater:problem:{kind}",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        **more,
    }
    return Problem(status, msgspec.json.encode(document), headers or {})
