"""Flink's REST API: which jobs there are, how they do, and how to stop them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from schemas import HeadwaterError

STOP_SECONDS = 120
"""The longest that jobs may take to stop, beside each other."""

_SECONDS = 5
_AGAIN_SECONDS = 0.8
_CACHED_SECONDS = 60.0
_TASKS_TOLD = 3
_NAME_CHARACTERS = 60
_ENDED = ("FINISHED", "CANCELED", "FAILED")
_PASSING = (
    # No task has been asked yet: one of them does not run.
    "Not all required tasks are currently running",
    "while the JobManager is initializing",
    # One of them failed, or was about to end, once they were asked.
    "Checkpoint Coordinator is suspending",
    "FailoverRegion is restarting",
    "Task has failed",
    "Checkpoint was declined (tasks not ready)",
    "Checkpoint was declined (task is closing)",
    "Task local checkpoint failure",
)
"""What Flink says of a savepoint of a job that starts, or starts again, just then."""

_UNENDED = re.compile(
    r"A savepoint has been created at: (\S+), but the corresponding job \S+ failed"
)
"""What it says where a task failed between the savepoint and its end."""


class FlinkError(HeadwaterError):
    """Flink does not answer or refuses; the text says what it said."""

    exit_code = 1


@dataclass(frozen=True)
class RunningJob:
    """A job as the dashboard shows it."""

    id: str
    name: str
    state: str
    started: int
    """Milliseconds since 1970 UTC."""


@dataclass
class _Stop:
    """A job that is to stop."""

    trigger: str = ""
    """By which Flink knows the savepoint that it was asked for; empty before that."""

    due: float = 0.0
    """When it is to be asked again."""

    said: str = ""
    """Why it was not made when it was asked for last."""


class FlinkCluster:
    """A session cluster at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def jobs(self) -> list[RunningJob]:
        """All jobs that have not ended, by name."""
        found = [
            RunningJob(job["jid"], job["name"], job["state"], job["start-time"])
            for job in self.get("/jobs/overview")["jobs"]
            if job["state"] not in _ENDED
        ]
        return sorted(found, key=lambda job: job.name)

    def exception(self, job_id: str) -> str:
        """The newest failure of a job, first line; empty if it never failed."""
        trace = self._trace(job_id)
        return trace.splitlines()[0] if trace else ""

    def _trace(self, job_id: str) -> str:
        """The newest failure of a job; empty if it never failed."""
        history = self.get(f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        return str(history[0]["stacktrace"]) if history else ""

    def stop(self, job_id: str, seconds: float = STOP_SECONDS, folder: str | None = None) -> str:
        """Stop one job with a savepoint, as `stop_each` does; the savepoint's path."""
        ((_, found),) = self.stop_each([job_id], seconds, folder)
        if isinstance(found, FlinkError):
            raise found
        return found

    def stop_each(
        self, jobs: Iterable[str], seconds: float = STOP_SECONDS, folder: str | None = None
    ) -> Iterator[tuple[str, str | FlinkError]]:
        """Stop jobs beside each other, each with a savepoint in `folder` or the cluster's own.

        Each with its savepoint's path, or why it has none, as soon as that is known. One that is
        just starting, or starts again, is waited for. One that fails between its savepoint and its
        end has ended all the same, and Flink does not recover it: what the savepoint holds may be
        committed, and from the checkpoint before it would be written again.
        """
        deadline = time.monotonic() + seconds
        left = {job: _Stop() for job in jobs}
        while left and time.monotonic() < deadline:
            for job, asked in list(left.items()):
                try:
                    found = self._stopped(job, asked, folder)
                except FlinkError as error:
                    del left[job]
                    yield job, error
                    continue
                if found:
                    del left[job]
                    yield job, found
            if left:
                time.sleep(0.2)
        for job, asked in left.items():
            said = f"; Flink said last: {asked.said}" if asked.said else ""
            stands = self._standing(job)
            yield (
                job,
                FlinkError(f"job {job} has not been stopped after {seconds:.0f} s{said}{stands}"),
            )

    def _stopped(self, job_id: str, asked: _Stop, folder: str | None) -> str:
        """Ask for a savepoint where that is due; its path once it is made, empty until then."""
        if not asked.trigger:
            if time.monotonic() >= asked.due:
                asked.trigger = self._begin_stop(job_id, folder)
            return ""
        answer = self.get(f"/jobs/{job_id}/savepoints/{asked.trigger}")
        if answer["status"]["id"] != "COMPLETED":
            return ""
        operation = answer["operation"]
        if "location" in operation:
            return str(operation["location"])
        cause = operation["failure-cause"]["stack-trace"]
        if (unended := _UNENDED.search(cause)) is not None:
            return unended[1]
        if not any(text in cause for text in _PASSING):
            raise FlinkError(f"job {job_id} has not been stopped: {cause}")
        asked.said, asked.trigger = _root(cause), ""
        asked.due = time.monotonic() + _AGAIN_SECONDS
        return ""

    def _standing(self, job_id: str) -> str:
        """Which tasks of a job do not run, and what it failed of last, as the end of a sentence."""
        try:
            job, trace = self.get(f"/jobs/{job_id}"), self._trace(job_id)
        except FlinkError:
            return ""
        waiting = [
            f"{task['name'][:_NAME_CHARACTERS]} is {task['status']}"
            for task in job["vertices"]
            if task["status"] != "RUNNING"
        ]
        told = [f"the job is {job['state']}", *waiting[:_TASKS_TOLD]]
        if len(waiting) > _TASKS_TOLD:
            told.append(f"and {len(waiting) - _TASKS_TOLD} tasks more do not run")
        if trace:
            told.append(f"it failed last of: {_root(trace)}")
        return "; " + "; ".join(told)

    def _begin_stop(self, job_id: str, folder: str | None) -> str:
        how: dict[str, object] = {"drain": False}
        if folder is not None:
            how["targetDirectory"] = folder
        return str(self._call("POST", f"/jobs/{job_id}/stop", json=how)["request-id"])

    def cancel(self, job_id: str) -> None:
        """End a job without a savepoint."""
        self._call("PATCH", f"/jobs/{job_id}?mode=cancel")

    def completed(self, job_id: str) -> int:
        """How many checkpoints a job has completed."""
        return int(self.get(f"/jobs/{job_id}/checkpoints")["counts"]["completed"])

    def restored(self, job_id: str, since: int = 0) -> int:
        """When a job last began from a checkpoint or savepoint, 0 for never.

        As Flink knew it when the checkpoint of the number `since` was complete, or later: it tells
        for some seconds (`rest.cache.checkpoint-statistics.timeout`) what it was asked before.
        """
        deadline = time.monotonic() + _CACHED_SECONDS
        while True:
            latest = self.get(f"/jobs/{job_id}/checkpoints")["latest"]
            done, begun = latest["completed"] or {"id": 0}, latest["restored"]
            if done["id"] >= since:
                return 0 if begun is None else int(begun["restore_timestamp"])
            if time.monotonic() > deadline:
                raise FlinkError(f"job {job_id}: Flink does not tell of its checkpoint {since}")
            time.sleep(0.2)

    def checkpoint(self, jobs: Sequence[str], times: int, seconds: float) -> dict[str, int]:
        """Have each job make so many checkpoints from now on, one after the other.

        The number of the last one, by job. A job that has not made them after `seconds` is not
        among those; what fails is asked for again.
        """
        made: dict[str, int] = {}
        left = dict.fromkeys(jobs, times)
        asked: dict[str, str] = {}
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            for job in list(left):
                path = f"/jobs/{job}/checkpoints"
                if job not in asked:
                    asked[job] = self._call("POST", path, json={})["request-id"]
                answer = self.get(f"{path}/{asked[job]}")
                if answer["status"]["id"] == "COMPLETED":
                    del asked[job]
                    if "failureCause" in answer["operation"]:
                        continue
                    left[job] -= 1
                    if not left[job]:
                        del left[job]
                        made[job] = answer["operation"]["checkpointId"]
            time.sleep(0.2)
        return made

    def metric(self, job_id: str, operator: str, name: str) -> int:
        """The sum over subtasks of a counter of the operators whose name contains `operator`."""
        total = 0
        for vertex in self.get(f"/jobs/{job_id}")["vertices"]:
            path = f"/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics"
            ids = [
                metric["id"]
                for metric in self.get(path)
                if operator in metric["id"] and metric["id"].endswith(f".{name}")
            ]
            if ids:
                for metric in self.get(f"{path}?agg=sum&get={','.join(ids)}"):
                    total += int(metric["sum"])
        return total

    def get(self, path: str) -> Any:
        """The JSON document at `path`; FlinkError if there is none."""
        return self._call("GET", path)

    def _call(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = requests.request(method, f"{self.url}{path}", timeout=_SECONDS, **more)
        except requests.RequestException as error:
            raise FlinkError(f"Flink at {self.url} does not answer ({error})") from error
        if not answer.ok:
            raise FlinkError(f"Flink: {method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None


def _root(trace: str) -> str:
    """The line of a stack trace that says what it began with."""
    lines = trace.splitlines()
    return next((line for line in reversed(lines) if line.startswith("Caused by: ")), lines[0])
