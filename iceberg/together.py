"""Commits changes of several tables as one: all of them, or none.

The catalog keeps each table's newest metadata as one row of one SQL table, so that one SQL
transaction moves any number of tables. Iceberg's specification has this as a transaction of a
REST catalog; PyIceberg's SQL catalog offers it table by table only, so this module does with its
parts what its `commit_table` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table import Table, Transaction
from pyiceberg.table.update import AssertTableUUID
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from schemas import HeadwaterError

_ATTEMPTS = 5
"""To read metadata that is gone before it was read: a file of it lasts for fifty commits."""


class CommitError(HeadwaterError):
    """Tables cannot be committed together; the text says why."""


def check_together(catalog: Catalog) -> SqlCatalog:
    """The catalog, if it can commit several tables as one: CommitError unless it is SQL."""
    if not isinstance(catalog, SqlCatalog):
        raise CommitError(
            f"a catalog of type {type(catalog).__name__} cannot commit several tables as one: a SQL"
            " catalog can"
        )
    return catalog


def commit_together(catalog: Catalog, transactions: Sequence[Transaction]) -> None:
    """Commit the transactions, one a table, at once; CommitError unless the catalog is SQL.

    CommitFailedException if a table has changed since its transaction began; nothing is changed
    then. The files of a commit that failed stay behind, and go with a table's orphans.
    """
    catalog = check_together(catalog)
    staged = []
    for transaction in transactions:
        table = transaction._table
        requirements = (
            *transaction._requirements,
            AssertTableUUID(uuid=transaction.table_metadata.table_uuid),
        )
        new = catalog._update_and_stage_table(
            table, table.name(), requirements, transaction._updates
        )
        catalog._write_metadata(new.metadata, new.io, new.metadata_location)
        staged.append((table, new.metadata_location))
    with Session(catalog.engine) as session:
        # Always in one order, so that two of these wait for each other and do not lock up.
        for table, location in sorted(staged, key=lambda pair: pair[0].name()):
            *namespace, name = table.name()
            moved = session.execute(
                update(IcebergTables)
                .where(
                    IcebergTables.catalog_name == catalog.name,
                    IcebergTables.table_namespace == ".".join(namespace),
                    IcebergTables.table_name == name,
                    IcebergTables.metadata_location == table.metadata_location,
                )
                .values(
                    metadata_location=location,
                    previous_metadata_location=table.metadata_location,
                )
            )
            if moved.rowcount < 1:  # type: ignore[attr-defined]
                raise CommitFailedException(f"{'.'.join(table.name())} was changed meanwhile")
        session.commit()


def commit_each(catalog: Catalog, transactions: Sequence[Transaction]) -> None:
    """The same in a catalog that is SQL; in another one after the other."""
    if isinstance(catalog, SqlCatalog):
        commit_together(catalog, transactions)
        return
    for transaction in transactions:
        transaction.commit_transaction()


def load_together(catalog: Catalog, names: Iterable[str]) -> dict[str, Table]:
    """Tables by name, all as of one instant: none is from before a common commit, another after.

    NoSuchTableError names one that is not there. A catalog that is not SQL has no such instant: of
    it each table is as it is found.
    """
    if not isinstance(catalog, SqlCatalog):
        return {name: catalog.load_table(name) for name in names}
    wanted = list(dict.fromkeys(names))
    for _ in range(_ATTEMPTS - 1):
        with suppress(FileNotFoundError):
            return _load(catalog, wanted)
    return _load(catalog, wanted)


def _load(catalog: SqlCatalog, names: Iterable[str]) -> dict[str, Table]:
    """Tables as the catalog knows them at one instant; FileNotFoundError if that is over."""
    with Session(catalog.engine) as session:
        rows = session.scalars(
            select(IcebergTables).where(IcebergTables.catalog_name == catalog.name)
        ).all()
    known = {f"{row.table_namespace}.{row.table_name}": row for row in rows}
    for name in names:
        if name not in known:
            raise NoSuchTableError(f"Table does not exist: {name}")
    # Not asked of the catalog one by one: jobs commit while they are read.
    return {name: catalog._convert_orm_to_iceberg(known[name]) for name in names}
