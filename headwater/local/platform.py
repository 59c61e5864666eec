"""Brings the parts up and down, side by side where they do not need one another."""

from __future__ import annotations

import fcntl
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from headwater.local.api import api
from headwater.local.cores import Cores
from headwater.local.exporter import exporter
from headwater.local.flink import jobmanager, taskmanager
from headwater.local.kafka import connect, kafka
from headwater.local.monitoring import NAMES as OPTIONAL
from headwater.local.monitoring import alertmanager, prometheus
from headwater.local.part import Part, PartFailed
from headwater.local.postgres import postgres
from headwater.local.process import Process
from headwater.local.redis import redis_server
from headwater.local.submitter import submitter
from headwater.settings import Settings
from schemas import HeadwaterError, SettingsError

_FACTORIES = (
    *(postgres, redis_server, kafka, connect, jobmanager, taskmanager, submitter, api),
    *(alertmanager, exporter, prometheus),
)
_LOG_LINES = 15
_DATA = ("kafka", "postgres", "redis", "warehouse", "savepoints")

Report = Callable[[str], None]


@dataclass(frozen=True)
class PartStatus:
    """What one part is doing."""

    name: str
    state: str
    """up, starting (runs and does not answer), crashed or down"""

    address: str
    pid: int | None
    memory_mb: int
    uptime_seconds: int
    problem: str
    """What it said, or the end of its log when it crashed, or that it is up with other settings;
    empty when all is well."""


