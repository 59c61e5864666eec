"""Keeps PyFlink and its JVM awake, so that a submission takes as long as its jobs' planning.

    python -m flink_jobs.submitter SOCKET

Requests are those of `flink_jobs.runner`, a line each, from whoever may open the Unix socket: its
owner. A request is answered by a line for each job that was submitted and a last one, `{"done":
true}` or `{"error": text}`. Files that come with a request stay open until it is answered. If what
it was started from has changed since, it answers `{"changed": true}` and starts itself anew.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from py4j.protocol import Py4JError, Py4JJavaError
from pyflink.java_gateway import get_gateway

from flink_jobs.runner import submit

_MOST_FILES = 16
_CHUNK = 1 << 16
_SECONDS = 60.0


def started_from() -> list[tuple[str, int, int]]:
    """The jars and modules, each with its time of change and its size; none if one has gone."""
    files = [
        *Path(os.environ["FLINK_LIB_DIR"]).glob("*.jar"),
        *Path(__file__).parent.glob("*.py"),
    ]
    try:
        stats = [(str(file), file.stat()) for file in sorted(files)]
    except FileNotFoundError:
        return []
    return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]


def read(connection: socket.socket, files: list[int]) -> bytes:
    """A request; the files that come with it are added to `files`, whatever becomes of it."""
    text = b""
    while not text.endswith(b"\n"):
        chunk, more, _, _ = socket.recv_fds(connection, _CHUNK, _MOST_FILES)
        files += more
        if not chunk:
            break
        text += chunk
    return text


def answer(connection: socket.socket, text: bytes) -> None:
    """Carry one request out; OSError if whoever asked has gone, SystemExit if the JVM has."""
    try:
        request = json.loads(text)
        for job in request["jobs"]:
            told = {"name": job["name"], "id": submit(request["flink"], job)}
            connection.sendall(json.dumps(told).encode() + b"\n")
        connection.sendall(b'{"done": true}\n')
    except OSError:
        raise
    except (Exception, SystemExit) as error:
        connection.sendall(json.dumps({"error": traceback.format_exc()}).encode() + b"\n")
        if isinstance(error, Py4JError) and not isinstance(error, Py4JJavaError):
            raise SystemExit("the JVM has ended") from error


def close(files: list[int]) -> None:
    """Let go of them, and of the locks that they hold."""
    while files:
        os.close(files.pop())


def main() -> None:
    """Answer requests until stopped."""
    path = Path(sys.argv[1])
    began = started_from()
    get_gateway()  # the JVM
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as door:
        before = os.umask(0o177)
        door.bind(str(path))
        os.umask(before)
        door.listen()
        while True:
            connection, _ = door.accept()
            connection.settimeout(_SECONDS)
            files: list[int] = []
            with connection, suppress(OSError):  # whoever asked has gone
                text = read(connection, files)
                if text and began != started_from():
                    connection.sendall(b'{"changed": true}\n')
                    connection.close()
                    close(files)  # or they would be open for ever
                    again = (sys.executable, "-m", "flink_jobs.submitter", str(path))
                    os.execv(sys.executable, again)
                if text:
                    answer(connection, text)
            close(files)
            gc.collect()  # what Python drops, the JVM may drop


if __name__ == "__main__":
    main()
