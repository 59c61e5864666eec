"""Feast's offline store over our Iceberg tables: a data source, and the store that reads it.

Feast ships an Iceberg source too. It writes the catalog's properties, and so its password, into
the registry, and it reads a table whole. This one names nothing but the table; where the catalog
is stands in the store's configuration, which is never registered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from feast import FeatureView, RepoConfig, ValueType
from feast.data_source import DataSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.repo_config import FeastConfigBaseModel
from pydantic import SecretStr
from pyiceberg.table import Table

from iceberg.catalog import open_catalog
from iceberg.offline import JoinError, Lookup, join, rows
from iceberg.together import load_together

_VALUE_TYPES = {
    "boolean": ValueType.BOOL,
    "long": ValueType.INT64,
    "double": ValueType.DOUBLE,
    "string": ValueType.STRING,
    "timestamptz": ValueType.INT64,  # milliseconds, as the online store has them
}


class IcebergSource(DataSource):
    """A table of the catalog that the offline store is configured with."""

    def __init__(
        self,
        *,
        table: str,
        name: str | None = None,
        timestamp_field: str | None = None,
        created_timestamp_column: str | None = None,
        field_mapping: dict[str, str] | None = None,
        description: str | None = "",
        tags: dict[str, str] | None = None,
        owner: str | None = "",
    ) -> None:
        super().__init__(
            name=name or table,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping,
            description=description,
            tags=tags,
            owner=owner,
        )
        self.table = table

    def __eq__(self, other: object) -> bool:
        parent: Any = super()
        return (
            isinstance(other, IcebergSource)
            and self.table == other.table
            and bool(parent.__eq__(other))
        )

    def __hash__(self) -> int:
        return hash((self.name, self.table))

    def source_type(self) -> DataSourceProto.SourceType.ValueType:
        """Feast's word for a source it does not know."""
        return DataSourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: DataSourceProto) -> IcebergSource:
        """The source as it was registered."""
        return IcebergSource(
            table=json.loads(data_source.custom_options.configuration)["table"],
            name=data_source.name,
            timestamp_field=data_source.timestamp_field,
            created_timestamp_column=data_source.created_timestamp_column,
            field_mapping=dict(data_source.field_mapping),
            description=data_source.description,
            tags=dict(data_source.tags),
            owner=data_source.owner,
        )

    def _to_proto_impl(self) -> DataSourceProto:
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{__name__}.{type(self).__name__}",
            custom_options=DataSourceProto.CustomSourceOptions(
                configuration=json.dumps({"table": self.table}).encode()
            ),
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            field_mapping=self.field_mapping,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def validate(self, config: RepoConfig) -> None:
        """Fails if the table is not in the catalog."""
        _open(config, self)

    def get_table_column_names_and_types(self, config: RepoConfig) -> Iterable[tuple[str, str]]:
        """The table's columns and their Iceberg types."""
        fields = _open(config, self).schema().fields
        return [(field.name, str(field.field_type)) for field in fields]

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """From an Iceberg type's name."""
        return lambda name: _VALUE_TYPES.get(name, ValueType.UNKNOWN)

    def get_table_query_string(self) -> str:
        """The table's name."""
        return self.table


class IcebergOfflineStoreConfig(FeastConfigBaseModel):
    """Where the tables are and how they are read; Feast finds this class by its name."""

    type: str = f"{__name__}.IcebergOfflineStore"

    catalog_uri: SecretStr
    """SQLAlchemy URL of the catalog's database, password included."""

    warehouse: str
    """The folder of the tables' files, as a URL."""

    known_then: bool = False
    """Every training set as of what had been written by then, see `iceberg.offline.join`;
    `get_historical_features(filter_by_created_timestamp=True)` asks for a single one."""

    memory_limit: str = "1GB"
    """What DuckDB may use before it spills to disk."""


