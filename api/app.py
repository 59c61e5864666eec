"""The Litestar application, composed."""

from __future__ import annotations

import time
from typing import Any

from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from opentelemetry.sdk.trace import TracerProvider
from redis.asyncio import Redis

from api import problems
from api.catalog import Catalog
from api.errors import RequestError, StoreUnavailable
from api.lookup import Clock, FeatureLookup
from api.neighbours import Neighbour
from api.page import Page
from api.plan import Plan
from api.routes import HANDLERS
from api.store import OnlineStore
from api.telemetry import Telemetry
from observability.metrics import ApiMetrics
from observability.tracing import tracer_provider
from schemas import HeadwaterError, Repository

VERSION = "0.1.0"


def create_app(
    repository: Repository,
    redis: Redis,
    project: str,
    clock: Clock = time.time,
    traces: TracerProvider | None = None,
    neighbours: tuple[Neighbour, ...] = (),
) -> Litestar:
    """The API over `repository`, reading `project`'s hashes from `redis`.

    `neighbours` are parts whose state `/health/ready` tells besides.
    `clock` gives seconds since 1970 UTC; ages are measured by it. The application closes `redis`
    and shuts `traces` down when it stops.
    """
    metrics = ApiMetrics()
    traces = traces or tracer_provider("headwater-api", {})
    tracer = traces.get_tracer("headwater.api", VERSION)
    store = OnlineStore(redis, tracer, metrics)
    services = {
        "lookup": FeatureLookup(Plan(repository), store, project, clock, metrics),
        "catalog": Catalog(repository),
        "store": store,
        "api_metrics": metrics,
        "neighbours": neighbours,
    }
    return Litestar(
        HANDLERS,
        dependencies={name: _always(service) for name, service in services.items()},
        middleware=[Telemetry(tracer, metrics)],
        exception_handlers={
            RequestError: problems.request_error,
            StoreUnavailable: problems.store_unavailable,
            HeadwaterError: problems.headwater_error,
            HTTPException: problems.http_error,
            Exception: problems.unexpected,
        },
        openapi_config=OpenAPIConfig(
            title="Headwater",
            version=VERSION,
            description=f"Features of the repository {repository.name}.",
            path="/docs",
            use_handler_docstrings=True,
            render_plugins=[Page(path="/"), JsonRenderPlugin()],
        ),
        on_shutdown=[store.close, traces.shutdown],
    )


def _always(service: object) -> Provide:
    def provide() -> Any:
        return service

    return Provide(provide, use_cache=True, sync_to_thread=False)
