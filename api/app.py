"""The Litestar application, composed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp
from opentelemetry.sdk.trace import TracerProvider

from api import problems
from api.answers import FeatureAnswers
from api.auth import Gatekeeper, Open
from api.door import Arrivals, Door, Entrance, Gate
from api.failover import Failover
from api.feast import FeastAnswers
from api.feature_log import KafkaFeatureLog, Unlogged
from api.grpc_door import GrpcAddress, GrpcDoor
from api.lookup import Clock, FeatureLookup
from api.neighbours import Neighbour
from api.page import Page
from api.resp import Redis
from api.routes import HANDLERS, feast_look_up, look_up
from api.serving import Serving
from api.store import OnlineStore
from api.switch import Switch
from api.telemetry import Telemetry, Traces
from connectors.access import KafkaAccess
from connectors.registered import served
from observability.metrics import ApiMetrics
from observability.tracing import API, tracer_provider
from schemas import HeadwaterError, Repository

VERSION = "0.1.0"
_DOORS = "doors"


@dataclass(frozen=True)
class LogTo:
    """Where answers are noted, and how many of them."""

    access: KafkaAccess
    share: float
    """0 to 1, of all lookups."""


@dataclass(frozen=True)
class Limits:
    """What the API takes on, and puts up with."""

    at_once: int = 64
    """Lookups answered at once; more are refused with 503. Twice as many bodies are waited for."""

    traced: float = 1.0
    """The share of requests whose spans are recorded, of those whose caller did not decide."""

    behind_seconds: float = 0.0
    """How long ago a replica of Redis may have heard of its primary and still be read."""

    body_seconds: float = 10.0
    """How long a body may be on its way; then it is refused with 408."""


def create_app(
    repository: Repository,
    redis: Redis,
    clock: Clock = time.time,
    traces: TracerProvider | None = None,
    neighbours: tuple[Neighbour, ...] = (),
    limits: Limits = Limits(),
    gatekeeper: Gatekeeper | None = None,
    grpc: GrpcAddress | None = None,
    log: LogTo | None = None,
) -> Litestar:
    """The API over `repository`, reading its hashes from `redis`.

    `traces` is where spans go; without one none is recorded. `gatekeeper` tells who asks; without
    one everybody may. With `grpc` the same is served there. `log` is where a share of the answers
    is noted; without one none is.
    `neighbours` are parts whose state `/health/ready` tells besides.
    `clock` gives seconds since 1970 UTC; ages are measured by it. The application closes `redis`
    and shuts `traces` down when it stops.
    """
    metrics = ApiMetrics()
    gatekeeper = gatekeeper or Open()
    recorded = limits.traced if traces is not None else 0.0
    provider = traces or tracer_provider(API, {})
    tracer = provider.get_tracer("headwater.api", VERSION)
    trace = Traces(tracer, recorded)
    store = OnlineStore(redis, tracer, metrics)
    serving = Serving(served(repository), store, metrics)
    switch = Switch(redis, store, repository.name)
    failover = Failover(redis, store, limits.behind_seconds, metrics)
    noted = KafkaFeatureLog(repository.name, log.access, log.share, metrics) if log else Unlogged()
    lookup = FeatureLookup(serving, store, switch, clock, metrics, noted)
    gate = Gate(limits.at_once, "lookups are being answered")
    metrics.in_flight.set_function(lambda: gate.within)
    arrivals = Arrivals(
        Gate(2 * limits.at_once, "bodies are being waited for"), limits.body_seconds
    )
    common = (gatekeeper, gate, arrivals, trace, metrics)
    features = Door("/v1/features", FeatureAnswers(lookup).answer, *common)
    feast = Door("/get-online-features", FeastAnswers(lookup).answer, *common)
    rpc = grpc and GrpcDoor(lookup, store, gatekeeper, gate, trace, metrics, grpc)
    services = {
        "serving": serving,
        "gatekeeper": gatekeeper,
        "store": store,
        "api_metrics": metrics,
        "neighbours": neighbours,
    }
    return Litestar(
        [
            Router("/", route_handlers=[look_up], middleware=[_within(features)]),
            Router("/", route_handlers=[feast_look_up], middleware=[_within(feast)]),
            Router("/", route_handlers=HANDLERS, middleware=[_within(Telemetry(trace, metrics))]),
        ],
        dependencies={name: _always(service) for name, service in services.items()},
        logging_config=None,  # whoever runs it decides
        exception_handlers={
            HeadwaterError: problems.answered,
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
        on_startup=[
            failover.start,
            serving.start,
            switch.start,
            noted.start,
            *([rpc.start] if rpc else []),
        ],
        on_shutdown=[
            *([rpc.stop] if rpc else []),
            *(noted.stop, switch.stop, serving.stop, failover.stop, store.close, provider.shutdown),
        ],
        state=State({_DOORS: {door.route: door for door in (features, feast)}}),
    )


def entrance(app: Litestar) -> Entrance:
    """What a server is to serve of an application that `create_app` made."""
    return Entrance(app, app.state[_DOORS])


def _within(middleware: Callable[[ASGIApp], ASGIApp]) -> Callable[[ASGIApp], ASGIApp]:
    """The same middleware as a function: the framework copies its routes, and functions stay."""

    def within(app: ASGIApp) -> ASGIApp:
        return middleware(app)

    return within


def _always(service: object) -> Provide:
    def provide() -> Any:
        return service

    return Provide(provide, use_cache=True, sync_to_thread=False)
