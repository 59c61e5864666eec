"""The jobs of a replay: their own names, checkpoints, branches and pace."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flink_jobs.checkpoints import newest, savepoints
from flink_jobs.rest import FlinkError
from headwater.jobs import RECOVERY, Jobs, Report
from headwater.replays.context import Context, job_name
from headwater.replays.journal import Replay
from headwater.replays.plan import ReplayError
from headwater.savepoints import OldSavepoint, check_savepoint
from iceberg.catalog import NAMESPACE, empty_branch

ENDED = ("FINISHED", "FAILED", "CANCELED")
_ENDING = ("FAILING", "CANCELLING")
_END_SECONDS = 60


class ReplayJobs:
    """Submits, stops and finds the jobs of replays; the live jobs are never touched."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def launch(self, replay: Replay, report: Report) -> Replay:
        """Submit those of its jobs that neither run nor have ended well."""
        with self._context.journal.alone(replay) as lock:
            return self._launch_alone(replay, report, lock)

    def _launch_alone(self, replay: Replay, report: Report, lock: int) -> Replay:
        self.pace(replay, replay.rate)
        # One that was cancelled just now does not run on, though it has not ended yet.
        self._await(replay, lambda state: state not in _ENDING)
        known = self.known(replay)
        scripts, configuration = {}, {}
        tables = self._context.tables
        for name in replay.jobs:
            if name in known and known[name]["state"] not in ENDED:
                continue
            if self.is_done(replay, name, known.get(name)):
                continue
            folder = self._checkpoints(replay, name)
            configuration[name] = {
                "execution.checkpointing.dir": f"file://{folder}/checkpoints",
            }
            if replay.end is not None:
                # Every partition has an end: none is idle, and none may be passed by.
                configuration[name]["table.exec.source.idle-timeout"] = "0 s"
            state = newest(folder.glob("**/_metadata"))
            if state and self._is_older(replay, name, state):
                report(f"{name} had come further than {state.name}: it begins anew")
                state = None
            if state:
                configuration[name][RECOVERY] = f"file://{state}"
                report(f"{name} goes on from {state.name}")
            else:
                for view in self._views_of(replay, name):
                    empty_branch(tables.load_table(f"{NAMESPACE}.{view}"), replay.branch)
            script = self._context.journal.folder(replay) / f"{name}.sql"
            scripts[name] = script.read_text("utf-8")
        ids = {name: str(job["jid"]) for name, job in known.items()}
        if scripts:
            platform = Jobs(self._context.settings, self._context.repository)
            ids |= platform.submit_scripts(scripts, report, configuration, (lock,))
        return self._context.journal.write(
            # Where it was to end holds for the jobs that had come so far.
            replace(replay, jobs=replay.jobs | ids, state="running", ends={})
        )

    def stop(self, replay: Replay, report: Report) -> None:
        """Stop those that run, each with a savepoint that `launch` goes on from."""
        for name, job in self.known(replay).items():
            if job["state"] not in ENDED:
                folder = f"file://{self._checkpoints(replay, name)}/savepoints"
                try:
                    savepoint = self._context.cluster.stop(job["jid"], folder=folder)
                    report(f"{name} is stopped; savepoint {savepoint}")
                except FlinkError:
                    # It came to its end just now.
                    if self._context.cluster.get(f"/jobs/{job['jid']}")["state"] != "FINISHED":
                        raise

    def await_end(self, replay: Replay) -> None:
        """Return when none of its jobs runs any more: one that does still writes."""
        self._await(replay, lambda state: state in ENDED)

    def _await(self, replay: Replay, wanted: Callable[[str], bool]) -> None:
        """Return when the state of each of its jobs is as wanted."""
        deadline = time.monotonic() + _END_SECONDS
        while not all(wanted(job["state"]) for job in self.known(replay).values()):
            if time.monotonic() > deadline:
                raise ReplayError(f"replay {replay.id}: its jobs do not end; try again")
            time.sleep(0.2)

    def known(self, replay: Replay) -> dict[str, dict[str, Any]]:
        """Its jobs that the cluster knows, by name.

        Of several attempts the one that has not ended, and else the one that the journal has: which
        began last is known as far as the clock was never set back.
        """

        def rank(job: dict[str, Any]) -> tuple[bool, bool, int]:
            mine = replay.jobs[job["name"]] == job["jid"]
            return job["state"] not in ENDED, mine, job["start-time"]

        jobs = self._context.cluster.get("/jobs/overview")["jobs"]
        its = sorted((job for job in jobs if job["name"] in replay.jobs), key=rank)
        return {job["name"]: job for job in its}

    def ended(self, replay: Replay) -> list[str]:
        """Those of its jobs that do not run any more."""
        known = self.known(replay)
        return [n for n in replay.jobs if n not in known or known[n]["state"] in ENDED]

    def unfinished(self, replay: Replay) -> dict[str, str]:
        """The state of those jobs that have not committed all that they let out, by name."""
        known = self.known(replay)
        states = {name: known[name]["state"] if name in known else "gone" for name in replay.jobs}
        return {name: state for name, state in states.items() if state != "FINISHED"}

    def is_done(self, replay: Replay, name: str, job: dict[str, Any] | None) -> bool:
        """Whether a job has come to its end: one that was stopped has left a savepoint."""
        if job is None or job["state"] != "FINISHED":
            return False
        return not any(savepoints(self._checkpoints(replay, name) / "savepoints", job["jid"]))

    def failure(self, replay: Replay) -> str:
        """Why its jobs failed, the first line of each; empty if none did."""
        told = []
        for name, job in self.known(replay).items():
            try:
                said = self._context.cluster.exception(job["jid"])
            except FlinkError as error:
                said = str(error)
            if said:
                told.append(f"{name}: {said}")
        return "\n".join(told)

    def pace(self, replay: Replay, rate: float | None) -> None:
        """Let it read `rate` records a second at most from now on; None for no limit."""
        key = replay.pace(self._context.repository.name)
        with self._context.online() as online:
            if rate is None:
                online.delete(key)
            else:
                online.set(key, f"{rate:.1f}")

    def rate(self, replay: Replay) -> float | None:
        """The most records a second that it may read just now; None for no limit."""
        with self._context.online() as online:
            told: Any = online.get(replay.pace(self._context.repository.name))
        return None if told is None else float(told)

    def _views_of(self, replay: Replay, name: str) -> list[str]:
        return [
            view.name
            for job in self._context.planner.jobs(replay.views)
            if job_name(replay, job) == name
            for view in job.views
        ]

    def _is_older(self, replay: Replay, name: str, state: Path) -> bool:
        """Whether a job has committed more than the state it would go on from knows of.

        That of one which ended, and keeps no checkpoint then, on a cluster that was lost since.
        """
        names = [f"{NAMESPACE}.{view}" for view in self._views_of(replay, name)]
        try:
            check_savepoint(self._context.tables, names, str(state), replay.branch)
        except OldSavepoint:
            return True
        return False

    def _checkpoints(self, replay: Replay, name: str) -> Path:
        return self._context.checkpoints(replay) / name
