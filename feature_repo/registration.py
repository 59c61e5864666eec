"""The declarations as Feast objects: Feast's registry says what the declarations say, no more.

Registering touches the registry alone. Values are written by the jobs: nothing here creates,
materializes or deletes any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from feature_repo import unchecked  # noqa: F401

# isort: split
import feast
from feast.feature_store import FeatureStore
from feast.repo_config import RepoConfig
from feast.types import Bool, FeastType, Float64, Int64, String

from feature_repo.offline_store import IcebergSource
from iceberg.catalog import NAMESPACE
from iceberg.tables import AVAILABLE_AT
from schemas import (
    EVENT_TIME,
    CdcTable,
    Duration,
    Entity,
    Feature,
    FeatureService,
    FeatureView,
    JoinedStream,
    Repository,
    Source,
    Type,
)

_VALUE_TYPES = {Type.STRING: feast.ValueType.STRING, Type.INT64: feast.ValueType.INT64}
_FIELD_TYPES: dict[Type, FeastType] = {
    Type.STRING: String,
    Type.INT64: Int64,
    Type.FLOAT64: Float64,
    Type.BOOL: Bool,
    Type.TIMESTAMP: Int64,  # Feast's own timestamp holds whole seconds and would lose the rest
}
_MILLISECONDS = {"unit": "milliseconds since 1970 UTC"}


@dataclass(frozen=True)
class RegistrySettings:
    """Where the registry and the stores are. None of it is written into the registry."""

    registry_uri: str = field(repr=False)
    """SQLAlchemy URL of the registry's database, password included."""

    catalog_uri: str = field(repr=False)
    """SQLAlchemy URL of the Iceberg catalog's database, password included."""

    warehouse: str
    """The folder of the Iceberg tables' files, as a URL."""

    redis: str = field(repr=False)
    """The online store as Feast writes it: host:port[,password=…][,ssl=true]."""

    known_then: bool = False
    """Training sets as of what had been written by then, instead of as of event time."""


@dataclass(frozen=True)
class FeastObjects:
    """What is registered, in the order of the declarations."""

    sources: tuple[IcebergSource, ...]
    entities: tuple[feast.Entity, ...]
    views: tuple[feast.FeatureView, ...]
    services: tuple[feast.FeatureService, ...]


def feast_objects(repository: Repository) -> FeastObjects:
    """Every Feast object of a repository; pure."""
    entities = {entity.name: _entity(entity) for entity in repository.entities}
    sources = {view.name: _source(view) for view in repository.views}
    views = {
        view.name: _view(view, repository, sources[view.name], entities)
        for view in repository.views
    }
    services = tuple(_service(service, views) for service in repository.services)
    return FeastObjects(
        tuple(sources.values()), tuple(entities.values()), tuple(views.values()), services
    )


def feature_store(project: str, settings: RegistrySettings) -> FeatureStore:
    """Feast over the platform's registry and stores, without a feature_store.yaml."""
    return FeatureStore(
        config=RepoConfig(
            project=project,
            provider="local",
            registry={"registry_type": "sql", "path": settings.registry_uri},
            offline_store={
                "type": "feature_repo.offline_store.IcebergOfflineStore",
                "catalog_uri": settings.catalog_uri,
                "warehouse": settings.warehouse,
                "known_then": settings.known_then,
            },
            online_store={
                "type": "redis",
                "connection_string": settings.redis,
                # Feast would search all of Redis for a removed view's values.
                "full_scan_for_deletion": False,
            },
            entity_key_serialization_version=3,
        )
    )


def apply(repository: Repository, settings: RegistrySettings) -> list[str]:
    """Register what differs, remove what is no longer declared; `+view x`, `-service y`, ….

    A second run changes nothing and returns an empty list.
    """
    store = feature_store(repository.name, settings)
    declared = feast_objects(repository)
    changed: list[Any] = []
    removed: list[Any] = []
    report = []
    kinds: list[tuple[str, Sequence[Any], Sequence[Any]]] = [
        ("source", declared.sources, store.list_data_sources()),
        ("entity", declared.entities, store.list_entities()),
        ("view", declared.views, store.list_feature_views()),
        ("service", declared.services, store.list_feature_services()),
    ]
    for kind, wanted, there in kinds:
        registered = {item.name: item for item in there}
        names = {item.name for item in wanted}
        _keep_materialized(wanted, registered)
        for item in wanted:
            if registered.get(item.name) != item:
                changed.append(item)
                report.append(f"+{kind} {item.name}")
        for name, item in registered.items():
            if name not in names:
                removed.append(item)
                report.append(f"-{kind} {name}")
    if report:
        store.apply(changed, objects_to_delete=removed, partial=False)
    return report


