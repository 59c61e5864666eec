"""The Iceberg catalog, kept in a SQL database that Flink's JdbcCatalog reads as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from urllib.parse import urlsplit

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchTableError, TableAlreadyExistsError
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.types import NestedField
from requests import RequestException

from iceberg.commits import commit_beside_others, expire_snapshots
from iceberg.lineage import lineage
from iceberg.repairs import repair
from iceberg.tables import (
    TOPIC,
    archive_order,
    archive_partitions,
    archive_schema,
    partition_spec,
    quality_schema,
    table_schema,
)
from schemas import EVENT_TIME, EventStream, FeatureView, HeadwaterError, Repository

CATALOG = "headwater"
"""Part of every row of the catalog's tables: both readers must use the same name."""

NAMESPACE = "features"
"""Of the tables of feature views."""

ARCHIVE = "raw"
"""Of the tables of raw events, one a stream."""

QUALITY = "quality"
"""Of the tables of what became of expectations, one a repository."""

_EMPTY = "empty"

_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    # A replay writes many days at once, each with a writer of its own: keep their buffers small.
    "write.parquet.page-size-bytes": str(64 << 10),
    # Files of a checkpoint's length gain nothing from dictionaries: they come out a twelfth smaller
    # without them, in less time.
    "parquet.enable.dictionary": "false",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}


class CatalogUnavailable(HeadwaterError):
    """The Iceberg catalog does not answer; the text has its address and what it said."""

    exit_code = 1


class TableMismatch(HeadwaterError):
    """A table exists with columns that the view's declaration cannot be written to."""


def open_catalog(uri: str, warehouse: str) -> Catalog:
    """The catalog at `uri`, its files under `warehouse`.

    `uri` is the SQLAlchemy URL of a database, or a REST catalog's address; PyIceberg takes the
    latter's token, and how S3 is reached, from its own variables PYICEBERG_CATALOG__HEADWATER__*:
    TOKEN, S3__ENDPOINT and S3__REGION. CatalogUnavailable if it does not answer.
    """
    repair()
    if uri.startswith(("http://", "https://")):
        try:
            return load_catalog(CATALOG, type="rest", uri=uri, warehouse=warehouse)
        except RequestException as error:
            raise CatalogUnavailable(f"{_address(uri)} does not answer: {error}") from error
    from sqlalchemy.exc import OperationalError  # SQLAlchemy takes a while to import

    try:
        # A command that goes on for hours may come upon a database that was started again.
        return load_catalog(CATALOG, type="sql", uri=uri, warehouse=warehouse, pool_pre_ping="true")
    except OperationalError as error:
        raise CatalogUnavailable(f"{_address(uri)} does not answer: {error.orig}") from error


def _address(uri: str) -> str:
    """Without the password that it may hold."""
    parts = urlsplit(uri)
    return f"the Iceberg catalog at {parts.hostname}:{parts.port}"


def table_names(catalog: Catalog) -> list[str]:
    """Every table of the catalog, as namespace.name."""
    return sorted(
        ".".join(table)
        for namespace in catalog.list_namespaces()
        for table in catalog.list_tables(namespace)
    )


def declared(repository: Repository) -> list[str]:
    """Every table of a repository, as namespace.name."""
    quality = [f"{QUALITY}.{repository.name}"] if repository.checked else []
    views = [f"{NAMESPACE}.{view.name}" for view in repository.views]
    return sorted(
        [*views, *(f"{ARCHIVE}.{stream.name}" for stream in repository.archived), *quality]
    )


def create_tables(
    catalog: Catalog, views: Iterable[FeatureView], archived: Iterable[EventStream] = ()
) -> list[str]:
    """Create missing tables and add missing columns; the names of tables that changed.

    Those of views, and of the raw events of `archived`. An event's column that is declared no more
    stays, null from then on: a field may come and go. TableMismatch, before any table is changed,
    if a column is there with another type; if a feature is there and declared no more; or if events
    are of another topic than their stream is on now. One that somebody else creates just now is
    there.
    """
    wanted = [*map(_of_view, views), *map(_of_events, archived)]
    found = [_found(catalog, one) for one in wanted]
    for namespace in dict.fromkeys(one.namespace for one in wanted):
        _create_namespace(catalog, namespace)
    return [
        one.name for one, there in zip(wanted, found, strict=True) if _follow(catalog, one, there)
    ]


