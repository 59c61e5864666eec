"""What is served, and how the API finds out that it is something else.

A lookup takes the plan once, when it begins. So a change lies before the whole of an answer or
after it, and nothing waits for it.
"""

from __future__ import annotations

import logging

from api.catalog import Catalog
from api.errors import StoreUnavailable
from api.plan import Plan
from api.store import OnlineStore
from api.watch import Watch
from connectors.registered import (
    DIGEST,
    DOCUMENT,
    RegisteredError,
    Served,
    decode,
    encode,
    registered_key,
)
from observability.metrics import ApiMetrics
from schemas import HeadwaterError

LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Serving(Watch):
    """The plan and the catalog of what is registered.

    It begins with what the declarations say, for a platform on which nothing is registered yet.
    """

    def __init__(self, declared: Served, store: OnlineStore, metrics: ApiMetrics) -> None:
        super().__init__(LOOK_SECONDS)
        self.plan = Plan(declared)
        self.catalog = Catalog(declared)
        self._project = declared.project
        self._digest, _ = encode(declared)
        self._store = store
        self._metrics = metrics

    async def look(self) -> None:
        """Serve what is registered now; if that cannot be told, go on with what was."""
        key = registered_key(self._project)
        try:
            (digest,) = await self._store.fields(key, DIGEST)
            if digest is None or digest == self._digest:
                return
            digest, document = await self._store.fields(key, DIGEST, DOCUMENT)
        except StoreUnavailable:
            return
        if digest is None or document is None:
            return
        self._digest = digest  # one that does not hold is told of once
        try:
            what = decode(document)
            if what.project != self._project:
                raise RegisteredError(f"it is of another project, {what.project!r}")
            plan, catalog = Plan(what), Catalog(what)
        except (HeadwaterError, KeyError) as error:
            self._metrics.reloads.labels("refused").inc()
            _log.error("what is registered cannot be served: %s", error)
            return
        self.plan, self.catalog = plan, catalog
        self._metrics.reloads.labels("served").inc()
        _log.info("serving what was registered as %s", digest.decode("ascii", "replace")[:12])
