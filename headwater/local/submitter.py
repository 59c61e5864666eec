"""The process that submits jobs, and how it is asked.

It is there to save the seconds in which PyFlink and its JVM start. Where it does not run, as on
another machine's Flink, each submission starts a process of its own, which does the same.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from flink_jobs.rest import FlinkError
from headwater.local.flink import COMPUTES_LITTLE, environment
from headwater.local.part import Part
from headwater.local.process import giving_way
from headwater.settings import Settings

_LONGEST_PATH = 100
"""Bytes; the address of a Unix socket has room for no more."""


def submitter(settings: Settings) -> Part:
    """The part; it listens on a socket that is its owner's alone."""
    path = _path(settings)

    def check() -> None:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(1)
            _connect(asked, path)

    return Part(
        name="submitter",
        address=str(path),
        needs=("flink",),  # it prepares what both are started from
        gives_way=True,
        command=(str(_python(settings)), "-m", "flink_jobs.submitter", str(path)),
        env=_environment(settings) | {"JVM_ARGS": f"-Xmx512m {COMPUTES_LITTLE}"},
        prepare=lambda: path.unlink(missing_ok=True),
        check=check,
        cwd=settings.state,
    )


def submitted(
    settings: Settings, request: Mapping[str, object], held: tuple[int, ...]
) -> Iterator[dict[str, str]]:
    """Submit the jobs of a request of `flink_jobs.runner`; name and id of each, once it is.

    Whoever submits keeps the files `held` open until all are, even if we are killed meanwhile.
    FlinkError if one was not submitted.
    """
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            _connect(asked, _path(settings))
        except OSError:  # it does not run
            yield from _by_a_process(settings, request, held)
            return
        for told in _asked(asked, request, held):
            if told.get("changed"):  # what it was started from; it starts itself anew
                yield from _by_a_process(settings, request, held)
                return
            if "error" in told:
                raise FlinkError(f"a job was not submitted:\n{_cause(told['error'])}")
            if "done" in told:
                return
            yield told
    raise FlinkError("the submitter ended in mid-work: see `headwater logs submitter`")


def _asked(
    asked: socket.socket, request: Mapping[str, object], held: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """What is answered, for as long as there is somebody who answers."""
    text = json.dumps(request).encode() + b"\n"
    with suppress(ConnectionError):
        sent = socket.send_fds(asked, [text], list(held)) if held else 0
        asked.sendall(text[sent:])
        for line in asked.makefile("r", encoding="utf-8"):
            yield json.loads(line)


def _by_a_process(
    settings: Settings, request: Mapping[str, object], held: tuple[int, ...]
) -> Iterator[dict[str, str]]:
    log = settings.state / "logs" / "submit.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as errors:
        runner = subprocess.Popen(
            giving_way((str(_python(settings)), "-m", "flink_jobs.runner")),
            env=_environment(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=os.getcwd(),
            pass_fds=held,
        )
        assert runner.stdin is not None and runner.stdout is not None
        runner.stdin.write(json.dumps(request))
        runner.stdin.close()
        for line in runner.stdout:
            if line.startswith("{"):
                yield json.loads(line)
        if runner.wait():
            raise FlinkError(
                f"a job was not submitted; the end of {log}:\n{_cause(log.read_text('utf-8'))}"
            )


def _path(settings: Settings) -> Path:
    path = settings.state / "submitter.sock"
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    name = sha256(os.fsencode(settings.state)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"headwater-{name}.sock"


def _connect(asked: socket.socket, path: Path) -> None:
    """OSError if nobody listens there whom we can trust with what we say."""
    if path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} is somebody else's")
    asked.connect(str(path))


def _python(settings: Settings) -> Path:
    return settings.build / "envs" / "flink" / "bin" / "python"


def _environment(settings: Settings) -> dict[str, str]:
    root = Path(__file__).parent.parent.parent
    return environment(settings) | {"PYTHONPATH": str(root), "LC_ALL": "C.UTF-8"}


def _cause(text: str) -> str:
    """The lines of a Java stack trace that say what was wrong, and not where."""
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if "Caused by" in line or "Exception:" in line]
    return "\n".join(told[-6:] or lines[-6:])