def create_quality(catalog: Catalog, repository: str) -> list[str]:
    """Create the table of a repository's expectations if it is missing; its name if it was."""
    _create_namespace(catalog, QUALITY)
    name, schema = f"{QUALITY}.{repository}", quality_schema()
    return [name] if _create(catalog, name, schema, partition_spec(schema)) else []


def _create_namespace(catalog: Catalog, name: str) -> None:
    try:
        catalog.create_namespace_if_not_exists(name)
    except Exception:  # a SQL catalog says in its database's words that somebody else was first
        if not catalog.namespace_exists(name):
            raise


def _create(
    catalog: Catalog,
    name: str,
    schema: Schema,
    partitions: PartitionSpec,
    order: SortOrder = UNSORTED_SORT_ORDER,
) -> bool:
    """Create a table that is not there; whether it was, and by nobody else just now."""
    if catalog.table_exists(name):
        return False
    try:
        catalog.create_table(
            name,
            schema,
            partition_spec=partitions,
            sort_order=order,
            properties=_PROPERTIES,
        )
    except TableAlreadyExistsError:
        return False
    return True


def empty_branch(table: Table, name: str) -> None:
    """A branch of a table that holds no rows, whatever its main branch or it held before."""

    def change() -> None:
        refs = table.refresh().refs()
        root, there = refs[_EMPTY].snapshot_id, refs.get(name)
        if there is None:
            table.manage_snapshots().create_branch(root, name).commit()
        elif there.snapshot_id != root:
            table.manage_snapshots().remove_branch(name).create_branch(root, name).commit()

    _commit(table, change)


def cut_branch(table: Table, name: str, end: str) -> None:
    """Remove a branch's rows from an event time on, ISO 8601."""
    _commit(table, lambda: table.refresh().delete(f"{EVENT_TIME} >= '{end}'", branch=name))


def branch_files(table: Table, name: str) -> dict[str, int]:
    """The data files of a branch and their sizes in bytes; none if there is no such branch."""
    if name not in table.refs():
        return {}
    scan = table.scan(snapshot_id=table.refs()[name].snapshot_id)
    return {task.file.file_path: task.file.file_size_in_bytes for task in scan.plan_files()}


def drop_branch(table: Table, name: str, tags: Iterable[str], delete_files: bool) -> None:
    """Remove a branch that began empty, and tags, where they are there.

    Its files are deleted if that is asked for, which only a branch allows whose files were never
    taken over by another; else they go when maintenance expires the snapshots that name them.
    """
    files = branch_files(table, name) if delete_files else {}
    snapshots = _own_snapshots(table, name) if delete_files else []

    def unname() -> None:
        refs, changes = table.refresh().refs(), table.manage_snapshots()
        if name in refs:
            changes = changes.remove_branch(name)
        for tag in tags:
            if tag in refs:
                changes = changes.remove_tag(tag)
        changes.commit()

    _commit(table, unname)
    if snapshots:
        _commit(table, lambda: expire_snapshots(table.refresh(), snapshots))
    for path in files:
        with suppress(FileNotFoundError):  # of no snapshot any more, it may be gone as an orphan
            table.io.delete(path)


def _commit(table: Table, change: Callable[[], object]) -> None:
    commit_beside_others(".".join(table.name()), change)


def _own_snapshots(table: Table, name: str) -> list[int]:
    """Those of a branch since the empty one it began with."""
    refs = table.refs()
    if name not in refs:
        return []
    ids = (snapshot.snapshot_id for snapshot in lineage(table, refs[name].snapshot_id))
    return list(takewhile(lambda id_: id_ != refs[_EMPTY].snapshot_id, ids))


