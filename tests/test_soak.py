"""A short soak; `make soak` is the long one."""

from __future__ import annotations

import subprocess
import sys

from tests.served import ROOT


def test_lookups_fail_only_while_redis_is_down():
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--minutes", "0.2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
