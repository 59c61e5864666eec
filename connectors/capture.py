"""What a PostgreSQL database needs before its tables can be captured, and keeps beside them.

A schema `headwater` with three tables: `heartbeat`, written by the connector now and then, so that
the write-ahead log of a database whose captured tables rest does not pile up; and `signals`, by
which a snapshot is asked for. Both are published together with the captured tables. `snapshots` has
the tables whose snapshot is still to be asked for, so that no killed command forgets it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from connectors.identity import (
    USABLE,
    full_identity,
    identity,
    needs_full_identity,
    quoted,
    refuse_unfit,
    unfit,
)
from connectors.tables import DatabaseError
from schemas import CdcTable, Repository, Type

HEARTBEAT = "headwater.heartbeat"
SIGNALS = "headwater.signals"
SNAPSHOTS = "headwater.snapshots"
HEARTBEAT_QUERY = (
    f"INSERT INTO {HEARTBEAT} (id, at) VALUES (1, now())"
    " ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at"
)
# The names of the tables whose snapshot is asked for, of which there may be many.
_WIDER = f"""
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = '{SIGNALS}'::regclass
      AND attname = 'data' AND atttypid <> 'text'::regtype) THEN
    ALTER TABLE {SIGNALS} ALTER COLUMN data TYPE text;
  END IF;
