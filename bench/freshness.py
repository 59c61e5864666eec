"""From an event that is produced to its value that is read over HTTP.

    python -m bench.freshness [--seconds 120] [--rate 5000]

The platform runs as it does everywhere: exactly-once state, a checkpoint each five seconds, every
row to Redis and to Iceberg. A process of its own produces; some of its events carry the time they
were sent at as the value of a feature, and a client asks for those over and over. What is
reported is beyond the stream's disorder: a value at time t may not be told before every event
that is not late has had its chance to come.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import Producer

from bench.flights import bench
from bench.report import publish
from bench.serving import server
from headwater.apply import apply_tables, apply_topics
from headwater.jobs import Jobs
from headwater.settings import Settings
from schemas import (
    Column,
    Entity,
    EventStream,
    FeatureView,
    Repository,
    Type,
    count,
    hours,
    latest,
    mean,
    over,
    seconds,
)

GOALS = {"p99_ms": "≤ 600"}

clicks = EventStream(
    "clicks",
    "bench.clicks",
    (Column("user", Type.STRING), Column("price", Type.FLOAT64), Column("sent", Type.INT64)),
    partition_by="user",
    disorder=seconds(1),
)
spend = FeatureView(
    "spend",
    clicks,
    (Entity("user", "user"),),
    (*over([hours(1)], count(), mean("price")), *latest("sent")),
    ttl=hours(1),
)
repository = Repository("freshness", (spend,), ())

_PROBES = 200
_USERS = 5_000
_TICK = 0.01
_WARM_SECONDS = 25.0


def produce(kafka: str, rate: int, length: float) -> None:
    """`rate` events a second for `length` seconds, one of each tick's from a probe."""
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "linger.ms": 5,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
        }
    )
    encode = msgspec.json.Encoder().encode
    rng = random.Random(6)
    began = time.time()
    for tick in range(int(length / _TICK)):
        wait = began + tick * _TICK - time.time()
        if wait > 0:
            time.sleep(wait)
        for place in range(int(rate * _TICK)):
            user = f"probe-{tick % _PROBES}" if place == 0 else f"user-{rng.randrange(_USERS)}"
            now = time.time()
            event = {
                "user": user,
                "price": rng.random() * 100,
                "sent": int(now * 1e6),
                "event_time": int(now * 1000),
            }
            producer.produce(clicks.topic, encode(event), user)
        producer.poll(0)
    producer.flush(30)
    print(
        f"  produced {int(length / _TICK) * int(rate * _TICK):,} events "
        f"in {time.time() - began:.0f} s",
        flush=True,
    )


def watch(port: int, until: float) -> list[tuple[float, float]]:
    """When each probe's newest value was first read, and how long after it was sent, in seconds."""
    body = json.dumps(
        {
            "features": ["spend:sent"],
            "entities": [{"user": f"probe-{place}"} for place in range(_PROBES)],
        }
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    known: list[int | None] = [None] * _PROBES
    found: list[tuple[float, float]] = []
    while time.time() < until:
        connection.request(
            "POST", "/v1/features?orient=columns", body, {"content-type": "application/json"}
        )
        reply = connection.getresponse()
        (values,) = json.loads(reply.read())["columns"]
        now = time.time()
        for place, (value, before) in enumerate(zip(values, known, strict=True)):
            if value is not None and value != before:
                known[place] = value
                if before is not None:
                    found.append((now, now - value / 1e6))
        time.sleep(0.005)
    connection.close()
    return found


def run(length: float, rate: int) -> dict[str, float]:
    """The figures of one run."""
    with bench("postgres", "redis", "kafka", "flink", "taskmanager") as running:
        settings: Settings = replace(running.settings, repository="bench.freshness:repository")
        apply_topics(settings, repository, print)
        apply_tables(settings, repository, print)
        Jobs(settings, repository).submit([], print)
        port = settings.ports.api
        environ = {
            "HEADWATER_REPOSITORY": settings.repository,
            "HEADWATER_REDIS_URL": settings.redis_url,
            "HEADWATER_API_PORT": str(port),
            "HEADWATER_AUTH": "off",
        }
        folder = settings.state / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        with server(
            (sys.executable, "-m", "api.server"), port, "/health/live", folder, "api", environ
        ):
            producing = multiprocessing.get_context("spawn").Process(
                target=produce, args=(settings.kafka, rate, length + _WARM_SECONDS)
            )
            began = time.time()
            producing.start()
            try:
                found = watch(port, began + length + _WARM_SECONDS)
            finally:
                producing.join(60)
                producing.kill()
    waits = np.array([wait for when, wait in found if when >= began + _WARM_SECONDS])
    if not len(waits):
        raise SystemExit("no value was ever read")
    beyond = (waits - clicks.disorder.seconds) * 1000
    return {
        "p50_ms": float(np.percentile(beyond, 50)),
        "p99_ms": float(np.percentile(beyond, 99)),
        "max_ms": float(beyond.max()),
        "disorder_ms": clicks.disorder.seconds * 1000.0,
        "events_per_second": float(rate),
        "seconds": length,
        "samples": float(len(waits)),
    }


def main() -> None:
    """Run it and publish the figures."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=float, default=120)
    arguments.add_argument("--rate", type=int, default=5000)
    options = arguments.parse_args()
    publish("freshness", run(options.seconds, options.rate), GOALS)


if __name__ == "__main__":
    Path("build/bench").mkdir(parents=True, exist_ok=True)
    main()
