"""What is registered to be served, as `headwater apply` leaves it in the online store.

It lies beside the values, as one document with a digest, so that every server of the API finds
out by itself when it is another one, and all of one answer is from one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas import Column, Entity, FeatureService, FeatureView, HeadwaterError, Repository, Type
from schemas.expressions import OnDemandView, document

DIGEST, DOCUMENT = b"digest", b"document"


class RegisteredError(HeadwaterError):
    """The document in the online store is none of ours."""


@dataclass(frozen=True)
class ServedView:
    """A feature view, as far as serving it goes."""

    name: str
    description: str
    source: str
    entities: tuple[Entity, ...]
    columns: tuple[Column, ...]
    ttl_seconds: int


@dataclass(frozen=True)
class ServedFeatures:
    """The features of a view that a service reads."""

    view: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class ServedService:
    """A feature service, as far as serving it goes."""

    name: str
    description: str
    reads: tuple[ServedFeatures, ...]


@dataclass(frozen=True)
class ServedComputed:
    """A feature computed at request time; `expression` as `schemas.expressions.document` has it."""

    name: str
    type: Type
    expression: list[Any]


@dataclass(frozen=True)
class ServedOnDemand:
    """An on-demand view, as far as serving it goes."""

    name: str
    description: str
    inputs: tuple[Column, ...]
    reads: tuple[str, ...]
    features: tuple[ServedComputed, ...]


@dataclass(frozen=True)
class Served:
    """All that is served of one repository; `project` is its name in Redis' keys."""

    project: str
    views: tuple[ServedView, ...]
    services: tuple[ServedService, ...]
    on_demand: tuple[ServedOnDemand, ...] = ()


def served(repository: Repository) -> Served:
    """What of a repository is served."""
    return Served(
        repository.name,
        tuple(
            ServedView(
                view.name,
                view.description,
                view.source.name,
                view.entities,
                view.schema,
                view.ttl.seconds,
            )
            for view in repository.views
        ),
        tuple(
            ServedService(
                service.name,
                service.description,
                tuple(
                    ServedFeatures(view.name, tuple(f.name for f in view.features))
                    for view in _read(service)
                ),
            )
            for service in repository.services
        ),
        tuple(_on_demand(view, repository.stored_types) for view in repository.on_demand),
    )


def _read(service: FeatureService) -> list[FeatureView | OnDemandView]:
    return [*service.views, *service.on_demand]


def _on_demand(view: OnDemandView, known: Mapping[str, Type]) -> ServedOnDemand:
    features = zip(view.features, view.schema(known), strict=True)
    return ServedOnDemand(
        view.name,
        view.description,
        view.inputs,
        view.reads,
        tuple(ServedComputed(f.name, c.type, document(f.expression)) for f, c in features),
    )


def registered_key(project: str) -> bytes:
    """The hash in Redis that holds the document and its digest."""
    return f"headwater:registered:{project}".encode()


def encode(what: Served) -> tuple[bytes, bytes]:
    """The digest and the document; equal for equal declarations."""
    data = msgspec.json.encode(what)
    return hashlib.sha256(data).hexdigest().encode(), data


def decode(data: bytes) -> Served:
    """What `encode` wrote; RegisteredError for anything else."""
    try:
        return msgspec.json.decode(data, type=Served)
    except (msgspec.DecodeError, HeadwaterError) as error:
        raise RegisteredError(f"the registered document does not hold: {error}") from error
