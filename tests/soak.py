"""The soak: a steady load for an hour, and what must stay flat while it lasts.

    python -m tests.soak [--minutes 60] [--rate 2000]

The load is half of what the machine can do at most, the load's own work included: that is measured
first, over some minutes, unless a rate is given.
Memory of the task manager and of the API, the size of checkpoints, and the number of data files,
with the tables taken care of every five minutes. The figures go to build/chaos/soak.json, the
plot to build/chaos/soak.html. A line is flat if its last third is at most a tenth, and 50 units,
above its middle third.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

from headwater.replays.progress import records
from headwater.stores import catalog
from iceberg.maintenance import Care, states, utc_now
from tests import chaos
from tests.conftest import ROOT, Running

_EVERY = 10
_FIRST = 5_000
_COMPILED = 45
_WARM = 15
_MEASURED = 15
_CARE = 300
_TABLES = ("features.sensor_activity", "features.sensor_facts")
_PAGE = """<!doctype html><meta charset="utf-8"><title>Soak</title>
<style>body{{font:14px sans-serif;margin:2em}}svg{{border:1px solid #ccc;display:block}}</style>
<h1>Soak, {minutes:.0f} minutes at {rate} events a second</h1>{plots}"""
_WIDTH, _HEIGHT = 700, 120


def sample(running: Running, faults: chaos.Faults, began: float) -> dict[str, float]:
    """One measurement."""
    parts = {part.name: part.memory_mb for part in running.platform.status()}
    sizes = [
        faults.cluster.get(f"/jobs/{job.id}/checkpoints")["latest"]["completed"]["state_size"]
        for job in faults.cluster.jobs()
    ]
    tables = states(catalog(running.settings), _TABLES, Care(), utc_now())
    return {
        "seconds": time.monotonic() - began,
        "taskmanager_mb": parts["taskmanager"],
        "api_mb": parts["api"],
        "redis_mb": parts["redis"],
        "checkpoint_kb": sum(sizes) / 1000,
        "data_files": sum(table.files for table in tables),
        "rows": sum(table.rows for table in tables),
    }


def capacity(faults: chaos.Faults) -> float:
    """Readings a second that the job reads when more are sent: twice as many each time."""
    chaos.RATE = _FIRST
    time.sleep(_COMPILED)
    found = float(_FIRST)
    while found > 0.9 * chaos.RATE:
        chaos.RATE *= 2
        time.sleep(_WARM)
        first, began = _read(faults), time.monotonic()
        time.sleep(_MEASURED)
        found = (_read(faults) - first) / (time.monotonic() - began)
        print(f"{found:,.0f} readings a second of {chaos.RATE:,}", flush=True)
    return found


def _read(faults: chaos.Faults) -> int:
    (job,) = (job for job in faults.cluster.jobs() if job.name == "storm-readings")
    return records(faults.cluster.get(f"/jobs/{job.id}"))


def flat(values: Sequence[float]) -> bool:
    """Whether a line has stopped to rise."""
    third = len(values) // 3
    middle, last = (statistics.median(v) for v in (values[third : 2 * third], values[-third:]))
    return last <= middle * 1.1 + 50


def page(samples: Sequence[Mapping[str, float]], rate: int) -> str:
    """The samples as a page of plots that needs nothing else."""
    plots = []
    end = max(s["seconds"] for s in samples)
    for name in samples[0]:
        if name == "seconds":
            continue
        values = [s[name] for s in samples]
        top = max(values) or 1
        points = " ".join(
            f"{s['seconds'] / end * _WIDTH:.1f},{_HEIGHT - s[name] / top * (_HEIGHT - 10):.1f}"
            for s in samples
        )
        plots.append(
            f"<h2>{name} (0 to {top:,.0f})</h2><svg width='{_WIDTH}' height='{_HEIGHT}'>"
            f"<polyline points='{points}' fill='none' stroke='#06c' stroke-width='2'/></svg>"
        )
    return _PAGE.format(minutes=end / 60, rate=rate, plots="".join(plots))


def main() -> None:
    """The soak as a command; exits with 1 if a line rises."""
    options = argparse.ArgumentParser(description="A steady load, and what must stay flat")
    options.add_argument("--minutes", type=float, default=60)
    options.add_argument("--rate", type=int, help="readings a second; half the capacity without")
    given = options.parse_args()
    chaos.RATE = given.rate or 1_000
    state = ROOT / "build" / f"soak-platform-{os.getpid()}"
    running = Running(state)
    samples: list[dict[str, float]] = []
    try:
        running.up()
        faults = chaos.Faults(running, random.Random(1))
        chaos.prepare(faults)
        for command in (("apply",), ("jobs", "submit")):
            faults.must(*command)
        load = chaos.Load(running, 1, keep=False)
        load.start()
        try:
            faults._calm()
            most = None
            if not given.rate:
                most = capacity(faults)
                chaos.RATE = round(most / 2)
            faults._calm()
            began = cared = time.monotonic()
            while time.monotonic() - began < given.minutes * 60:
                time.sleep(_EVERY)
                samples.append(sample(running, faults, began))
                print(json.dumps(samples[-1]), flush=True)
                if time.monotonic() - cared > _CARE:
                    faults.maintain()
                    cared = time.monotonic()
        finally:
            load.stop()
    finally:
        running.down()
        running.platform.erase()
    watched = ("taskmanager_mb", "api_mb", "checkpoint_kb", "data_files")
    verdict = {name: flat([s[name] for s in samples]) for name in watched}
    report = {
        "minutes": given.minutes,
        "rate": chaos.RATE,
        "capacity": most,
        "events": load.sent.acknowledged,
        "flat": verdict,
        "failures": load.failures,
        "samples": samples,
    }
    chaos.write(report, chaos.REPORT.with_name("soak.json"))
    chaos.REPORT.with_name("soak.html").write_text(page(samples, chaos.RATE), "utf-8")
    print(json.dumps({k: v for k, v in report.items() if k != "samples"}, indent=2))
    sys.exit(0 if all(verdict.values()) and not load.failures else 1)


if __name__ == "__main__":
    main()
