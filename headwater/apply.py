"""Creates what the declarations need in the running platform; running it again changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from connectors.capture import Capture
from connectors.debezium import (
    ConnectCluster,
    ConnectError,
    Database,
    Setting,
    added,
    connector_document,
    connector_name,
    is_new,
)
from connectors.registered import DIGEST, DOCUMENT, encode, registered_key, served
from connectors.tables import DatabaseError
from connectors.topics import create_topics, topics
from headwater.settings import Settings
from headwater.stores import catalog, online, registry
from iceberg.catalog import create_quality, create_tables
from schemas import Repository, SettingsError

Report = Callable[[str], None]

_SECONDS = 60
"""How long a connector may take to run."""


def apply_all(
    settings: Settings, repository: Repository, report: Report, kinds: Iterable[str] = ()
) -> None:
    """Topics, tables, Feast's registry, what is served, the captured tables' database, the
    connector, or just some of them.
    """
    wanted = tuple(kinds) or tuple(KINDS)
    for kind in wanted:
        if kind not in KINDS:
            raise SettingsError(f"apply: unknown {kind!r}; choices: {', '.join(KINDS)}")
    for kind, apply in KINDS.items():
        if kind in wanted:
            apply(settings, repository, report)


def apply_serving(settings: Settings, repository: Repository, report: Report) -> None:
    """What the API serves, by the next second."""
    digest, document = encode(served(repository))
    key = registered_key(repository.name)
    with online(settings) as store:
        changed = store.hget(key, DIGEST) != digest
        if changed:
            store.hset(key, mapping={DIGEST: digest, DOCUMENT: document})
    report(f"serving: {'changed' if changed else 'as registered'}")


def apply_topics(settings: Settings, repository: Repository, report: Report) -> None:
    """The topics of streams and captured tables."""
    made = create_topics(settings.kafka_access, topics(repository))
    report(f"topics: {', '.join(made)} created" if made else "topics: all there")


def apply_tables(settings: Settings, repository: Repository, report: Report) -> None:
    """The Iceberg tables of the views, of the streams' archive and of what is expected of them."""
    tables = catalog(settings)
    made = create_tables(tables, repository.views, repository.archived)
    if repository.checked:
        made += create_quality(tables, repository.name)
    report(f"Iceberg tables: {', '.join(made)} created" if made else "Iceberg tables: all there")


def apply_registry(settings: Settings, repository: Repository, report: Report) -> None:
    """Feast's registry says what the declarations say."""
    from sqlalchemy.exc import OperationalError

    from feature_repo.registration import apply  # Feast takes seconds to import

    try:
        changed = apply(repository, registry(settings))
    except OperationalError as error:
        raise DatabaseError(f"PostgreSQL: {str(error.orig).strip()}") from error
    report(f"Feast: {len(changed)} objects changed" if changed else "Feast: all registered")


def apply_source(settings: Settings, repository: Repository, report: Report) -> None:
    """What the captured tables' database needs; the tables must exist."""
    if not repository.tables:
        return
    changes = capture(settings, repository).apply()
    for change in changes:
        report(f"PostgreSQL: {change}")
    if not changes:
        report("PostgreSQL: ready to be captured")


def apply_connector(settings: Settings, repository: Repository, report: Report) -> None:
    """The connector, running; its tables must be ready to be captured."""
    if not repository.tables:
        return
    cluster, name = ConnectCluster(settings.connect_url), connector_name(repository)
    source, wanted = capture(settings, repository), document(settings, repository)
    # Before Connect knows of them: whoever is killed from then on has not forgotten their rows.
    difference = cluster.difference(name, wanted)
    source.note_added(_unread(source, difference, repository))
    later = " ".join(table.name for table in source.pending())
    try:
        stopped = later and not is_new(difference)
        changed = _put_stopped(cluster, name, wanted) if stopped else cluster.apply(name, wanted)
        cluster.wait(name, _SECONDS)
        report(f"connector {name}: {'applied' if changed else 'as it should be'}, running")
        sent = source.send_pending(_SECONDS)
    except (ConnectError, DatabaseError) as error:
        if not later:
            raise
        raise ConnectError(
            f"{error}; once it runs, `headwater apply connector` has it send the rows that {later}"
            " had before"
        ) from error
    if sent:
        names = " ".join(table.name for table in sent)
        report(f"connector {name}: sends the present rows of {names}")


def _unread(source: Capture, changed: dict[str, Setting], repository: Repository) -> set[str]:
    """The tables, as `schema.table`, whose present rows the connector would not read by itself.

    Of one that was deleted Connect keeps how far it had read. Made again it goes on there, and
    nobody knows which tables it captured.
    """
    if is_new(changed) and source.slot() is not None:
        return {table.qualified for table in repository.tables}
    return added(changed)


def _put_stopped(cluster: ConnectCluster, name: str, wanted: dict[str, str]) -> dict[str, Setting]:
    """Change a connector while it is stopped; what was changed.

    It goes on also where Connect refuses that. Whoever is killed meanwhile leaves it stopped, and
    rows that are noted, so that the next to apply it comes here.
    """
    cluster.stop(name, _SECONDS)
    try:
        return cluster.apply(name, wanted)
    finally:
        cluster.resume(name)


def capture(settings: Settings, repository: Repository) -> Capture:
    """The captured tables in the source database."""
    return Capture(settings.source_url(repository.name), repository)


def document(settings: Settings, repository: Repository) -> dict[str, str]:
    """The connector's configuration on this platform.

    SettingsError if Connect could not read the password of the captured tables' server.
    """
    source = settings.source(repository.name)
    if settings.elsewhere.source:
        _check_readable(settings, source.password_file)
    host, _, port = source.address.rpartition(":")
    database = Database(
        host=host,
        port=int(port),
        name=source.database,
        user=source.user,
        password=f"${{file:{source.password_file}:password}}",
    )
    return connector_document(repository, database)


def _check_readable(settings: Settings, file: Path) -> None:
    """Connect reads properties alone, and on this machine those in one folder alone."""
    try:
        has_property = file.read_text("utf-8").startswith("password=")
    except OSError as error:
        raise SettingsError(f"HEADWATER_SOURCE_PASSWORD_FILE: {error}") from None
    if not has_property:
        raise SettingsError(
            f"HEADWATER_SOURCE_PASSWORD_FILE: {file} holds no line `password=...`, which is how"
            " Connect reads it"
        )
    folder = settings.password_file.parent
    if not settings.elsewhere.connect_url and file.absolute().parent != folder.absolute():
        raise SettingsError(
            f"HEADWATER_SOURCE_PASSWORD_FILE: {file} is not in {folder}, and Connect on this"
            " machine reads no other folder: put it there"
        )


KINDS: dict[str, Callable[[Settings, Repository, Report], None]] = {
    "topics": apply_topics,
    "tables": apply_tables,
    "registry": apply_registry,
    "serving": apply_serving,
    "source": apply_source,
    "connector": apply_connector,
}
"""What `headwater apply` makes, in order."""