class IcebergRetrievalJob(RetrievalJob):
    """Reads when it is asked for its result, each time anew."""

    def __init__(
        self,
        evaluate: Callable[[], pa.Table],
        full_feature_names: bool = False,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._full_feature_names = full_feature_names
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether features carry their view's name."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """None: the platform registers no code."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._evaluate()

    def _to_df_internal(self, timeout: int | None = None) -> Any:
        return self._evaluate().to_pandas()


class IcebergOfflineStore(OfflineStore):
    """Feast's way to `iceberg.offline`."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """The entity rows with their features, in the order they came; JoinError if they do not
        fit. Timestamps without a zone are UTC."""
        if entity_df is None or isinstance(entity_df, str):
            raise JoinError("entity rows: expected a pandas DataFrame")
        at = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        entities = _entities(entity_df, at)
        settings = _settings(config)

        def evaluate() -> pa.Table:
            asked = [
                (view, names) for view in feature_views if (names := _names(view, feature_refs))
            ]
            # Of one instant, so that no training set has half of what a promotion has changed.
            tables = _open_together(config, [view.batch_source for view, _ in asked])
            lookups = [
                _lookup(table, view, names, full_feature_names)
                for table, (view, names) in zip(tables, asked, strict=True)
            ]
            known_then = filter_by_created_timestamp or settings.known_then
            return join(entities, at, lookups, known_then, settings.memory_limit)

        bounds = pa.compute.min_max(entities.column(at)).as_py()
        return IcebergRetrievalJob(
            evaluate,
            full_feature_names,
            RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entities.column_names if name != at],
                min_event_timestamp=bounds["min"],
                max_event_timestamp=bounds["max"],
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each key with event time in [start_date, end_date]."""
        return IcebergRetrievalJob(
            lambda: rows(
                _open(config, data_source),
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column or None,
                start_date,
                end_date,
                newest_only=True,
                memory_limit=_settings(config).memory_limit,
            )
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """The rows with event time in [start_date, end_date], corrected ones once."""
        return IcebergRetrievalJob(
            lambda: rows(
                _open(config, data_source),
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column or None,
                start_date,
                end_date,
                memory_limit=_settings(config).memory_limit,
            )
        )


def _settings(config: RepoConfig) -> IcebergOfflineStoreConfig:
    settings = config.offline_store
    if not isinstance(settings, IcebergOfflineStoreConfig):
        raise TypeError(f"expected IcebergOfflineStoreConfig, got {type(settings).__name__}")
    return settings


def _open(config: RepoConfig, source: DataSource | None) -> Table:
    (table,) = _open_together(config, [source])
    return table


def _open_together(config: RepoConfig, sources: Iterable[DataSource | None]) -> list[Table]:
    names = []
    for source in sources:
        if not isinstance(source, IcebergSource):
            raise TypeError(f"expected IcebergSource, got {type(source).__name__}")
        names.append(source.table)
    settings = _settings(config)
    catalog = open_catalog(settings.catalog_uri.get_secret_value(), settings.warehouse)
    tables = load_together(catalog, names)
    return [tables[name] for name in names]


def _names(view: FeatureView, references: list[str]) -> list[str]:
    """The features asked of one view, which may be there several times under other names."""
    projection: Any = view.projection  # name_to_use has no types
    prefix = f"{projection.name_to_use()}:"
    return [text.removeprefix(prefix) for text in references if text.startswith(prefix)]


def _lookup(table: Table, view: FeatureView, names: list[str], full_feature_names: bool) -> Lookup:
    source = view.batch_source
    assert source is not None
    shown = f"{view.projection.name_alias or view.name}__" if full_feature_names else ""
    aliases = view.projection.join_key_map
    return Lookup(
        table=table,
        keys={c.name: aliases.get(c.name, c.name) for c in view.entity_columns},
        features={name: f"{shown}{name}" for name in names},
        ttl=view.ttl or None,
        event_time=source.timestamp_field,
        available_at=source.created_timestamp_column or None,
    )


def _entities(frame: Any, at: str) -> pa.Table:
    """A DataFrame as an Arrow table; its timestamps as instants, text among them read as such."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    column = table.column(at)
    if pa.types.is_dictionary(column.type):  # as pandas has a category
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        instants = [None if text is None else _instant(text) for text in column.to_pylist()]
        column = pa.chunked_array([pa.array(instants, pa.timestamp("us", "UTC"))])
    elif pa.types.is_timestamp(column.type) and column.type.tz != "UTC":
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    return table.set_column(table.column_names.index(at), at, column)


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise JoinError(f"entity rows: not an ISO timestamp: {text!r}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
