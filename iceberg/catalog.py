"""The Iceberg catalog, kept in a SQL database that Flink's JdbcCatalog reads as well."""

from __future__ import annotations

from collections.abc import Iterable

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from iceberg.tables import partition_spec, table_schema
from schemas import FeatureView, HeadwaterError

CATALOG = "headwater"
"""Part of every row of the catalog's tables: both readers must use the same name."""

NAMESPACE = "features"
_EMPTY = "empty"

_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    # A replay writes many days at once, each with a writer of its own: keep their buffers small.
    "write.parquet.page-size-bytes": str(64 << 10),
    "write.parquet.dict-size-bytes": str(64 << 10),
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}


class TableMismatch(HeadwaterError):
    """A table exists with columns that the view's declaration cannot be written to."""


def open_catalog(uri: str, warehouse: str) -> Catalog:
    """The catalog at `uri`, its files under `warehouse`.

    `uri` is the SQLAlchemy URL of a database, or a REST catalog's address; PyIceberg takes the
    latter's token from its own variable PYICEBERG_CATALOG__HEADWATER__TOKEN.
    """
    if uri.startswith(("http://", "https://")):
        return load_catalog(CATALOG, type="rest", uri=uri, warehouse=warehouse)
    return SqlCatalog(CATALOG, uri=uri, warehouse=warehouse)


def create_tables(catalog: Catalog, views: Iterable[FeatureView]) -> list[str]:
    """Create missing tables and add missing features; the names of tables that changed.

    TableMismatch if a column is there with another type, or is there and no longer declared.
    """
    catalog.create_namespace_if_not_exists(NAMESPACE)
    changed = []
    for view in views:
        name = f"{NAMESPACE}.{view.name}"
        schema = table_schema(view)
        if not catalog.table_exists(name):
            table = catalog.create_table(
                name, schema, partition_spec=partition_spec(schema), properties=_PROPERTIES
            )
            _mark_empty(table)
            changed.append(name)
        elif _add_features(catalog.load_table(name), schema, name):
            changed.append(name)
    return changed


def empty_branch(table: Table, name: str) -> None:
    """A branch of a table that holds no rows yet, whatever its main branch holds."""
    if name not in table.refs():
        root = table.refs()[_EMPTY].snapshot_id
        table.manage_snapshots().create_branch(root, name).commit()


def _mark_empty(table: Table) -> None:
    """A snapshot without rows, kept by a tag: where replays branch off."""
    table.append(table.schema().as_arrow().empty_table())
    snapshot = table.current_snapshot()
    assert snapshot is not None
    table.manage_snapshots().create_tag(snapshot.snapshot_id, _EMPTY).commit()


def _add_features(table: Table, wanted: Schema, name: str) -> bool:
    there = {field.name: field for field in table.schema().fields}
    declared = {field.name: field for field in wanted.fields}
    for column in there:
        if column not in declared:
            raise TableMismatch(
                f"{name}.{column}: in the table and no longer declared; keep the feature, or give "
                "the changed view a new name"
            )
    missing = [field for column, field in declared.items() if column not in there]
    for column, field in there.items():
        if field.field_type != declared[column].field_type:
            raise TableMismatch(
                f"{name}.{column}: {field.field_type} in the table,"
                f" {declared[column].field_type} declared; give the changed feature a new name"
            )
    if missing:
        with table.update_schema() as update:
            for field in missing:
                update.add_column(field.name, field.field_type)
    return bool(missing)
