"""Submits the jobs of a repository to a session cluster, each once: what compose.yaml starts.

    python -m flink_jobs.session http://jobmanager:8081 /warehouse

The folder holds the cluster's checkpoints and savepoints, and by which ids Flink has known a job. A
job that runs is left alone; another one goes on from the newest that it has left.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from flink_jobs.checkpoints import newest, newest_left
from flink_jobs.place import Place
from flink_jobs.rest import FlinkCluster
from flink_jobs.sql import jobs
from schemas import HeadwaterError, Repository
from schemas.loading import load_repository

_APPLICATION = str(Path(__file__).with_name("application.py"))


def command(job: str, left: str | None) -> list[str]:
    """Flink's own command that submits a job, from what it has left."""
    return [
        *("flink", "run", "--detached", *(() if left is None else ("--fromSavepoint", left))),
        *("-pyclientexec", sys.executable, "-py", _APPLICATION, "--run", job),
    ]


def carry_on(
    cluster: FlinkCluster,
    folder: Path,
    repository: Repository,
    run: Callable[[list[str]], object],
) -> None:
    """Have every job of the repository run, by `run` where it does not."""
    for job in jobs(repository):
        kept = folder / "jobs" / f"{job.name}.ids"
        ids = kept.read_text("utf-8").split() if kept.exists() else []
        if (id_ := _running(cluster, job.name)) is not None:
            print(f"{job.name} runs already", flush=True)
        else:
            left = [path for one in ids if (path := newest_left(folder, one)) is not None]
            last = newest(Path(path) / "_metadata" for path in left)
            print(f"{job.name} begins {f'from {last}' if last else 'anew'}", flush=True)
            run(command(job.name, None if last is None else str(last)))
            id_ = _running(cluster, job.name)
        if id_ is not None and id_ not in ids:
            kept.parent.mkdir(exist_ok=True)
            with kept.open("a", encoding="utf-8") as file:
                file.write(f"{id_}\n")


def _running(cluster: FlinkCluster, name: str) -> str | None:
    return next((job.id for job in cluster.jobs() if job.name == name), None)


def main(arguments: list[str]) -> None:
    """Exits with 1, and says why, where one cannot be submitted."""
    url, folder = arguments
    try:
        repository = load_repository(Place.read(os.environ).repository)
        carry_on(
            FlinkCluster(url),
            Path(folder),
            repository,
            lambda words: subprocess.run(words, check=True),
        )
    except (HeadwaterError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"headwater: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
