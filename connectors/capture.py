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

from connectors.tables import DatabaseError
from schemas import CdcTable, Repository, Type

HEARTBEAT = "headwater.heartbeat"
SIGNALS = "headwater.signals"
SNAPSHOTS = "headwater.snapshots"
HEARTBEAT_QUERY = (
    f"INSERT INTO {HEARTBEAT} (id, at) VALUES (1, now())"
    " ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at"
)
_TABLES = f"""
CREATE SCHEMA IF NOT EXISTS headwater;
CREATE TABLE IF NOT EXISTS {HEARTBEAT} (id integer PRIMARY KEY, at timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS {SIGNALS} (
  id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048)
);
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


class Capture:
    """The captured tables of a repository in the database at `url`."""

    def __init__(self, url: str, repository: Repository) -> None:
        self._url = url
        self._repository = repository
        self.publication = f"headwater_{repository.name}"

    def changes(self) -> list[Change]:
        """What `apply` would do; DatabaseError if there is no such table."""
        with self._connect() as connection:
            return [change for change, _ in self._steps(connection)]

    def apply(self) -> list[Change]:
        """Make everything as it must be, in one transaction; what was changed."""
        with self._connect() as connection:
            steps = list(self._steps(connection))
            for _, statement in steps:
                connection.execute(statement)
            return [change for change, _ in steps]

    def drift(self) -> list[str]:
        """Declared columns that the database does not have, or has with another type."""
        told = []
        with self._connect() as connection:
            for table in self._repository.tables:
                there: dict[str, str] = dict(
                    connection.execute(
                        "SELECT a.attname, t.typname FROM pg_attribute a"
                        " JOIN pg_type t ON t.oid = a.atttypid"
                        " WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0"
                        " AND NOT a.attisdropped",
                        (_quoted(table),),
                    ).fetchall()
                )
                for column in table.columns:
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
        with self._connect() as connection:
            return _signal(connection, tables)

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

    def lag(self) -> int | None:
        """Bytes of write-ahead log that the connector has not confirmed; None before its start."""
        with self._connect() as connection:
            row = connection.execute(
                "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)"
                " FROM pg_replication_slots WHERE slot_name = %s",
                (self.publication,),
            ).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def _steps(
        self, connection: psycopg.Connection
    ) -> Iterable[tuple[Change, sql.SQL | sql.Composed]]:
        tables = self._repository.tables
        for table in tables:
            found = connection.execute(
                "SELECT relreplident::text FROM pg_class WHERE oid = to_regclass(%s)",
                (_quoted(table),),
            ).fetchone()
            if found is None:
                raise DatabaseError(f"PostgreSQL: no table {table.qualified}")
            if needs_full_identity(table) and found[0] != "f":
                yield (
                    Change(
                        f"{table.qualified} replica identity",
                        _IDENTITY[found[0]],
                        "full",
                    ),
                    _full_identity(table.schema, table.table),
                )
        own = (HEARTBEAT, SIGNALS, SNAPSHOTS)
        kept = [name for name in own if _is_there(connection, name)]
        if len(kept) < len(own):
            there = ", ".join(kept) or "absent"
            yield Change("schema headwater", there, ", ".join(own)), sql.SQL(_TABLES)
        wanted = sorted({(t.schema, t.table) for t in tables} | {_pair(HEARTBEAT), _pair(SIGNALS)})
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
            verb = _SET_PUBLICATION if exists else _CREATE_PUBLICATION
            yield (
                Change(f"publication {self.publication}", _list(published), _list(wanted)),
                sql.SQL(verb).format(sql.Identifier(self.publication), _names(wanted)),
            )

    @contextmanager
    def _connect(self) -> Iterator[psycopg.Connection]:
        """A connection, committed at the end; DatabaseError for what PostgreSQL says."""
        try:
            with psycopg.connect(self._url, connect_timeout=5) as connection:
                yield connection
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


def script(repository: Repository, user: str) -> str:
    """What `apply` does, as SQL for whoever owns the tables or is a superuser; twice does no harm.

    `user` is whom the connector is, who needs to be allowed replication as well.
    """
    tables = sorted({(table.schema, table.table) for table in repository.tables})
    whole = sorted((t.schema, t.table) for t in repository.tables if needs_full_identity(t))
    published = _names(sorted({*tables, _pair(HEARTBEAT), _pair(SIGNALS)}))
    name = f"headwater_{repository.name}"
    parts = [
        *(_full_identity(*table) for table in whole),
        sql.SQL(_TABLES.strip().removesuffix(";")),
        sql.SQL(_PUBLISH).format(
            sql.Literal(name),
            sql.SQL(_SET_PUBLICATION).format(sql.Identifier(name), published),
            sql.SQL(_CREATE_PUBLICATION).format(sql.Identifier(name), published),
        ),
        *(sql.SQL(text).format(sql.Identifier(user), _names(tables)) for text in _GRANTS),
    ]
    return "".join(f"{part.as_string(None)};\n" for part in parts)


def _names(pairs: Iterable[tuple[str, str]]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*pair) for pair in pairs)


def _full_identity(schema: str, table: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(sql.Identifier(schema, table))


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
    "GRANT USAGE ON SCHEMA headwater TO {0}",
    f"GRANT SELECT, INSERT, UPDATE ON {HEARTBEAT} TO {{0}}",
    f"GRANT SELECT, INSERT ON {SIGNALS} TO {{0}}",
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON {SNAPSHOTS} TO {{0}}",
    "GRANT SELECT ON {1} TO {0}",
)
_IDENTITY = {"d": "default", "n": "nothing", "f": "full", "i": "index"}
_SET_PUBLICATION = "ALTER PUBLICATION {} SET TABLE {}"
_CREATE_PUBLICATION = "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert, update, delete')"


def needs_full_identity(table: CdcTable) -> bool:
    """Whether a change must carry all columns: large texts that did not change are left out."""
    return any(
        column.type is Type.STRING and column.name != table.primary_key for column in table.columns
    )


def _quoted(table: CdcTable) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (table.schema, table.table))


def _pair(name: str) -> tuple[str, str]:
    schema, _, table = name.partition(".")
    return schema, table


def _list(pairs: Iterable[tuple[str, ...]]) -> str:
    return ", ".join(".".join(pair) for pair in pairs) or "absent"
