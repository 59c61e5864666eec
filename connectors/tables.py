"""Fills the source tables in PostgreSQL with a history's rows."""

from __future__ import annotations

import psycopg
from psycopg import sql

from schemas import CdcTable, HeadwaterError
from schemas.history import History


class DatabaseError(HeadwaterError):
    """PostgreSQL does not answer or refuses; the text says what it said."""

    exit_code = 1


def load_tables(url: str, tables: tuple[CdcTable, ...], history: History) -> dict[str, int]:
    """Create the tables and insert the rows that are not there; rows inserted, by table.

    Rows that are there stay as they are, so that a second run changes nothing.
    """
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            connection.execute(history.tables_sql.read_bytes())
            return {table.name: _fill(connection, table, history) for table in tables}
    except psycopg.Error as error:
        raise DatabaseError(f"PostgreSQL: {str(error).strip()}") from error


def _fill(connection: psycopg.Connection, table: CdcTable, history: History) -> int:
    rows = list(history.tables[table.name]())
    if not rows:
        return 0
    name = sql.Identifier(table.schema, table.table)
    columns = sql.SQL(", ").join(map(sql.Identifier, rows[0]))
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE TEMP TABLE loading ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0").format(
                columns, name
            )
        )
        with cursor.copy(sql.SQL("COPY loading ({}) FROM STDIN").format(columns)) as copy:
            for row in rows:
                copy.write_row(tuple(row.values()))
        cursor.execute(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM loading ON CONFLICT DO NOTHING").format(
                name, columns, columns
            )
        )
        inserted = cursor.rowcount
        cursor.execute("DROP TABLE loading")
    return inserted
