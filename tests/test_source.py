"""A captured database is made ready: by whoever owns its tables, or by hand with the same SQL.

On PostgreSQL alone, where the connector is somebody else than the tables' owner.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace

import psycopg
import pytest
from click.testing import CliRunner

from connectors.capture import HEARTBEAT_QUERY, Capture, Slot, script
from connectors.debezium import ConnectCluster, ConnectError
from connectors.tables import DatabaseError
from feature_repo.flights.repository import repository as flights
from headwater import apply as applying
from headwater.apply import apply_connector, apply_source
from headwater.cli import headwater
from headwater.commands import connectors as commands
from headwater.commands import data
from headwater.local.platform import Platform
from headwater.settings import Settings
from schemas import CdcTable, Column, FeatureView, SettingsError, Type, days, latest
from tests.conftest import ROOT, command
from tests.flink import listening
from tests.ports import free_ports
from tests.shop import CUSTOMERS, customer, repository


@pytest.fixture(scope="module")
def server():
    """The settings of a server of its own; its people are an owner, and a connector."""
    state = ROOT / "build" / f"test-source-{os.getpid()}"
    settings = Settings.read(free_ports() | {"HEADWATER_STATE": str(state)})
    platform = Platform(settings)
    try:
        platform.up(["postgres"], print)
        with psycopg.connect(settings.postgres_url("postgres"), autocommit=True) as connection:
            for name, rights in (("owner", ""), ("connector", "REPLICATION")):
                connection.execute(f"CREATE ROLE {name} LOGIN {rights} PASSWORD 'a b/c'")
        yield settings
    finally:
        platform.down(["postgres"], print)
        platform.erase()


def make_ready(source, database, by_hand):
    """A database is made so by a command, or by who runs the SQL that one prints."""
    if by_hand:
        with psycopg.connect(database) as connection:
            connection.execute(script(repository, "connector"))
    else:
        source.apply()


@pytest.fixture
def database(server):
    """A database of the owner, with a table; and how the owner reaches it."""
    with psycopg.connect(server.postgres_url("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS crm")
        connection.execute("CREATE DATABASE crm OWNER owner")
    url = f"postgresql://owner:a%20b%2Fc@{server.postgres}/crm"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS public")
        connection.execute(CUSTOMERS)
    return url


@pytest.fixture
def environ(server, tmp_path):
    """As the chart's hook has it."""
    (tmp_path / "password").write_text("a b/c\n")
    return {
        **os.environ,
        "HEADWATER_REPOSITORY": "tests.shop:repository",
        "HEADWATER_STATE": str(server.state),
        "HEADWATER_SOURCE": server.postgres,
        "HEADWATER_SOURCE_DATABASE": "crm",
        "HEADWATER_SOURCE_USER": "owner",
        "HEADWATER_SOURCE_PASSWORD_FILE": str(tmp_path / "password"),
    }


def test_the_owner_of_the_tables_makes_their_database_ready(database, environ):
    done = command(environ, "apply", "source")
    assert done.returncode == 0, done.stderr
    assert "public.customers replica identity: default -> full" in done.stdout
    assert Capture(database, repository).changes() == []
    again = command(environ, "apply", "source")
    assert again.stdout == "PostgreSQL: ready to be captured\n"
    asked = command(environ, "connectors", "snapshot", "customers")
    assert asked.returncode == 0, asked.stderr
    with psycopg.connect(database) as connection:
        (signal,) = connection.execute("SELECT type, data FROM headwater.signals").fetchall()
    assert signal[0] == "execute-snapshot"
    assert "public.customers" in signal[1]


