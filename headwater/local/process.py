"""One native process, known by its process id and start time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from headwater.files import write_whole

_NICE = "10"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROGRAMS = ("PATH", "HOME", "JAVA_HOME", "PYTHONPATH")
"""Where a shell finds programs, which is no setting of a part."""


def giving_way(command: Sequence[str]) -> tuple[str, ...]:
    """A command for a machine that serves lookups too: it waits where they are in haste.

    Without it, each of a job's threads that is ready to run has its turn before a lookup that came
    after it, in the API, in Redis and in the API again.
    """
    return ("nice", "-n", _NICE, *command)


def _session_gives_way(pid: int) -> None:
    """Linux shares time among sessions first, where that is on, and by priority within each."""
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(_NICE, "ascii")


class Process:
    """A process that outlives the command that started it.

    `pid_file` keeps the id together with the start time, so that an id which the system has given
    to another process since is never taken for ours. Where Linux tells it, that time is counted
    from the boot: the clock may be set while a process runs, and moves all times of day.
    """

    def __init__(self, pid_file: Path, log: Path) -> None:
        self.pid_file = pid_file
        self.log = log

    def start(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        user: str | None = None,
        gives_way: bool = False,
    ) -> None:
        """Start `command` in a session of its own, its output going to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                giving_way(command) if gives_way else command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=None if user is None else _group_of(user),
                extra_groups=None if user is None else [],
            )
        if gives_way:
            _session_gives_way(child.pid)
        known = {"pid": child.pid, **_started(child.pid), "settings": _settings(command, env)}
        write_whole(self.pid_file, json.dumps(known))

    def has_other_settings(self, command: Sequence[str], env: Mapping[str, str]) -> bool:
        """Whether it was started with others than it would be now, as far as that was kept."""
        try:
            kept = json.loads(self.pid_file.read_text("utf-8"))["settings"]
        except (OSError, ValueError, LookupError, TypeError):
            return False
        return bool(kept != _settings(command, env))

    def find(self) -> psutil.Process | None:
        """The running process; None also where the file that names it cannot be read."""
        try:
            known = json.loads(self.pid_file.read_text("utf-8"))
            process = psutil.Process(known["pid"])
            if not _is_of(process, known):
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except (OSError, ValueError, LookupError, TypeError, psutil.NoSuchProcess):
            return None

    @property
    def was_started(self) -> bool:
        """Whether it was started and not stopped since: if it does not run, it crashed."""
        return self.pid_file.exists()

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 20) -> None:
        """Ask it to stop; after `seconds` kill it and what it started."""
        process = self.find()
        if process is not None:
            started = [process, *process.children(recursive=True)]
            try:
                os.kill(process.pid, how)
                process.wait(seconds)
            except (psutil.NoSuchProcess, ProcessLookupError):
                pass
            except psutil.TimeoutExpired:
                for one in started:
                    try:
                        one.kill()
                    except psutil.NoSuchProcess:
                        continue
                psutil.wait_procs(started, timeout=5)
        self.pid_file.unlink(missing_ok=True)

    def memory(self) -> int:
        """Resident bytes of the process and of what it started."""
        process = self.find()
        if process is None:
            return 0
        total = 0
        for one in (process, *process.children(recursive=True)):
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def last_lines(self, count: int) -> str:
        """The end of the log."""
        try:
            with self.log.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - 400 * count))
                return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-count:])
        except FileNotFoundError:
            return "(no log)"


def _settings(command: Sequence[str], env: Mapping[str, str]) -> str:
    """A digest, since there are secrets among them."""
    told = sorted((name, value) for name, value in env.items() if name not in _PROGRAMS)
    return sha256(json.dumps([*command[1:], told]).encode()).hexdigest()


def _started(pid: int) -> dict[str, str | int | float]:
    """When the process started, as nothing but itself did: in which boot, and how late in it."""
    try:
        return {"boot": _BOOT.read_text("ascii").strip(), "ticks": _ticks(pid)}
    except OSError:  # not Linux, or a part of it
        return {"created": psutil.Process(pid).create_time()}


def _is_of(process: psutil.Process, known: dict[str, Any]) -> bool:
    if "created" in known:  # all that was kept once, and all that there is elsewhere
        return bool(abs(process.create_time() - known["created"]) <= 1)
    return _started(process.pid) == {"boot": known["boot"], "ticks": known["ticks"]}


def _ticks(pid: int) -> int:
    """Of the clock since the boot, field 22 of proc(5); the second is a name that may hold any."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return int(fields[22 - 3])


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid
