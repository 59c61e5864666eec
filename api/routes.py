"""The routes; each asks a service and answers."""

from __future__ import annotations

import asyncio
from typing import Literal

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api.auth import Gatekeeper, Principal
from api.errors import StoreUnavailable
from api.messages import (
    ColumnsAnswer,
    FeastReply,
    FeastRequest,
    Health,
    LeanColumns,
    LeanRows,
    LookupAnswer,
    LookupRequest,
    Problem,
    ServiceDocument,
    ViewDocument,
)
from api.neighbours import Neighbour, states
from api.problems import MEDIA_TYPE, AnyRequest
from api.serving import Serving
from api.store import OnlineStore
from observability.metrics import ApiMetrics


def _problem(description: str) -> ResponseSpec:
    return ResponseSpec(
        Problem, media_type=MEDIA_TYPE, generate_examples=False, description=description
    )


_REFUSED = {
    401: _problem("The caller has not shown who it is"),
    403: _problem("The caller may not read this; the document names what it may"),
    429: _problem("The caller has asked more often than it may"),
}
_PROBLEMS = {
    400: _problem("The request does not fit: the document names path, value and choices"),
    **_REFUSED,
    408: _problem("The body did not come in time"),
    413: _problem("The body is too large"),
    503: _problem("Redis does not answer, or there is more to do than can be done in good time"),
}
_DOWN = {503: _problem("Redis does not answer")}


@post("/v1/features", status_code=200, tags=["features"], responses=_PROBLEMS)
async def look_up(
    data: LookupRequest,
    include: Literal["values", "metadata"] = "values",
    orient: Literal["rows", "columns"] = "rows",
) -> LeanRows | LeanColumns | LookupAnswer | ColumnsAnswer:
    """The newest values of a service's or a list's features for each entity.

    Null is a value that was computed and is null, or one that is not there; `include=metadata`
    says which, and how old each value is.
    """
    raise NotImplementedError("this says what api.door answers")


@post("/get-online-features", status_code=200, tags=["feast"], responses=_PROBLEMS)
async def feast_look_up(data: FeastRequest) -> FeastReply:
    """A lookup in the protocol of Feast's own feature server, for Feast's SDK."""
    raise NotImplementedError("this says what api.feast answers")


@get("/v1/feature-services", tags=["catalog"], responses=_REFUSED)
async def feature_services(
    serving: NamedDependency[Serving], gatekeeper: NamedDependency[Gatekeeper], request: AnyRequest
) -> list[ServiceDocument]:
    """The feature services that the caller can look up."""
    return serving.catalog.services_of(await _caller(gatekeeper, request))


@get("/v1/feature-views", tags=["catalog"], responses=_REFUSED)
async def feature_views(
    serving: NamedDependency[Serving], gatekeeper: NamedDependency[Gatekeeper], request: AnyRequest
) -> list[ViewDocument]:
    """The feature views that the caller can look up, and their features."""
    return serving.catalog.views_of(await _caller(gatekeeper, request))


async def _caller(gatekeeper: Gatekeeper, request: AnyRequest) -> Principal:
    principal = await gatekeeper.principal(request.scope["headers"])
    principal.spend()
    return principal


@get("/health/live", tags=["health"])
async def live() -> Health:
    """The process answers."""
    return Health("up", {})


@get("/health/ready", tags=["health"], responses=_DOWN)
async def ready(
    store: NamedDependency[OnlineStore], neighbours: NamedDependency[tuple[Neighbour, ...]]
) -> Health:
    """503 if Redis does not answer; `degraded` names what keeps values from getting newer."""
    around = asyncio.create_task(states(neighbours))
    try:
        await store.ping()
    except StoreUnavailable as error:
        error.others = await around
        raise
    parts = {"redis": "up", **await around}
    return Health("up" if set(parts.values()) == {"up"} else "degraded", parts)


@get("/metrics", include_in_schema=False)
async def metrics(api_metrics: NamedDependency[ApiMetrics]) -> Response[bytes]:
    """The metrics in Prometheus' text format."""
    return Response(generate_latest(api_metrics.registry), media_type=CONTENT_TYPE_LATEST)


HANDLERS = (feature_services, feature_views, live, ready, metrics)
