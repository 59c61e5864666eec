"""Whether the changes of a captured table say which row they are of."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from schemas import CdcTable, Type

_UNFIT = """
SELECT it.schema || '.' || it.name || ': ' || CASE
    WHEN c.relkind IS NULL THEN 'there is no such table'
    WHEN c.relkind = 'p' THEN 'is partitioned, and a partition made later would be captured'
      || ' without its large texts: declare each as a table, or capture one that a trigger fills'
    WHEN c.relkind <> 'r' THEN 'is no table: declare the one that it is made of'
    ELSE 'declared with the primary key ' || it.key || ', in the table '
      || coalesce(array_to_string(k.names, ', '), 'none')
      || ': declare the key that the table has, or make the declared one its primary key'
  END
FROM (VALUES {}) AS it (schema, name, key)
LEFT JOIN pg_class c ON c.oid = to_regclass(format('%I.%I', it.schema, it.name))
LEFT JOIN LATERAL (
  SELECT array_agg(a.attname::text) AS names
  FROM pg_constraint p JOIN pg_attribute a ON a.attrelid = p.conrelid AND a.attnum = ANY (p.conkey)
  WHERE p.conrelid = c.oid AND p.contype = 'p'
) k ON true
WHERE (c.relkind IS DISTINCT FROM 'r' OR k.names IS DISTINCT FROM ARRAY[it.key])
""".strip()
_NOT_PUBLISHED = """
AND NOT EXISTS (
  SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
  WHERE p.pubname = {} AND r.prrelid = c.oid)
""".strip()
_REFUSE = """
DO $$ DECLARE unfit text; BEGIN
  FOR unfit IN
{}
  LOOP
    RAISE EXCEPTION '%', unfit;
  END LOOP;
END $$
""".strip()

USABLE = (
    "(c.relreplident = 'f' OR c.relreplident = 'd' AND EXISTS (SELECT FROM pg_index"
    " WHERE indrelid = c.oid AND indisprimary AND indimmediate)"
    " OR c.relreplident = 'i' AND EXISTS (SELECT FROM pg_index i, pg_index p"
    " WHERE i.indrelid = c.oid AND i.indisreplident AND p.indrelid = c.oid AND p.indisprimary"
    " AND i.indkey = p.indkey))"
)
"""Of a pg_class `c` with a primary key: whether PostgreSQL lets a published row change and go."""

_LACKS_FULL = "c.relreplident <> 'f'"
# To change it locks the table for everybody, if only for as long as nobody else reads it.
_MEND = """
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_class c WHERE c.oid = {}::regclass AND {}) THEN
    {};
  END IF;
END $$
""".strip()


def unfit(tables: Iterable[CdcTable], publication: str | None = None) -> sql.Composed:
    """A query for why tables cannot be captured, one text a table.

    Published without a key a table's own application could change no row, and with another one
    than is declared a changed key would leave the old one's values behind. Of a `publication` those
    that it has already are left out: they have been captured so.
    """
    found = sql.SQL(_UNFIT).format(
        sql.SQL(", ").join(
            sql.SQL("({}, {}, {})").format(table.schema, table.table, table.primary_key)
            for table in tables
        )
    )
    if publication is None:
        return found
    return found + sql.SQL("\n") + sql.SQL(_NOT_PUBLISHED).format(sql.Literal(publication))


def refuse_unfit(tables: Iterable[CdcTable], publication: str) -> sql.Composed:
    """A statement that fails where there is such a table that is not in a publication yet."""
    return sql.SQL(_REFUSE).format(unfit(tables, publication))


def needs_full_identity(table: CdcTable) -> bool:
    """Whether a change must carry all columns: large texts that did not change are left out."""
    return any(
        column.type is Type.STRING and column.name != table.primary_key for column in table.columns
    )


def full_identity(table: CdcTable) -> sql.Composed:
    """The statement by which a change carries all columns."""
    return sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(
        sql.Identifier(table.schema, table.table)
    )


def identity(table: CdcTable) -> sql.Composed:
    """The statement by which a table has the identity it needs; one that has it keeps it."""
    lacks = _LACKS_FULL if needs_full_identity(table) else f"NOT {USABLE}"
    return sql.SQL(_MEND).format(sql.Literal(quoted(table)), sql.SQL(lacks), full_identity(table))


def quoted(table: CdcTable) -> str:
    """Its name, as SQL has it."""
    return sql.Identifier(table.schema, table.table).as_string(None)
