"""The JSON documents of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

Status = Literal["present", "missing", "stale"]


class LookupRequest(Struct, forbid_unknown_fields=True, frozen=True):
    """Either a service or a list of `view:feature`, and the entities to look up."""

    entities: list[dict[str, str | int]]
    service: str | None = None
    features: list[str] | None = None


class FeatureValue(Struct, frozen=True):
    """One value. A timestamp feature is in milliseconds since 1970 UTC.

    `present` with a null `value` means the feature was computed and is null, such as the mean of
    an empty window; `missing` means nothing was ever written; `stale` that it is older than the
    view's ttl.
    """

    value: str | int | float | bool | None
    event_time: datetime | None
    age_seconds: float | None
    status: Status


MISSING = FeatureValue(None, None, None, "missing")


class Row(Struct, frozen=True):
    """The features of one requested entity, by `view:feature`."""

    entity: dict[str, str | int]
    features: dict[str, FeatureValue]


class LookupAnswer(Struct, frozen=True):
    """One row for each requested entity, in the order of the request."""

    rows: list[Row]


class Named(Struct, frozen=True):
    """A name with its type."""

    name: str
    type: str


class ViewDocument(Struct, frozen=True):
    """A feature view as it is declared."""

    name: str
    description: str
    source: str
    keys: list[Named]
    features: list[Named]
    ttl_seconds: int


class ServiceDocument(Struct, frozen=True):
    """A feature service as it is declared; a lookup of it needs all `keys`."""

    name: str
    description: str
    keys: list[Named]
    features: list[str]


class Health(Struct, frozen=True):
    """The state of each part the API stands on."""

    status: Literal["up", "degraded"]
    parts: dict[str, str]


class Problem(Struct, frozen=True):
    """What was wrong, as RFC 9457 has it; `path`, `value` and `choices` where they are known."""

    type: str
    title: str
    status: int
    detail: str
    path: str | None = None
    value: str | int | None = None
    choices: list[str] | None = None
