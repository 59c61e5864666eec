"""The declarations as documents."""

from __future__ import annotations

from collections.abc import Iterable

from api.auth import Principal
from api.messages import Named, ServiceDocument, ViewDocument
from schemas import Entity, FeatureView, Repository


class Catalog:
    """What a repository declares, ready to be answered."""

    def __init__(self, repository: Repository) -> None:
        self.views = [_view(view) for view in repository.views]
        self._services = {
            service.name: {v.name for v in service.views} for service in repository.services
        }
        self.services = [
            ServiceDocument(
                service.name,
                service.description,
                _keys(entity for view in service.views for entity in view.entities),
                [f"{view.name}:{f.name}" for view in service.views for f in view.features],
            )
            for service in repository.services
        ]

    def views_of(self, principal: Principal) -> list[ViewDocument]:
        """The views it may read."""
        may = principal.views
        return self.views if may is None else [v for v in self.views if v.name in may]

    def services_of(self, principal: Principal) -> list[ServiceDocument]:
        """The services of which it may read all."""
        may = principal.views
        if may is None:
            return self.services
        return [service for service in self.services if self._services[service.name] <= may]


def _view(view: FeatureView) -> ViewDocument:
    return ViewDocument(
        view.name,
        view.description,
        view.source.name,
        _keys(view.entities),
        [Named(column.name, column.type.value) for column in view.schema],
        view.ttl.seconds,
    )


def _keys(entities: Iterable[Entity]) -> list[Named]:
    return [Named(key, type_) for key, type_ in {e.key: e.type.value for e in entities}.items()]