@pytest.mark.parametrize("before", ["", "CREATE PUBLICATION headwater_shop FOR TABLE customers"])
def test_what_is_run_by_hand_is_what_the_hook_would_do(database, environ, before):
    """Also where Debezium has made a publication of its own before."""
    if before:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(before)
    printed = command(environ, "connectors", "sql", "--user", "connector")
    assert printed.returncode == 0, printed.stderr
    for autocommit in (False, True):
        with psycopg.connect(database, autocommit=autocommit) as connection:
            connection.execute(printed.stdout)
    assert Capture(database, repository).changes() == []
    # Whom the connector is may do what Debezium does as it.
    with psycopg.connect(database.replace("owner", "connector")) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('a', 'pgoutput', true)")
        connection.execute("SELECT * FROM customers")
        connection.execute("SELECT * FROM headwater.signals")
        for _ in range(2):
            connection.execute(HEARTBEAT_QUERY)
        connection.execute("INSERT INTO headwater.signals VALUES ('a', 'snapshot-window-open', '')")
        connection.execute("INSERT INTO headwater.snapshots VALUES ('shop', 'public.customers', 1)")
        connection.execute("DELETE FROM headwater.snapshots")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM customers")


def test_a_database_that_was_made_ready_before_gets_what_is_new(database):
    source = Capture(database, repository)
    source.apply()
    with psycopg.connect(database) as connection:
        connection.execute("DROP TABLE headwater.snapshots")
    assert source.pending() == []
    with pytest.raises(DatabaseError, match="`headwater apply source` first"):
        source.note_added({"public.customers"})
    (change,) = source.changes()
    assert "headwater.heartbeat, headwater.signals -> " in str(change)
    source.apply()
    assert source.changes() == []


def test_what_postgresql_refuses_is_said(database):
    """Of whoever may read the tables, and does not own them."""
    with pytest.raises(DatabaseError, match="PostgreSQL: must be owner of table customers"):
        Capture(database.replace("owner", "connector"), repository).apply()


PARTITIONED = """
DROP TABLE customers;
CREATE TABLE public.customers (customer text PRIMARY KEY, updated_at timestamp(3))
  PARTITION BY HASH (customer);
CREATE TABLE public.part PARTITION OF customers FOR VALUES WITH (MODULUS 1, REMAINDER 0)
"""


