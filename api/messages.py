"""The JSON documents of the API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

Status = Literal["present", "missing", "stale", "unreadable", "replaying"]
Scalar = str | float | bool | None  # JSON knows one kind of number


class LookupRequest(Struct, forbid_unknown_fields=True, frozen=True):
    """Either a service or a list of `view:feature`, and the entities to look up."""

    entities: list[dict[str, str | int]]
    service: str | None = None
    features: list[str] | None = None
    inputs: list[dict[str, str | int | float | bool | None]] | None = None
    """For features that are computed on demand: what they need besides, for each entity."""


class FeatureValue(Struct, frozen=True):
    """One value. A timestamp feature is in milliseconds since 1970 UTC.

    `present` with a null `value` means the feature was computed and is null, such as the mean of
    an empty window; `missing` means there is none: nothing was ever written, or its row was
    deleted in PostgreSQL; `stale` that it is older than the view's ttl; `unreadable` that the
    online store holds something else there; `replaying` that a replay's values are just being put
    in the place of live ones, and this is one of the two.
    """

    value: Scalar
    event_time: datetime | None
    age_seconds: float | None
    status: Status


MISSING = FeatureValue(None, None, None, "missing")


class Row(Struct, frozen=True):
    """The features of one requested entity, by `view:feature`."""

    entity: dict[str, str | int]
    features: dict[str, FeatureValue]


class LookupAnswer(Struct, frozen=True):
    """With `include=metadata`: one row for each entity, in the order of the request."""

    rows: list[Row]


class FeatureColumnDocument(Struct, frozen=True):
    """One feature of every requested entity, in the order of the request."""

    feature: str
    values: list[Scalar]
    event_times: list[datetime | None]
    ages_seconds: list[float | None]
    statuses: list[Status]


class ColumnsAnswer(Struct, frozen=True):
    """With `include=metadata` and `orient=columns`: one column for each feature."""

    columns: list[FeatureColumnDocument]


class LeanRows(Struct, frozen=True):
    """One list for each requested entity, with a value for each of `features`, in their order."""

    features: list[str]
    rows: list[list[Scalar]]


class LeanColumns(Struct, frozen=True):
    """With `orient=columns`: one list for each of `features`, with a value for each entity."""

    features: list[str]
    columns: list[list[Scalar]]


class FeastRequest(Struct, frozen=True):
    """What Feast's SDK asks: features or a service, and one list of values for each key."""

    entities: dict[str, list[str | int]]
    feature_service: str | None = None
    features: list[str] = []
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


class FeastColumn(Struct, frozen=True):
    """One key or feature of every row; a status is `PRESENT` or `NOT_FOUND`."""

    values: Sequence[Scalar]
    statuses: list[str]
    event_timestamps: list[str]


class FeastMetadata(Struct, frozen=True, omit_defaults=True):
    """What the columns are, keys first."""

    feature_names: list[str]
    feature_view_metadata: list[dict[str, str]] = []


class FeastReply(Struct, frozen=True):
    """What Feast's SDK reads."""

    results: list[FeastColumn]
    metadata: FeastMetadata


class Named(Struct, frozen=True):
    """A name with its type."""

    name: str
    type: str


class ViewDocument(Struct, frozen=True, omit_defaults=True):
    """A feature view as it is declared; `inputs` are what one computed on demand needs besides."""

    name: str
    description: str
    source: str
    keys: list[Named]
    features: list[Named]
    ttl_seconds: int
    inputs: list[Named] = []


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
    """What was wrong, as RFC 9457 has it, with what is known of it besides."""

    type: str
    title: str
    status: int
    detail: str
    path: str | None = None
    value: Any = None
    choices: list[str] | None = None
    limit: float | None = None
    parts: dict[str, str] | None = None