class Platform:
    """The local platform of one state folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.parts = {part.name: part for part in (make(settings) for make in _FACTORIES)}
        for name in settings.external:
            if name not in self.parts:
                choices = ", ".join(self.parts)
                raise SettingsError(f"HEADWATER_EXTERNAL: no part {name!r}; choices: {choices}")

    def select(self, names: Iterable[str]) -> list[Part]:
        """The parts of those names; SettingsError for an unknown one.

        For none all of them, but those that only watch unless they were started.
        """
        wanted = list(names) or [
            name
            for name, part in self.parts.items()
            if name not in OPTIONAL or self.process(part).was_started
        ]
        for name in wanted:
            if name not in self.parts:
                raise SettingsError(f"no part {name!r}; choices: {', '.join(self.parts)}")
        return [part for part in self.parts.values() if part.name in wanted]

    def process(self, part: Part) -> Process:
        """The process of a part."""
        state = self.settings.state
        return Process(state / "pids" / f"{part.name}.json", state / "logs" / f"{part.name}.log")

    def up(self, names: Iterable[str], report: Report) -> None:
        """Start what does not run and wait until it answers; PartFailed names who did not.

        Where a port is taken nothing is started, and each that is one is named.
        """
        parts = self.select(names)
        with self._alone(), ThreadPoolExecutor(len(parts)) as pool:
            self._check_ports(parts)
            started: dict[str, Future[None]] = {}
            for part in parts:  # in start order: whom it needs comes before it
                needed = [started[name] for name in part.needs if name in started]
                started[part.name] = pool.submit(self._start, part, needed, report)
        failures = [error for future in started.values() if (error := future.exception())]
        for error in failures:
            if not isinstance(error, PartFailed):
                raise error
        # A command that followed a governed replay may have been killed.
        Cores(self.settings.state).share()
        if failures:
            raise PartFailed("\n".join(str(error) for error in failures if str(error)))

    def down(self, names: Iterable[str], report: Report) -> None:
        """Stop what runs, last started first."""
        parts = self.select(names)
        with self._alone():
            for level in _levels(parts):
                with ThreadPoolExecutor(len(level)) as pool:
                    for _ in pool.map(lambda part: self._stop(part, report), level):
                        pass

    def holds_data(self) -> bool:
        """Whether there is what parts wrote and no start would make again."""
        elsewhere = (folder for part in self.parts.values() for folder in part.elsewhere)
        folders = (self.settings.state, *elsewhere)
        return any((folder / name).exists() for folder in folders for name in _DATA)

    def erase(self) -> None:
        """Remove all that the parts wrote, wherever it is; none of them may run."""
        for part in self.parts.values():
            for folder in part.elsewhere:
                shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.settings.state, ignore_errors=True)

    def status(self, names: Iterable[str] = ()) -> list[PartStatus]:
        """What each part is doing."""
        parts = self.select(names)
        with ThreadPoolExecutor(len(parts)) as pool:
            return list(pool.map(self._status, parts))

    def _start(self, part: Part, needed: list[Future[None]], report: Report) -> None:
        for future in needed:
            if future.exception() is not None:
                raise PartFailed("")  # it has been named already
        began = time.monotonic()
        process = self.process(part)
        if part.name in self.settings.external:
            self._await_external(part, report)
            return
        if process.find() is None:
            part.prepare()
            process.start(part.command, part.env, part.cwd, part.user, part.gives_way)
        elif _problem(part) == "":
            _finish(part)  # who started it may have been killed before
            other = self._other_settings(part)
            report(f"{part.name} is up already" + (f", {other}" if other else ""))
            return
        self._wait(part, process, began)
        _finish(part)
        report(f"{part.name} is up after {time.monotonic() - began:.1f} s: {part.address}")

    def _check_ports(self, parts: Iterable[Part]) -> None:
        external = self.settings.external
        begin = [p for p in parts if p.name not in external and self.process(p).find() is None]
        if taken := [text for part in begin for text in _taken(part)]:
            raise PartFailed("\n".join(taken))

    def _other_settings(self, part: Part) -> str:
        """What to do where it runs with other settings than these; empty where it does not."""
        if not self.process(part).has_other_settings(part.command, part.env):
            return ""
        name = part.name
        return f"with other settings: `headwater down {name}`, then `headwater up {name}`"

    def _await_external(self, part: Part, report: Report) -> None:
        if problem := _problem(part):
            raise PartFailed(f"{part.name} is run by somebody else, and does not answer: {problem}")
        _finish(part)
        report(f"{part.name} is up, run by somebody else: {part.address}")

    def _wait(self, part: Part, process: Process, began: float) -> None:
        while error := _error(part):
            if isinstance(error, SettingsError):  # by waiting it does not become right
                raise PartFailed(f"{part.name} runs and cannot be asked: {error}") from error
            problem = _first_line(error)
            late = time.monotonic() - began > part.seconds
            if process.find() is None or late:
                what = f"did not answer in {part.seconds:.0f} s ({problem})" if late else "stopped"
                raise PartFailed(
                    f"{part.name} {what}; the end of {process.log}:\n"
                    f"{process.last_lines(_LOG_LINES)}"
                )
            time.sleep(0.1)

    def _stop(self, part: Part, report: Report) -> None:
        process = self.process(part)
        if process.was_started:
            process.stop(part.stop_by)
            report(f"{part.name} is down")

    def _status(self, part: Part) -> PartStatus:
        process = self.process(part)
        found = process.find()
        if part.name in self.settings.external:
            problem = _problem(part)
            return PartStatus(
                part.name, "down" if problem else "up", part.address, None, 0, 0, problem
            )
        if found is None:
            crashed = process.was_started
            return PartStatus(
                name=part.name,
                state="crashed" if crashed else "down",
                address=part.address,
                pid=None,
                memory_mb=0,
                uptime_seconds=0,
                problem=process.last_lines(_LOG_LINES) if crashed else "",
            )
        problem = _problem(part)
        return PartStatus(
            name=part.name,
            state="starting" if problem else "up",
            address=part.address,
            pid=found.pid,
            memory_mb=process.memory() >> 20,
            uptime_seconds=int(time.time() - found.create_time()),
            problem=problem or self._other_settings(part),
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two commands that start and stop the same parts would trip over each other."""
        self.settings.state.mkdir(parents=True, exist_ok=True)
        with (self.settings.state / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PartFailed(
                    f"another headwater command is at work on {self.settings.state}"
                ) from None
            yield


def _levels(parts: list[Part]) -> list[list[Part]]:
    """Parts in the order to stop them; those of one level do not need each other.

    Whoever uses a part goes before it, so that nobody fills a log with its loss.
    """
    users = {"api", "taskmanager", "connect", *OPTIONAL}
    first = [part for part in parts if part.name in users]
    rest = [part for part in parts if part.name not in users]
    return [level for level in (first, rest) if level]


def _problem(part: Part) -> str:
    """Why the part does not answer; empty when it does."""
    error = _error(part)
    return _first_line(error) if error else ""


def _error(part: Part) -> Exception | None:
    try:
        part.check()
    except Exception as error:
        return error
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _finish(part: Part) -> None:
    try:
        part.finish()
    except HeadwaterError:
        raise
    except Exception as error:
        raise PartFailed(
            f"{part.name} answers and cannot be made ready, which the next `headwater up` tries"
            f" again: {_first_line(error)}"
        ) from error


def _taken(part: Part) -> Iterator[str]:
    """Of each port that another program has, that and the way out."""
    for port in part.ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                yield (
                    f"{part.name}: port {port} is taken by another program; stop it or choose "
                    f"another by the variable HEADWATER_{_variable(part, port)}_PORT"
                )


def _variable(part: Part, port: int) -> str:
    names = {
        "flink": ("FLINK", "FLINK_RPC", "FLINK_BLOB", "FLINK_METRICS"),
        "taskmanager": ("FLINK_DATA", "TASKMANAGER_METRICS"),
        "api": ("API", "GRPC"),
    }
    known = names.get(part.name, (part.name.upper(), f"{part.name.upper()}_CONTROLLER"))
    return known[part.ports.index(port)]
