"""Submits the jobs, and goes on from where they were stopped."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from flink_jobs.rest import FlinkCluster, FlinkError, RunningJob
from flink_jobs.sql import Job, job_sql, jobs
from headwater.local.flink import environment
from headwater.settings import Settings
from schemas import Repository, SettingsError

Report = Callable[[str], None]

CONFIGURATION = {
    "parallelism.default": "1",
    "state.backend.type": "hashmap",
    "execution.checkpointing.interval": "5 s",
    "execution.checkpointing.timeout": "2 min",
    "execution.checkpointing.min-pause": "1 s",
    "execution.checkpointing.tolerable-failed-checkpoints": "1000",
    "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    # A part that is away comes back: try again for ever, at least every ten seconds.
    "restart-strategy.type": "exponential-delay",
    "restart-strategy.exponential-delay.initial-backoff": "1 s",
    "restart-strategy.exponential-delay.max-backoff": "10 s",
    "pipeline.object-reuse": "true",
}
"""How a job runs; it takes this from whoever submits it, not from the cluster."""


class Jobs:
    """The jobs of a repository on a cluster."""

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self.settings = settings
        self.known = {job.name: job for job in jobs(repository)}
        self.cluster = FlinkCluster(settings.flink_url)

    def running(self) -> dict[str, RunningJob]:
        """The repository's jobs that have not ended, by name."""
        return {job.name: job for job in self.cluster.jobs() if job.name in self.known}

    def submit(self, names: Iterable[str], report: Report) -> None:
        """Submit the jobs that do not run, each from its last savepoint if there is one."""
        wanted = self._select(names)
        running = self.running()
        for job in wanted:
            if job.name in running:
                report(f"{job.name} runs already ({running[job.name].state})")
        missing = [job for job in wanted if job.name not in running]
        if missing:
            self._run([self._request(job) for job in missing], report)

    def submit_scripts(self, scripts: Mapping[str, str], report: Report) -> dict[str, str]:
        """Submit scripts by job name, each from nothing; Flink's id of each job."""
        return self._run([self._script(name, sql) for name, sql in scripts.items()], report)

    def stop(self, names: Iterable[str], report: Report) -> None:
        """Stop running jobs, each with a savepoint that the next submit goes on from."""
        running = self.running()
        for job in self._select(names):
            if job.name not in running:
                report(f"{job.name} does not run")
                continue
            savepoint = self.cluster.stop(running[job.name].id)
            kept = self._savepoint(job)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(savepoint + "\n", "utf-8")
            report(f"{job.name} is stopped; savepoint {savepoint}")

    def _select(self, names: Iterable[str]) -> list[Job]:
        wanted = list(names) or list(self.known)
        for name in wanted:
            if name not in self.known:
                raise SettingsError(f"no job {name!r}; choices: {', '.join(self.known)}")
        return [self.known[name] for name in wanted]

    def _savepoint(self, job: Job) -> Path:
        return self.settings.state / "jobs" / f"{job.name}.savepoint"

    def _request(self, job: Job) -> dict[str, object]:
        kept, request = self._savepoint(job), self._script(job.name, job_sql(job))
        if kept.exists():
            request["configuration"] = {
                "execution.state-recovery.path": kept.read_text("utf-8").strip()
            }
        return request

    def _script(self, name: str, sql: str) -> dict[str, object]:
        settings = self.settings
        return {
            "name": name,
            "sql": sql,
            "configuration": {},
            "values": {
                "kafka": settings.kafka,
                "group": name,
                "redis": settings.redis_url,
                "epoch": "0",
                "catalog_uri": f"jdbc:postgresql://{settings.postgres}/headwater",
                "catalog_user": "headwater",
                "catalog_password": settings.postgres_password(),
                "warehouse": settings.warehouse,
            },
        }

    def _run(self, requests: list[dict[str, object]], report: Report) -> dict[str, str]:
        settings = self.settings
        root = Path(__file__).parent.parent
        request = {
            "flink": {
                "execution.target": "remote",
                "execution.attached": "false",
                **CONFIGURATION,
                "table.exec.source.idle-timeout": f"{settings.idle_seconds} s",
                "execution.checkpointing.dir": f"file://{settings.state}/checkpoints",
                "execution.checkpointing.savepoint-dir": f"file://{settings.state}/savepoints",
                "rest.address": "127.0.0.1",
                "rest.port": str(settings.ports.flink),
            },
            "jobs": requests,
        }
        log = settings.state / "logs" / "submit.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        submitted: dict[str, str] = {}
        with log.open("w", encoding="utf-8") as errors:
            runner = subprocess.Popen(
                [str(settings.build / "envs/flink/bin/python"), "-m", "flink_jobs.runner"],
                env=environment(settings) | {"PYTHONPATH": str(root), "LC_ALL": "C.UTF-8"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=os.getcwd(),
            )
            assert runner.stdin is not None and runner.stdout is not None
            runner.stdin.write(json.dumps(request))
            runner.stdin.close()
            for line in runner.stdout:
                if line.startswith("{"):
                    job = json.loads(line)
                    report(f"{job['name']} is submitted as {job['id']}")
                    submitted[job["name"]] = job["id"]
                    if job["name"] in self.known:
                        self._savepoint(self.known[job["name"]]).unlink(missing_ok=True)
            if runner.wait():
                raise FlinkError(
                    f"a job was not submitted; the end of {log}:\n{_cause(log.read_text('utf-8'))}"
                )
        return submitted


def _cause(text: str) -> str:
    """The lines of a Java stack trace that say what was wrong, and not where."""
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if "Caused by" in line or "Exception:" in line]
    return "\n".join(told[-6:] or lines[-6:])