def _keep_materialized(wanted: Sequence[Any], registered: Mapping[str, Any]) -> None:
    """What `feast materialize` noted of a view is no part of its declaration."""
    for item in wanted:
        if isinstance(item, feast.FeatureView) and item.name in registered:
            intervals = registered[item.name].materialization_intervals
            item.materialization_intervals = list(intervals)


def describe_feast(repository: Repository) -> str:
    """The Feast objects as text, for the derived plan."""
    objects = feast_objects(repository)
    parts = [f"project {repository.name}\n"]
    parts += [
        f"entity {entity.name} by {entity.join_key} {entity.value_type.name}"
        f"{_remark(entity.description)}\n"
        for entity in objects.entities
    ]
    for view in objects.views:
        source = view.batch_source
        assert source is not None
        fields = "".join(
            f"  {column.name} {column.dtype}{_remark(column.description)}\n"
            for column in view.features
        )
        tags = "".join(f"  tag {name} = {value}\n" for name, value in sorted(view.tags.items()))
        parts.append(
            f"view {view.name} of {', '.join(view.entities)}{_remark(view.description)}\n"
            f"  from {source.name} by {source.timestamp_field}, {source.created_timestamp_column}\n"
            f"  ttl {_length(view.ttl)}\n{tags}{fields}"
        )
    for service in objects.services:
        views = "".join(
            f"  {view.name}: {', '.join(column.name for column in view.features)}\n"
            for view in service.feature_view_projections
        )
        parts.append(f"service {service.name}{_remark(service.description)}\n{views}")
    return "\n".join(parts)


def _entity(entity: Entity) -> feast.Entity:
    return feast.Entity(
        name=entity.name,
        join_keys=[entity.key],
        value_type=_VALUE_TYPES[entity.type],
        description=entity.description,
    )


def _source(view: FeatureView) -> IcebergSource:
    return IcebergSource(
        table=f"{NAMESPACE}.{view.name}",
        timestamp_field=EVENT_TIME,
        created_timestamp_column=AVAILABLE_AT,
        description=f"Every value {view.name} ever had",
    )


def _view(
    view: FeatureView,
    repository: Repository,
    source: IcebergSource,
    entities: dict[str, feast.Entity],
) -> feast.FeatureView:
    keys = [
        feast.Field(name=e.key, dtype=_FIELD_TYPES[e.type], description=e.description)
        for e in view.entities
    ]
    features = [
        feast.Field(
            name=column.name,
            dtype=_FIELD_TYPES[column.type],
            description=_meaning(feature, view.source),
            tags=_MILLISECONDS if column.type is Type.TIMESTAMP else {},
        )
        for column, feature in zip(view.schema, view.features, strict=True)
    ]
    return feast.FeatureView(
        name=view.name,
        entities=[entities[entity.name] for entity in view.entities],
        schema=[*keys, *features],
        source=source,
        ttl=timedelta(seconds=view.ttl.seconds),
        online=True,
        description=view.description,
        tags={
            "headwater_source": _origin(view.source),
            "headwater_plan": f"feature_repo/{repository.name}/plan",
        },
    )


def _service(service: FeatureService, views: dict[str, feast.FeatureView]) -> feast.FeatureService:
    return feast.FeatureService(
        name=service.name,
        features=[views[v.name][[f.name for f in v.features]] for v in service.views],
        description=service.description,
    )


def _meaning(feature: Feature, source: Source) -> str:
    """`mean of dep_delay over 1h`; a fact of a table has its column's own description."""
    column = feature.aggregation.column
    if isinstance(source, CdcTable):
        return next((c.description for c in source.columns if c.name == column), "")
    how = feature.aggregation
    of = f" of {column}" if column else " of events"
    if how.condition is not None:
        of = f" of events with {how.condition.label}"
    if how.where is not None:
        of += f" where {how.where.label}"
    return f"{how.op.value}{of}" + (f" over {feature.window.size}" if feature.window else "")


def _origin(source: Source) -> str:
    if isinstance(source, CdcTable):
        return f"table {source.schema}.{source.table}"
    if isinstance(source, JoinedStream):
        return " with ".join(_origin(part) for part in source.sources)
    return f"topic {source.topic}"


def _length(ttl: timedelta | None) -> str:
    return str(Duration(int(ttl.total_seconds()))) if ttl else "for ever"


def _remark(text: str) -> str:
    return f" -- {text}" if text else ""