def changed_by_its_application(database, table="customers"):
    """Whether rows of a table may change and go."""
    with psycopg.connect(database) as connection:
        connection.execute(f"INSERT INTO {table} (customer, updated_at) VALUES ('a', now())")
        connection.execute(f"UPDATE {table} SET updated_at = now()")
        return connection.execute(f"DELETE FROM {table}").rowcount == 1


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (
            "ALTER TABLE customers DROP CONSTRAINT customers_pkey",
            "declared with the primary key customer, in the table none: declare the key",
        ),
        (
            "ALTER TABLE customers DROP CONSTRAINT customers_pkey, ADD PRIMARY KEY (updated_at);"
            "CREATE UNIQUE INDEX ON customers (customer);"
            "ALTER TABLE customers REPLICA IDENTITY FULL",
            ".*, in the table updated_at: declare",
        ),
        (
            "ALTER TABLE customers DROP CONSTRAINT customers_pkey,"
            " ADD PRIMARY KEY (customer, updated_at)",
            ".*, in the table customer, updated_at: declare",
        ),
        (PARTITIONED, "is partitioned, and .*: declare each as a table"),
        (
            "ALTER TABLE customers RENAME TO people; CREATE VIEW customers AS SELECT * FROM people",
            "is no table: declare the one",
        ),
        ("DROP TABLE customers", "there is no such table"),
    ],
    ids=["no key", "another key", "a longer key", "partitioned", "a view", "absent"],
)
def test_a_table_whose_rows_its_changes_would_not_tell_is_refused(database, before, why):
    """By whoever makes the database ready, before anything is changed."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(before)
    source = Capture(database, repository)
    with pytest.raises(DatabaseError, match=f"PostgreSQL: public.customers: {why}"):
        source.apply()
    assert re.match(f"public.customers: {why}", source.drift()[0])
    with psycopg.connect(database, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.RaiseException, match=f"public.customers: {why}"):
            connection.execute(script(repository, "connector"))
        connection.execute("ROLLBACK")
        for kind in ("namespace WHERE nspname = 'headwater'", "publication"):
            assert connection.execute(f"SELECT FROM pg_{kind}").fetchall() == []
    if before != "DROP TABLE customers":
        assert changed_by_its_application(database)


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize(
    "before",
    [
        "ALTER TABLE pets REPLICA IDENTITY NOTHING",
        "CREATE UNIQUE INDEX other ON pets (updated_at);"
        "ALTER TABLE pets REPLICA IDENTITY USING INDEX other; DROP INDEX other",
        "ALTER TABLE pets DROP CONSTRAINT pets_pkey, ADD PRIMARY KEY (customer) DEFERRABLE",
    ],
    ids=["nothing", "an index that is gone", "a deferrable key"],
)
def test_what_is_captured_is_still_changed_by_its_application(database, before, by_hand):
    with psycopg.connect(database) as connection:
        connection.execute(PETS_MADE)
        connection.execute(before)
    source = Capture(database, MORE)
    if by_hand:
        with psycopg.connect(database) as connection:
            connection.execute(script(MORE, "connector"))
    else:
        told = [change.what for change in source.apply()]
        assert "public.pets replica identity" in told
    assert source.changes() == []
    assert changed_by_its_application(database, "pets")


def test_an_identity_that_says_which_row_it_is_stays(database):
    """All columns of each change cost whoever writes them."""
    with psycopg.connect(database) as connection:
        connection.execute(PETS_MADE)
    assert "public.pets replica identity" not in [c.what for c in Capture(database, MORE).apply()]
    with psycopg.connect(database) as connection:
        connection.execute(script(MORE, "connector"))
        found = connection.execute(
            "SELECT relreplident::text FROM pg_class WHERE oid = 'pets'::regclass"
        ).fetchone()
    assert found == ("d",)


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_has_been_captured_so_is_told_of_and_stays(database, by_hand):
    """Who upgrades is not kept from all else by a table of before."""
    source = Capture(database, repository)
    source.apply()
    with psycopg.connect(database) as connection:
        connection.execute(
            "ALTER TABLE customers DROP CONSTRAINT customers_pkey,"
            " ADD PRIMARY KEY (customer, updated_at)"
        )
    if by_hand:
        with psycopg.connect(database) as connection:
            connection.execute(script(repository, "connector"))
    assert source.apply() == []
    assert ", in the table customer, updated_at: declare" in source.drift()[0]


def test_an_index_of_the_key_is_as_good_as_the_key(database):
    with psycopg.connect(database) as connection:
        connection.execute(PETS_MADE)
        connection.execute(
            "CREATE UNIQUE INDEX of_key ON pets (customer);"
            "ALTER TABLE pets REPLICA IDENTITY USING INDEX of_key"
        )
    assert "public.pets replica identity" not in [c.what for c in Capture(database, MORE).apply()]
    assert changed_by_its_application(database, "pets")


def test_what_only_an_owner_may_do_is_not_asked_of_who_is_none(server, database):
    source = Capture(database, repository)
    source.apply()
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE headwater.signals ALTER COLUMN data TYPE varchar(2048)")
        connection.execute("ALTER TABLE public.customers REPLICA IDENTITY DEFAULT")
        connection.execute("GRANT USAGE ON SCHEMA headwater TO connector")
    guest = Capture(f"postgresql://connector:a%20b%2Fc@{server.postgres}/crm", repository)
    assert [change.what for change in guest.changes()] == ["public.customers replica identity"]
    with pytest.raises(DatabaseError, match=r"must be owner .*`headwater connectors sql` prints"):
        guest.apply()


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("away", ["DROP TABLE customers", "ALTER TABLE customers RENAME TO old"])
def test_the_rows_are_noted_of_a_table_that_was_made_anew(database, away, by_hand):
    """It is published no more, and what was written meanwhile nobody has read."""
    source = Capture(database, repository)
    source.apply()
    assert source.pending() == []
    with psycopg.connect(database) as connection:
        connection.execute(away)
        connection.execute(CUSTOMERS)
    assert "publication headwater_shop" in [change.what for change in source.changes()]
    make_ready(source, database, by_hand)
    assert source.changes() == []
    assert [table.name for table in source.pending()] == ["customers"]


def test_a_table_of_another_schema_may_be_read_by_the_connector(database):
    pets = replace(PETS, schema="sales")
    view = FeatureView("pet_facts", pets, (customer,), latest("updated_at"), ttl=days(1))
    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA sales")
        connection.execute(PETS_MADE.replace("public.", "sales."))
    with psycopg.connect(database) as connection:
        connection.execute(script(replace(repository, views=(view,)), "connector"))
    with psycopg.connect(database.replace("owner", "connector")) as connection:
        assert connection.execute("SELECT * FROM sales.pets").fetchall() == []


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_snapshot_of_many_tables_is_asked_for(database, by_hand):
    """Also where the table of signals was made when it held but the names of a few."""
    source = Capture(database, repository)
    source.apply()
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE headwater.signals ALTER COLUMN data TYPE varchar(2048)")
    (change,) = source.changes()
    assert str(change) == "headwater.signals.data: varchar -> text"
    make_ready(source, database, by_hand)
    assert source.changes() == []
    many = [replace(PETS, table=f"a_table_with_a_long_name_{n}") for n in range(100)]
    source.snapshot(many)
    assert len(signals(database)[0]) == 100


PETS = CdcTable(
    "pets",
    "pets",
    (Column("customer", Type.STRING), Column("updated_at", Type.TIMESTAMP)),
    primary_key="customer",
)
PETS_MADE = """
CREATE TABLE public.pets (customer text PRIMARY KEY, updated_at timestamp NOT NULL)
"""
MORE = replace(
    repository,
    views=(
        *repository.views,
        FeatureView("pet_facts", PETS, (customer,), latest("updated_at"), ttl=days(1)),
    ),
)


class Killed(BaseException):
    """The command ends here."""


class Connect:
    """A Kafka Connect that runs what it is given, each configuration by a task of its own."""

    def __init__(self):
        self.config = None
        self.state = "RUNNING"
        self.task = 0
        self.status = 200

    def answer(self, method, path, body):
        match method, path.rpartition("/")[2]:
            case "GET", "connectors":
                return ["shop-tables"] if self.config else []
            case "GET", "status":
                tasks = [{"id": 0, "state": "RUNNING"}] if self.state == "RUNNING" else []
                return {"connector": {"state": self.state}, "tasks": tasks}
            case "PUT", "stop":
                self.state = "STOPPED"
            case "PUT", "resume":
                self.state = "RUNNING"
                self.task += 1
            case "PUT", _:
                assert self.state == "STOPPED" or self.config is None, "a task is from before"
                self.config, self.task = body, self.task + 1
        return dict(self.config)


@pytest.fixture
def captured(server, database, monkeypatch):
    """The settings of a command, and the Connect that captures the customers; pets are there."""
    with psycopg.connect(database) as connection:
        connection.execute(PETS_MADE)
    with listening(Connect()) as connect:
        elsewhere = replace(server.elsewhere, connect_url=connect.url)
        settings = replace(server, elsewhere=elsewhere)
        monkeypatch.setattr(applying, "capture", lambda _, of: Capture(database, of))
        monkeypatch.setattr(Capture, "_reader", lambda *_: connect.task)
        for apply in (apply_source, apply_connector):
            apply(settings, repository, print)
        apply_source(settings, MORE, print)
        yield settings, connect


def signals(database):
    """The tables of each snapshot that was asked for."""
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT data FROM headwater.signals").fetchall()
    return [json.loads(data)["data-collections"] for (data,) in found]


@pytest.mark.parametrize("before", ["stop", "apply", "resume", "wait"])
def test_an_apply_that_is_killed_leaves_the_rows_of_a_later_table_to_the_next(
    captured, database, monkeypatch, before
):
    """Before Connect is told of the table, or before the snapshot is asked for."""

    def killed(*_):
        raise Killed

    settings, connect = captured
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ConnectCluster, before, killed)
        if before == "apply":  # and comes to nothing more
            patch.setattr(ConnectCluster, "resume", killed)
        apply_connector(settings, MORE, print)
    assert signals(database) == []
    for _ in range(2):
        apply_connector(settings, MORE, print)
        assert signals(database) == [["public.pets"]]
    assert Capture(database, MORE).pending() == []
    assert connect.state == "RUNNING"


def test_a_connector_that_is_stopped_for_a_change_goes_on_where_that_is_refused(
    captured, monkeypatch
):
    def refused(*_):
        raise ConnectError("Connect: 400")

    settings, connect = captured
    with monkeypatch.context() as patch, pytest.raises(ConnectError, match="that pets had before"):
        patch.setattr(ConnectCluster, "apply", refused)
        apply_connector(settings, MORE, print)
    assert connect.state == "RUNNING"


def test_rows_are_not_asked_of_a_task_from_before_the_table(captured, database, monkeypatch):
    settings, connect = captured
    monkeypatch.setattr(applying, "_SECONDS", 0.1)
    with monkeypatch.context() as patch, pytest.raises(ConnectError) as caught:
        patch.setattr(Capture, "_reader", lambda *_: 1)
        apply_connector(settings, MORE, print)
    assert "nobody began to read headwater_shop" in str(caught.value)
    assert "`headwater apply connector` has it send the rows that pets had" in str(caught.value)
    assert signals(database) == []
    assert [table.name for table in Capture(database, MORE).pending()] == ["pets"]
    connect.task += 1  # it has started again
    apply_connector(settings, MORE, print)
    assert signals(database) == [["public.pets"]]


def test_nothing_is_asked_of_a_table_that_is_declared_no_more(captured, database):
    settings, _ = captured
    Capture(database, MORE).note_added({"public.pets"})
    apply_connector(settings, repository, print)
    assert signals(database) == []
    assert Capture(database, MORE).pending() == []


@pytest.fixture
def slot(server, database):
    """The slot that the connector left in the database when it ended."""
    name = ("headwater_shop",)
    with psycopg.connect(server.postgres_url("crm"), autocommit=True) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", name)
        yield
        connection.execute("SELECT pg_drop_replication_slot(%s)", name)


def test_a_connector_that_is_made_again_is_asked_for_the_rows_of_every_table(
    captured, database, slot
):
    """It goes on where Connect says that it was, and by itself reads no row from before."""
    settings, connect = captured
    apply_connector(settings, MORE, print)
    asked = len(signals(database))
    connect.config = None
    apply_connector(settings, MORE, print)
    assert set(signals(database)[asked]) == {"public.customers", "public.pets"}
    assert Capture(database, MORE).pending() == []


def test_a_connector_that_never_was_reads_the_rows_by_itself(captured, database):
    settings, connect = captured
    apply_connector(settings, MORE, print)
    asked = len(signals(database))
    connect.config = None
    apply_connector(settings, MORE, print)
    assert len(signals(database)) == asked


def test_what_was_asked_for_is_noted_no_more_where_the_connector_knows_of_it(captured, database):
    """As where Strimzi runs it, and whoever changes it asks for the rows."""
    _, connect = captured
    source = Capture(database, MORE)
    source.note_added({"public.pets"})
    source.snapshot([PETS])
    assert [table.name for table in source.pending()] == ["pets"], "a task from before may read"
    connect.task += 1
    source.snapshot([PETS])
    assert source.pending() == []


@pytest.fixture
def status(captured, database, environ, monkeypatch):
    """Called with a slot, it is the exit code of `connectors status` and what that says."""
    settings, _ = captured
    monkeypatch.setattr(commands, "_SLOT_SECONDS", 0.1)
    monkeypatch.setattr(commands, "capture", lambda _, of: Capture(database, of))
    apply_source(settings, repository, print)
    address = {"HEADWATER_CONNECT_URL": settings.connect_url}

    def status(found):
        monkeypatch.setattr(Capture, "slot", lambda _: found)
        done = CliRunner(env=environ | address).invoke(headwater, ["connectors", "status"])
        return done.exit_code, done.output

    return status


READ = Slot(reader=1, wal_status="reserved", lag=0)


def test_a_table_that_is_published_no_more_is_told(status, database):
    assert status(READ)[0] == 0, status(READ)
    with psycopg.connect(database) as connection:
        connection.execute("DROP TABLE customers")
        connection.execute(CUSTOMERS)
    code, said = status(READ)
    assert code == 1
    assert "PostgreSQL: publication headwater_shop: headwater.heartbeat, headwater.sig" in said
    assert "`headwater connectors apply` makes PostgreSQL so" in said


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "nobody reads headwater_shop, though the connector runs"),
        (replace(READ, reader=None), "nobody reads headwater_shop, though the connector runs"),
        (replace(READ, wal_status="unreserved"), "raise max_slot_wal_keep_size"),
        (replace(READ, reader=None, wal_status="lost"), "changes are missing: stop the connector"),
    ],
)
def test_a_connector_that_runs_and_reads_nothing_is_told(status, found, told):
    code, said = status(found)
    assert code == 1
    assert told in said


def test_a_task_that_has_just_begun_is_waited_for(database, monkeypatch):
    found = iter([None, replace(READ, reader=None), READ])
    monkeypatch.setattr(Capture, "slot", lambda _: next(found))
    assert commands._read_slot(Capture(database, repository)) == READ


def test_a_slot_is_as_postgresql_tells(database, slot):
    found = Capture(database, repository).slot()
    assert (found.reader, found.wal_status) == (None, "reserved")
    assert found.lag >= 0


def test_the_sql_that_is_shown_is_the_codes_own():
    shown = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/ingestion.md").read_text("utf-8"), re.S)
    assert shown[-1] == script(flights, "headwater")
    printed = command(dict(os.environ), "connectors", "sql")
    assert printed.stdout == shown[-1]


@pytest.fixture
def elsewhere(tmp_path):
    """Settings of a source on another server, whose password Connect on this machine can read."""
    state = tmp_path / "state"
    (state / "secrets").mkdir(parents=True)
    file = state / "secrets" / "crm.properties"
    file.write_text("password=a b/c\n")
    return {
        "HEADWATER_STATE": str(state),
        "HEADWATER_SOURCE": "crm.example.com:5433",
        "HEADWATER_SOURCE_DATABASE": "crm",
        "HEADWATER_SOURCE_USER": "owner",
        "HEADWATER_SOURCE_PASSWORD_FILE": str(file),
    }


def test_the_connector_captures_the_database_that_was_made_ready_for_it(elsewhere):
    told = applying.document(Settings.read(elsewhere), repository)
    assert {
        key.removeprefix("database."): text for key, text in told.items() if "database" in key
    } == {
        "hostname": "crm.example.com",
        "port": "5433",
        "dbname": "crm",
        "user": "owner",
        "password": f"${{file:{elsewhere['HEADWATER_SOURCE_PASSWORD_FILE']}:password}}",
    }
    here = applying.document(Settings.read({"HEADWATER_STATE": "/s"}), repository)
    assert here["database.hostname"] == "127.0.0.1"
    assert here["database.password"] == "${file:/s/secrets/postgres.properties:password}"


def test_a_password_that_connect_could_not_read_is_refused(elsewhere, tmp_path):
    apart = tmp_path / "password"
    for text, said in (
        ("a b/c\n", "no line `password=...`"),
        ("password=a\n", "is not in .*secrets"),
    ):
        apart.write_text(text)
        given = elsewhere | {"HEADWATER_SOURCE_PASSWORD_FILE": str(apart)}
        with pytest.raises(SettingsError, match=said):
            applying.document(Settings.read(given), repository)
    # What another machine's Connect may read it knows itself.
    given["HEADWATER_CONNECT_URL"] = "http://connect:8083"
    told = applying.document(Settings.read(given), repository)
    assert told["database.password"] == f"${{file:{apart}:password}}"


def test_the_history_is_loaded_to_where_the_tables_are(elsewhere, monkeypatch):
    loaded = []
    monkeypatch.setattr(data, "load_tables", lambda url, *_: loaded.append(url) or {})
    done = CliRunner(env=elsewhere).invoke(headwater, ["load"])
    assert done.exit_code == 0, done.output
    assert loaded == ["postgresql://owner:a%20b%2Fc@crm.example.com:5433/crm"]


def test_a_source_is_where_it_is_said_to_be(tmp_path):
    (tmp_path / "password").write_text("p:w\n")
    given = {
        "HEADWATER_SOURCE": "crm.example.com:5433",
        "HEADWATER_SOURCE_PASSWORD_FILE": str(tmp_path / "password"),
    }
    assert Settings.read(given).source_url("shop") == (
        "postgresql://headwater:p%3Aw@crm.example.com:5433/shop"
    )
    with pytest.raises(SettingsError, match="HEADWATER_SOURCE_PASSWORD_FILE"):
        Settings.read({"HEADWATER_SOURCE": "here:1"}).source_url("shop")
