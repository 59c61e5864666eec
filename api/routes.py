"""The routes; each asks a service and answers."""

from __future__ import annotations

import asyncio

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api.catalog import Catalog
from api.errors import StoreUnavailable
from api.lookup import FeatureLookup
from api.messages import (
    Health,
    LookupAnswer,
    LookupRequest,
    Problem,
    ServiceDocument,
    ViewDocument,
)
from api.neighbours import Neighbour, states
from api.problems import MEDIA_TYPE
from api.store import OnlineStore
from observability.metrics import ApiMetrics

_PROBLEMS = {
    400: ResponseSpec(
        Problem,
        media_type=MEDIA_TYPE,
        generate_examples=False,
        description="The request does not fit: the document names path, value and choices",
    ),
    503: ResponseSpec(
        Problem,
        media_type=MEDIA_TYPE,
        generate_examples=False,
        description="Redis does not answer",
    ),
}


@post("/v1/features", status_code=200, tags=["features"], responses=_PROBLEMS)
async def look_up(data: LookupRequest, lookup: NamedDependency[FeatureLookup]) -> LookupAnswer:
    """The newest values of a service's or a list's features for each entity."""
    return await lookup.answer(data)


@get("/v1/feature-services", tags=["catalog"])
async def feature_services(catalog: NamedDependency[Catalog]) -> list[ServiceDocument]:
    """The feature services that can be looked up."""
    return catalog.services


@get("/v1/feature-views", tags=["catalog"])
async def feature_views(catalog: NamedDependency[Catalog]) -> list[ViewDocument]:
    """The feature views and their features."""
    return catalog.views


@get("/health/live", tags=["health"])
async def live() -> Health:
    """The process answers."""
    return Health("up", {})


@get("/health/ready", tags=["health"])
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


HANDLERS = (look_up, feature_services, feature_views, live, ready, metrics)
