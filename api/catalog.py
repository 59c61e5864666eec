"""The declarations as documents."""

from __future__ import annotations

from collections.abc import Iterable

from api.auth import Principal
from api.messages import Named, ServiceDocument, ViewDocument
from connectors.registered import Served, ServedOnDemand, ServedView
from schemas import Entity


class Catalog:
    """What is served, ready to be told."""

    def __init__(self, what: Served) -> None:
        entities = {view.name: view.entities for view in what.views}
        entities |= {
            view.name: tuple(
                entity for name in view.reads for entity in entities[name.partition(":")[0]]
            )
            for view in what.on_demand
        }
        self.views = [_view(view) for view in what.views]
        self.views += [_on_demand(view, entities[view.name]) for view in what.on_demand]
        self._services = {s.name: {read.view for read in s.reads} for s in what.services}
        self.services = [
            ServiceDocument(
                service.name,
                service.description,
                _keys(entity for read in service.reads for entity in entities[read.view]),
                [f"{read.view}:{name}" for read in service.reads for name in read.features],
            )
            for service in what.services
        ]

    def views_of(self, principal: Principal) -> list[ViewDocument]:
        """The views it may read."""
        may = principal.views
        return self.views if may is None else [v for v in self.views if v.name in may]

    def services_of(self, principal: Principal) -> list[ServiceDocument]:
        """The services of which it may read all."""
        return [one for one in self.services if principal.may_read(self._services[one.name])]


def _view(view: ServedView) -> ViewDocument:
    return ViewDocument(
        view.name,
        view.description,
        view.source,
        _keys(view.entities),
        [Named(column.name, column.type.value) for column in view.columns],
        view.ttl_seconds,
    )


def _on_demand(view: ServedOnDemand, entities: Iterable[Entity]) -> ViewDocument:
    return ViewDocument(
        view.name,
        view.description,
        "request",
        _keys(entities),
        [Named(feature.name, feature.type.value) for feature in view.features],
        0,
        [Named(column.name, column.type.value) for column in view.inputs],
    )


def _keys(entities: Iterable[Entity]) -> list[Named]:
    return [Named(key, type_) for key, type_ in {e.key: e.type.value for e in entities}.items()]