END $$
""".strip()
_TABLES = f"""
CREATE SCHEMA IF NOT EXISTS headwater;
CREATE TABLE IF NOT EXISTS {HEARTBEAT} (id integer PRIMARY KEY, at timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS {SIGNALS} (
  id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text
);
{_WIDER};
CREATE TABLE IF NOT EXISTS {SNAPSHOTS} (
  repository text, source text, reader integer, PRIMARY KEY (repository, source)
);
"""

# What Debezium makes of a type under the connector's settings, as far as a column can hold it.
_READ_AS = {
    "int2": (Type.INT64,),
    "int4": (Type.INT64,),
    "int8": (Type.INT64,),
    "float4": (Type.FLOAT64,),
    "float8": (Type.FLOAT64,),
    "numeric": (Type.FLOAT64,),
    "bool": (Type.BOOL,),
    "text": (Type.STRING,),
    "varchar": (Type.STRING,),
    "bpchar": (Type.STRING,),
    "citext": (Type.STRING,),
    "uuid": (Type.STRING,),
    "json": (Type.STRING,),
    "jsonb": (Type.STRING,),
    "inet": (Type.STRING,),
    "timestamp": (Type.TIMESTAMP,),
    "timestamptz": (Type.TIMESTAMP,),
    "date": (Type.INT64,),
    "time": (Type.INT64,),
}


@dataclass(frozen=True)
class Change:
    """Something in the database that is not as it must be."""

    what: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.what}: {self.found} -> {self.wanted}"


@dataclass(frozen=True)
class Slot:
    """A replication slot, as PostgreSQL tells of it."""

    reader: int | None
    """The process that reads from it now."""
    wal_status: str | None
    """`lost` once log was removed that was not read, `unreserved` when that is about to be."""
    lag: int | None
    """Bytes of write-ahead log that the connector has not confirmed."""


class Capture:
    """The captured tables of a repository in the database at `url`."""

    def __init__(self, url: str, repository: Repository) -> None:
        self._url = url
        self._repository = repository
        self.publication = _publication_name(repository)

    def changes(self) -> list[Change]:
        """What `apply` would do, unless it refuses a table; `drift` says so of one."""
        with self._connect() as connection:
            return [change for change, _ in self._steps(connection)]

    def apply(self) -> list[Change]:
        """Make everything as it must be, in one transaction; what was changed.

        Of tables that an earlier publication did not have it is noted that their rows are to come.
        DatabaseError, and nothing is changed, if a table cannot be captured that is not yet.
        """
        with self._connect() as connection:
            if unfit := self._unfit(connection, self.publication):
                raise DatabaseError(f"PostgreSQL: {'; '.join(unfit)}")
            steps = list(self._steps(connection))
            for _, statement in steps:
                connection.execute(statement)
            return [change for change, _ in steps]

    def drift(self) -> list[str]:
        """Tables that cannot be captured as they are declared, and declared columns that the
        database does not have, or has with another type.
        """
        with self._connect() as connection:
            told = self._unfit(connection)
            for table in self._repository.tables:
                there: dict[str, str] = dict(
                    connection.execute(
                        "SELECT a.attname, t.typname FROM pg_attribute a"
                        " JOIN pg_type t ON t.oid = a.atttypid"
                        " WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0"
                        " AND NOT a.attisdropped",
                        (quoted(table),),
                    ).fetchall()
                )
                for column in table.columns if there else ():
                    where = f"{table.qualified}.{column.name}"
                    type_ = there.get(column.name)
                    if type_ is None:
                        told.append(f"{where}: declared, and not in the table")
                    elif column.type not in _READ_AS.get(type_, ()):
                        told.append(f"{where}: declared {column.type.value}, in the table {type_}")
        return told

    def snapshot(self, tables: Iterable[CdcTable]) -> str:
        """Ask the connector to send the present rows of tables again; the signal's id.

        It reads them piece by piece beside the changes: a row that changes meanwhile is sent as it
        is after the change.
        """
        chosen = list(tables)
        with self._connect() as connection:
            self._forget(connection, chosen)
            return _signal(connection, chosen)

    def note_added(self, names: Iterable[str]) -> None:
        """Note that tables, as `schema.table`, are about to be captured, whose rows are to come.

        That outlives whoever notes it. DatabaseError if the database is not ready to be captured.
        """
        noted = sorted(names)
        if not noted:
            return
        with self._connect() as connection:
            if not _is_there(connection, SNAPSHOTS):
                raise DatabaseError(
                    f"PostgreSQL: no table {SNAPSHOTS}: run `headwater apply source` first, or what"
                    " `headwater connectors sql` prints"
                )
            for name in noted:
                connection.execute(
                    f"INSERT INTO {SNAPSHOTS} VALUES (%s, %s, %s) ON CONFLICT (repository, source)"
                    " DO UPDATE SET reader = EXCLUDED.reader",
                    (self._repository.name, name, self._reader(connection)),
                )

    def pending(self) -> list[CdcTable]:
        """The declared tables that were noted and whose rows have not been asked for since."""
        with self._connect() as connection:
            return self._declared(self._noted(connection))

    def send_pending(self, seconds: float) -> list[CdcTable]:
        """Ask the connector, which runs, for the rows of those tables; each is asked for once.

        It is waited for until whoever reads the database's log is another than when they were
        noted: a task from before would pass over what it does not capture. DatabaseError if that is
        not so in time; they stay noted.
        """
        deadline = time.monotonic() + seconds
        while True:
            with self._connect() as connection:
                before = self._noted(connection).values()
                reader = self._reader(connection)
                if not before or (reader is not None and reader not in before):
                    return self._sent(connection)
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"PostgreSQL: nobody began to read {self.publication} within {seconds:.0f} s"
                )
            time.sleep(0.2)

    def _forget(self, connection: psycopg.Connection, tables: Iterable[CdcTable]) -> None:
        """What was noted of tables, unless whoever reads may be a task from before."""
        reader = self._reader(connection)
        if reader is None or not _is_there(connection, SNAPSHOTS):
            return
        connection.execute(
            f"DELETE FROM {SNAPSHOTS} WHERE repository = %s AND source = ANY (%s)"
            " AND reader IS DISTINCT FROM %s",
            (self._repository.name, [table.qualified for table in tables], reader),
        )

    def _sent(self, connection: psycopg.Connection) -> list[CdcTable]:
        if not _is_there(connection, SNAPSHOTS):
            return []
        taken = connection.execute(
            f"DELETE FROM {SNAPSHOTS} WHERE repository = %s RETURNING source",
            (self._repository.name,),
        ).fetchall()
        tables = self._declared({source for (source,) in taken})
        if tables:
            _signal(connection, tables)
        return tables

    def _noted(self, connection: psycopg.Connection) -> dict[str, int | None]:
        """The declared tables that were noted, and who read the database's log then."""
        if not _is_there(connection, SNAPSHOTS):
            return {}
        found = connection.execute(
            f"SELECT source, reader FROM {SNAPSHOTS} WHERE repository = %s",
            (self._repository.name,),
        ).fetchall()
        declared = {table.qualified for table in self._repository.tables}
        return {name: reader for name, reader in found if name in declared}

    def _declared(self, names: Collection[str]) -> list[CdcTable]:
        return [table for table in self._repository.tables if table.qualified in names]

    def _reader(self, connection: psycopg.Connection) -> int | None:
        """The process of PostgreSQL that the connector's task reads from; None if none runs."""
        row = connection.execute(
            "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", (self.publication,)
        ).fetchone()
        return None if row is None else row[0]

    def slot(self) -> Slot | None:
        """What keeps PostgreSQL's log for the connector; None before the connector's start."""
        with self._connect() as connection:
            row = connection.execute(
                "SELECT active_pid, wal_status,"
                " pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint"
                " FROM pg_replication_slots WHERE slot_name = %s",
                (self.publication,),
            ).fetchone()
        return None if row is None else Slot(*row)

    def _steps(
        self, connection: psycopg.Connection
    ) -> Iterable[tuple[Change, sql.SQL | sql.Composed]]:
        yield from self._identities(connection)
        own = (HEARTBEAT, SIGNALS, SNAPSHOTS)
        kept = [name for name in own if _is_there(connection, name)]
        if len(kept) < len(own):
            there = ", ".join(kept) or "absent"
            yield Change("schema headwater", there, ", ".join(own)), sql.SQL(_TABLES)
        elif not _is_wide(connection):
            yield Change(f"{SIGNALS}.data", "varchar", "text"), sql.SQL(_WIDER)
        yield from self._publication(connection)

    def _identities(
        self, connection: psycopg.Connection
    ) -> Iterable[tuple[Change, sql.SQL | sql.Composed]]:
        for table in self._repository.tables:
            found = connection.execute(
                f"SELECT c.relreplident::text, {USABLE} FROM pg_class c"
                " WHERE c.oid = to_regclass(%s)",
                (quoted(table),),
            ).fetchone()
            if found is None or found[0] == "f":
                continue
            if needs_full_identity(table) or not found[1]:
                what = f"{table.qualified} replica identity"
                yield Change(what, _IDENTITY[found[0]], "full"), full_identity(table)

    def _publication(
        self, connection: psycopg.Connection
    ) -> Iterable[tuple[Change, sql.SQL | sql.Composed]]:
        wanted = _published(self._repository)
        published = sorted(
            connection.execute(
                "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s",
                (self.publication,),
            ).fetchall()
        )
        exists = connection.execute(
            "SELECT 1 FROM pg_publication WHERE pubname = %s", (self.publication,)
        ).fetchone()
        if published != wanted or exists is None:
            make = _set_publication if exists else _create_publication
            change = Change(f"publication {self.publication}", _list(published), _list(wanted))
            yield change, make(self._repository)

    def _unfit(self, connection: psycopg.Connection, publication: str | None = None) -> list[str]:
        """Why tables cannot be captured, one text a table; of those not in a publication yet."""
        query = unfit(self._repository.tables, publication)
        return [text for (text,) in connection.execute(query).fetchall()]

    @contextmanager
    def _connect(self) -> Iterator[psycopg.Connection]:
        """A connection, committed at the end; DatabaseError for what PostgreSQL says."""
        try:
            with psycopg.connect(self._url, connect_timeout=5) as connection:
                yield connection
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f"PostgreSQL: {str(error).strip()}; who may runs what `headwater connectors sql`"
                " prints"
            ) from error
        except psycopg.Error as error:
            raise DatabaseError(f"PostgreSQL: {str(error).strip()}") from error