def _begin(table: Table) -> None:
    """A snapshot without rows, the first of a table, and one where replays branch off.

    That is on a branch of its own, which is empty whatever rows the table has by then.
    """
    for branch in (MAIN_BRANCH, _EMPTY):
        if branch not in table.refs():
            _commit(table, partial(_append_nothing, table, branch))


def _append_nothing(table: Table, branch: str) -> None:
    if branch not in table.refresh().refs():  # unless somebody else has done so meanwhile
        table.append(table.schema().as_arrow().empty_table(), branch=branch)


def check_topic(table: Table, stream: EventStream, name: str) -> None:
    """Raise TableMismatch if archived events are of another topic than the stream is on now.

    A partition and an offset, which they are known by, are a place in one topic alone.
    """
    there = table.scan(selected_fields=(TOPIC,), limit=1).to_arrow()[TOPIC].to_pylist()
    if there and there[0] != stream.topic:
        raise TableMismatch(
            f"{name}: its events are of the topic {there[0]}, and {stream.name} is declared on"
            f" {stream.topic}: another topic needs a stream of a new name"
        )


@dataclass(frozen=True)
class _Wanted:
    """A table as it is declared."""

    namespace: str
    own_name: str
    schema: Schema
    partitions: PartitionSpec
    order: SortOrder = UNSORTED_SORT_ORDER
    stream: EventStream | None = None
    """Whose raw events it holds; None for a view's."""

    @property
    def name(self) -> str:
        return f"{self.namespace}.{self.own_name}"


@dataclass(frozen=True)
class _There:
    """A table as it is, and the columns it lacks."""

    table: Table
    missing: list[NestedField]


def _of_view(view: FeatureView) -> _Wanted:
    schema = table_schema(view)
    return _Wanted(NAMESPACE, view.name, schema, partition_spec(schema))


def _of_events(stream: EventStream) -> _Wanted:
    schema = archive_schema(stream)
    partitions, order = archive_partitions(schema), archive_order(schema)
    return _Wanted(ARCHIVE, stream.name, schema, partitions, order, stream)


def _found(catalog: Catalog, wanted: _Wanted) -> _There | None:
    """What there is of a table; TableMismatch if it cannot become what is wanted."""
    try:
        table = catalog.load_table(wanted.name)
    except NoSuchTableError:
        return None
    if wanted.stream is not None:
        check_topic(table, wanted.stream, wanted.name)
    return _There(table, _missing(table, wanted))


def _missing(table: Table, wanted: _Wanted) -> list[NestedField]:
    there = {field.name: field for field in table.schema().fields}
    declared = {field.name: field for field in wanted.schema.fields}
    for column, field in there.items():
        if column not in declared:
            if wanted.stream is not None:
                continue
            raise TableMismatch(
                f"{wanted.name}.{column}: in the table and no longer declared; keep it, or give"
                " what changed a new name"
            )
        if field.field_type != declared[column].field_type:
            raise TableMismatch(
                f"{wanted.name}.{column}: {field.field_type} in the table,"
                f" {declared[column].field_type} declared; give it a new name"
            )
    return [field for column, field in declared.items() if column not in there]


def _follow(catalog: Catalog, wanted: _Wanted, there: _There | None) -> bool:
    """Make a table what is wanted; whether that changed it."""
    made = there is None and _create(
        catalog, wanted.name, wanted.schema, wanted.partitions, wanted.order
    )
    if there is None and not made:
        there = _found(catalog, wanted)
    if there is not None and there.missing:
        _add_columns(there.table, there.missing)
    if wanted.stream is None:
        _begin(catalog.load_table(wanted.name))  # whoever made it may have been killed before
    return made or (there is not None and bool(there.missing))


def _add_columns(table: Table, missing: Iterable[NestedField]) -> None:
    def change() -> None:
        by_now = {field.name for field in table.refresh().schema().fields}
        with table.update_schema() as update:
            for field in missing:
                if field.name not in by_now:  # somebody else may have added it meanwhile
                    update.add_column(field.name, field.field_type)

    _commit(table, change)
