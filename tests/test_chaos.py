"""A short kill campaign; `make chaos` is the long one."""

from __future__ import annotations

from flink_jobs.rest import FlinkCluster
from tests.chaos import campaign, well, write
from tests.conftest import ROOT

SECONDS = 45


def test_parts_die_under_load_and_every_row_is_there_once(running):
    cluster = FlinkCluster(running.settings.flink_url)
    for job in cluster.jobs():  # nobody needs them any more, and each would be restored each time
        cluster.cancel(job.id)
    report = campaign(running, seed=7, seconds=SECONDS, faults=20)
    write(report, ROOT / "build" / "chaos" / "short.json")
    assert well(report), report
    assert report["faults"] >= 3
    assert report["rows"] > 100