def _signal(connection: psycopg.Connection, tables: Iterable[CdcTable]) -> str:
    """Ask for the present rows of tables; the signal's id."""
    id_ = f"headwater-{uuid.uuid4().hex}"
    data = {
        "data-collections": [table.qualified for table in tables],
        "type": "incremental",
    }
    connection.execute(
        f"INSERT INTO {SIGNALS} VALUES (%s, 'execute-snapshot', %s)", (id_, json.dumps(data))
    )
    return id_


def _is_there(connection: psycopg.Connection, name: str) -> bool:
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()
    return found == (True,)


def _is_wide(connection: psycopg.Connection) -> bool:
    """Whether the names of many tables fit in a signal, or that is its owner's to see to."""
    found = connection.execute(
        "SELECT a.atttypid = 'text'::regtype OR NOT pg_has_role(c.relowner, 'USAGE')"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.oid = to_regclass(%s) AND a.attname = 'data'",
        (SIGNALS,),
    ).fetchone()
    return found == (True,)


def script(repository: Repository, user: str) -> str:
    """What `apply` does, as SQL for whoever owns the tables or is a superuser; twice does no harm.

    `user` is whom the connector is, who needs to be allowed replication as well.
    """
    tables = _pairs(repository)
    schemas = sorted({schema for schema, _ in tables} - {"headwater", "public"})
    parts = [
        # What fails is not gone on from, also where each statement is sent by itself.
        sql.SQL("BEGIN"),
        refuse_unfit(repository.tables, _publication_name(repository)),
        *(identity(table) for table in sorted(repository.tables, key=lambda one: one.qualified)),
        sql.SQL(_TABLES.strip().removesuffix(";")),
        sql.SQL(_PUBLISH).format(
            sql.Literal(_publication_name(repository)),
            _set_publication(repository),
            _create_publication(repository),
        ),
        *(_grant_usage(schema, user) for schema in ("headwater", *schemas)),
        *(sql.SQL(text).format(sql.Identifier(user), _names(tables)) for text in _GRANTS),
        sql.SQL("COMMIT"),
    ]
    return "".join(f"{part.as_string(None)};\n" for part in parts)


