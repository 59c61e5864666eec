"""Python that runs in PyFlink's own environment, with the platform's jars and no platform."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from headwater.local.flink import environment, jobmanager
from headwater.settings import Settings

ROOT = Path(__file__).parent.parent


def run_pyflink(script, told, folder):
    """What a script prints that reads the document `told` from its standard input."""
    settings = Settings.read({"HEADWATER_STATE": str(folder / "state")})
    jobmanager(settings).prepare()
    run = subprocess.run(
        [ROOT / "build/envs/flink/bin/python", "-c", script],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(settings) | {"PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr[-6000:]
    return run.stdout
