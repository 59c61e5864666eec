"""The API in a process of its own, as it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).parent.parent


class Served:
    """A running server and its log."""

    def __init__(self, url, process, log):
        self.url = url
        self.process = process
        self._log = log

    @property
    def log(self):
        return self._log.read_text("utf-8")


@contextmanager
def served(folder, redis_url, program="from api.server import main; main()", **settings):
    """`python -m api.server` over tests.test_api's shop, once it answers."""
    port = free_port()
    environ = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HEADWATER_REPOSITORY": "tests.test_api:SHOP",
        "HEADWATER_REDIS_URL": redis_url,
        "HEADWATER_API_PORT": str(port),
        "HEADWATER_AUTH": "off",
        **settings,
    }
    log = folder / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environ,
            stdout=output,
            stderr=output,
        )
    running = Served(f"http://127.0.0.1:{port}", process, log)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        for _ in range(300):
            try:
                opener.open(f"{running.url}/health/live", timeout=5)
                break
            except OSError:
                if process.poll() is not None:
                    raise AssertionError(running.log) from None
                time.sleep(0.1)
        else:
            raise AssertionError(running.log)
        yield running
    finally:
        process.terminate()
        process.wait(15)