def _pairs(repository: Repository) -> list[tuple[str, str]]:
    return sorted({(table.schema, table.table) for table in repository.tables})


def _published(repository: Repository) -> list[tuple[str, str]]:
    return sorted({*_pairs(repository), _pair(HEARTBEAT), _pair(SIGNALS)})


def _publication_name(repository: Repository) -> str:
    return f"headwater_{repository.name}"


def _set_publication(repository: Repository) -> sql.Composed:
    """Publish what is declared, and note tables that were not published: their rows are to come."""
    name = _publication_name(repository)
    return sql.SQL(_SET_PUBLICATION).format(
        repository=repository.name,
        name=sql.Literal(name),
        tables=sql.SQL(", ").join(sql.SQL("({}, {})").format(*p) for p in _pairs(repository)),
        publication=sql.Identifier(name),
        published=_names(_published(repository)),
    )


def _create_publication(repository: Repository) -> sql.Composed:
    return sql.SQL(_CREATE_PUBLICATION).format(
        sql.Identifier(_publication_name(repository)), _names(_published(repository))
    )


def _names(pairs: Iterable[tuple[str, str]]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*pair) for pair in pairs)


def _grant_usage(schema: str, user: str) -> sql.Composed:
    return sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
        sql.Identifier(schema), sql.Identifier(user)
    )


_PUBLISH = """
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_publication WHERE pubname = {}) THEN
    {};
  ELSE
    {};
  END IF;
END $$
""".strip()
_GRANTS = (
    f"GRANT SELECT, INSERT, UPDATE ON {HEARTBEAT} TO {{0}}",
    f"GRANT SELECT, INSERT ON {SIGNALS} TO {{0}}",
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON {SNAPSHOTS} TO {{0}}",
    "GRANT SELECT ON {1} TO {0}",
)
_IDENTITY = {"d": "default", "n": "nothing", "f": "full", "i": "index"}
_SET_PUBLICATION = f"""
INSERT INTO {SNAPSHOTS}
    SELECT {{repository}}, it.schema || '.' || it.name,
      (SELECT active_pid FROM pg_replication_slots WHERE slot_name = {{name}})
    FROM (VALUES {{tables}}) AS it (schema, name)
    WHERE (it.schema, it.name) NOT IN (
      SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = {{name}}
    )
    ON CONFLICT (repository, source) DO UPDATE SET reader = EXCLUDED.reader;
    ALTER PUBLICATION {{publication}} SET TABLE {{published}}
""".strip()
_CREATE_PUBLICATION = "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert, update, delete')"


def _pair(name: str) -> tuple[str, str]:
    schema, _, table = name.partition(".")
    return schema, table


def _list(pairs: Iterable[tuple[str, ...]]) -> str:
    return ", ".join(".".join(pair) for pair in pairs) or "absent"
