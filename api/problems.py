"""Errors as RFC 9457 documents."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from api.errors import RequestError, StoreUnavailable
from schemas import HeadwaterError

MEDIA_TYPE = "application/problem+json"

AnyRequest = Request[Any, Any, Any]


def request_error(_: AnyRequest, error: RequestError) -> Response[bytes]:
    """400: which value, where it stands, and what would do."""
    more = {"path": error.path, "value": error.value, "choices": error.choices}
    return _problem(HTTPStatus.BAD_REQUEST, "invalid-request", str(error), more)


def store_unavailable(_: AnyRequest, error: StoreUnavailable) -> Response[bytes]:
    """503: which part is down and what it said."""
    more = {"parts": {error.part: error.reason, **error.others}}
    return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "part-down", str(error), more)


def headwater_error(_: AnyRequest, error: HeadwaterError) -> Response[bytes]:
    """500: something Headwater itself found wrong, such as foreign bytes in Redis."""
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", str(error), {})


def http_error(_: AnyRequest, error: HTTPException) -> Response[bytes]:
    """What the framework refused: wrong JSON, wrong types, unknown path, wrong method."""
    found = error.extra if isinstance(error.extra, list) else []
    errors = [
        {"path": _path(item), "detail": item.get("message", "")}
        for item in found
        if isinstance(item, Mapping)
    ]
    status = HTTPStatus(error.status_code)
    more = {"errors": errors} if errors else {}
    detail = "; ".join(f"{e['detail']} - at `{e['path']}`" for e in errors) or error.detail
    if status is HTTPStatus.BAD_REQUEST and not errors:
        detail = f"the body is not JSON: {detail}"
    return _problem(status, "invalid-request", detail, more, dict(error.headers or {}))


def unexpected(request: AnyRequest, error: Exception) -> Response[bytes]:
    """500 without the error's text, which may hold what is not for the caller; it is logged."""
    if request.logger:
        request.logger.error("unexpected error", exc_info=error)
    detail = "an unexpected error; the log has it under this answer's trace id"
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail, {})


def _path(item: Mapping[str, Any]) -> str:
    # The framework names the whole body `data`.
    key = str(item.get("key") or "")
    return "$" if key in ("", "data") else f"$.{key}"


def _problem(
    status: HTTPStatus,
    kind: str,
    detail: str,
    more: dict[str, Any],
    headers: dict[str, str] | None = None,
) -> Response[bytes]:
    document = {
        "type": f"urn:headwater:problem:{kind}",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        **more,
    }
    return Response(
        msgspec.json.encode(document),
        status_code=status.value,
        media_type=MEDIA_TYPE,
        headers=headers,
    )
