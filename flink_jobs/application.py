"""Runs one job as an application of its own: what a cluster's Flink starts.

    python application.py --run flights-departures --sql 3f0c...

Flink's PythonDriver starts it inside the job manager. Where everything is comes from the
environment (`flink_jobs.place`). `--sql` is the SHA-256 of the script that was reviewed: an image
whose declarations say something else does not start. `--ends` is of the archive's job alone: a file
by `headwater jobs ends`, of where its tables end. It begins there if Flink gives it no state; with
a savepoint or a checkpoint, that says where it goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Flink runs this file by its path, wherever that is.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flink_jobs.place import Place, digest
from flink_jobs.replay import decode_readings, resumed_sql
from flink_jobs.runner import submit
from flink_jobs.sql import Job, job_sql, jobs
from schemas import SettingsError
from schemas.loading import load_repository


def main(arguments: list[str]) -> None:
    """Submit the job to the Flink this process runs in."""
    parser = argparse.ArgumentParser(prog="application")
    # Not --job: Flink's own command takes that for its --jobmanager.
    parser.add_argument("--run", required=True, dest="job", help="name of the job")
    parser.add_argument("--sql", default="", help="SHA-256 of the script it must have")
    parser.add_argument("--ends", type=Path, help="where the archive's tables end")
    given = parser.parse_args(arguments)
    try:
        place = Place.read(os.environ)
        known = {job.name: job for job in jobs(load_repository(place.repository))}
    except SettingsError as error:
        raise SystemExit(f"headwater: {error}") from error
    if given.job not in known:
        raise SystemExit(f"headwater: no job {given.job!r}; choices: {', '.join(known)}")
    sql = job_sql(known[given.job])
    if given.sql and given.sql != digest(sql):
        raise SystemExit(
            f"headwater: {given.job}: the image's script is {digest(sql)}, {given.sql} was"
            " expected: image and plan are not of one version"
        )
    if given.ends is not None:
        sql = _resumed(known[given.job], given.ends)
    # Everything else Flink knows from its own configuration.
    submit(
        {},
        {"sql": place.script(sql), "values": place.values(given.job), "configuration": {}},
    )


def _resumed(job: Job, file: Path) -> str:
    if job.views:
        raise SystemExit(f"headwater: {job.name}: --ends is for the archive's job alone")
    try:
        return resumed_sql(job, decode_readings(file.read_bytes()))
    except (OSError, SettingsError) as error:
        raise SystemExit(f"headwater: --ends {file}: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
