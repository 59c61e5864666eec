"""What a lookup reads, worked out at start-up from the declarations.

A `Selection` has one `Group` for each set of entity keys: all its views share a Redis hash, so
one HMGET reads them for an entity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from api.errors import RequestError
from connectors.redis_codec import CodecError, entity_key, feature_field, timestamp_field
from schemas import Entity, FeatureView, Repository, Type

Key = str | int


@dataclass(frozen=True)
class FeatureColumn:
    """One feature and where it lies: two fields of the hash of `entities`."""

    name: str  # view:feature
    view: str
    entities: tuple[Entity, ...]
    field: bytes
    time_field: bytes
    ttl_seconds: int


@dataclass(frozen=True)
class Group:
    """The columns that lie in one hash; `fields` are read, `slots` point into them."""

    entities: tuple[Entity, ...]
    fields: tuple[bytes, ...]
    slots: tuple[tuple[FeatureColumn, int, int], ...]  # column, value's place, time's place

    def redis_key(self, project: str, row: Mapping[str, Key], path: str) -> bytes:
        """The hash that `row` identifies; RequestError for a value of another type."""
        try:
            return entity_key(project, self.entities, row)
        except (CodecError, UnicodeEncodeError) as error:
            for entity in self.entities:
                _check_key(entity, row[entity.key], f"{path}.{entity.key}")
            raise RequestError(path, str(error), dict(row)) from error


@dataclass(frozen=True)
class Selection:
    """The columns of one request, in order, and the groups that hold them."""

    names: tuple[str, ...]
    groups: tuple[Group, ...]
    keys: tuple[Entity, ...]

    def check(self, row: Mapping[str, Key], path: str) -> None:
        """RequestError unless `row` has exactly the keys this selection needs."""
        names = [entity.key for entity in self.keys]
        for name in names:
            if name not in row:
                raise RequestError(f"{path}.{name}", "missing entity key", None, names)
        for name in row:
            if name not in names:
                raise RequestError(f"{path}.{name}", "unknown entity key", name, names)


class Plan:
    """Every lookup a repository allows."""

    def __init__(self, repository: Repository) -> None:
        self._columns = {
            column.name: column for view in repository.views for column in _columns(view)
        }
        self._services = {
            service.name: _select(
                self._columns[f"{view.name}:{feature.name}"]
                for view in service.views
                for feature in view.features
            )
            for service in repository.services
        }

    def service(self, name: str) -> Selection:
        """The columns of a service; RequestError if there is none of that name."""
        if name not in self._services:
            raise RequestError("$.service", "unknown feature service", name, self._services)
        return self._services[name]

    def features(self, names: Iterable[str]) -> Selection:
        """The columns called `view:feature`, each once; RequestError for an unknown one."""
        for position, name in enumerate(names := tuple(names)):
            if name not in self._columns:
                path = f"$.features[{position}]"
                raise RequestError(path, "unknown feature", name, self._columns)
        return _select(self._columns[name] for name in dict.fromkeys(names))


def _columns(view: FeatureView) -> Iterable[FeatureColumn]:
    entities = tuple(sorted(view.entities, key=lambda entity: entity.key))
    for feature in view.features:
        yield FeatureColumn(
            f"{view.name}:{feature.name}",
            view.name,
            entities,
            feature_field(view.name, feature.name),
            timestamp_field(view.name),
            view.ttl.seconds,
        )


def _select(columns: Iterable[FeatureColumn]) -> Selection:
    columns = tuple(columns)
    by_key: dict[tuple[tuple[str, Type], ...], list[FeatureColumn]] = {}
    for column in columns:
        identity = tuple((entity.key, entity.type) for entity in column.entities)
        by_key.setdefault(identity, []).append(column)
    groups = tuple(_group(members) for members in by_key.values())
    keys = {entity.key: entity for group in groups for entity in group.entities}
    return Selection(tuple(column.name for column in columns), groups, tuple(keys.values()))


def _group(columns: list[FeatureColumn]) -> Group:
    fields = {f: None for column in columns for f in (column.field, column.time_field)}
    place = {field: position for position, field in enumerate(fields)}
    slots = tuple((c, place[c.field], place[c.time_field]) for c in columns)
    return Group(columns[0].entities, tuple(fields), slots)


def _check_key(entity: Entity, value: Key, path: str) -> None:
    try:
        entity_key("", (entity,), {entity.key: value})
    except (CodecError, UnicodeEncodeError) as error:
        problem = f"expected `{entity.type.value}` for entity {entity.name}"
        raise RequestError(path, problem, value) from error
