"""Submits the jobs, and goes on from where they were stopped."""

from __future__ import annotations

import fcntl
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from connectors.topics import check_transactions
from flink_jobs.checkpoints import newest_left
from flink_jobs.place import Place
from flink_jobs.replay import resumed_sql
from flink_jobs.rest import FlinkCluster, FlinkError, RunningJob
from flink_jobs.sql import Job, job_sql, jobs
from flink_jobs.upgrade import way_out
from headwater.files import write_whole
from headwater.local.submitter import submitted
from headwater.refusals import Refusals
from headwater.savepoints import (
    Savepoint,
    check_anew,
    check_savepoint,
    checkpoint_time,
)
from headwater.settings import Settings
from headwater.stores import catalog
from headwater.submissions import Begun, Submission, Submissions
from headwater.unarchived import unarchived
from iceberg.catalog import ARCHIVE, NAMESPACE
from schemas import HeadwaterError, Repository, SettingsError
from schemas.topics import late_topic

Report = Callable[[str], None]

_INTERVAL = "execution.checkpointing.interval"
_PAUSE = "execution.checkpointing.min-pause"

CONFIGURATION = {
    "parallelism.default": "1",
    "state.backend.type": "hashmap",
    _INTERVAL: "5 s",
    "execution.checkpointing.timeout": "2 min",
    # A job rests between two checkpoints, so that those of a large state, which take longer than
    # the interval, do not follow each other: what changes while one is made is copied.
    _PAUSE: "5 s",
    "execution.checkpointing.tolerable-failed-checkpoints": "1000",
    "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    # A part that is away comes back: try again for ever, at least every ten seconds.
    "restart-strategy.type": "exponential-delay",
    "restart-strategy.exponential-delay.initial-backoff": "1 s",
    "restart-strategy.exponential-delay.max-backoff": "10 s",
    "pipeline.object-reuse": "true",
}
"""How a job runs; it takes this from whoever submits it, not from the cluster."""

_CANCEL_SECONDS = 30
_SCRIPTS = ("declared.sql", "sql")
"""What is kept of a job's last submission: what was declared, and what it was submitted with."""
_STATE = ("savepoint", "json")
"""What is kept of where a job was: what it was stopped with, and which job of Flink's it was."""
RECOVERY = "execution.state-recovery.path"
"""The savepoint or checkpoint that a job goes on from."""
OLDER = "by an older declaration: `headwater plan` says how it comes to the new one"
_READS_ARCHIVE = "'connector' = 'headwater-archive'"
FIXED_ID = "$internal.pipeline.job-id"
"""Flink's id of a job, which is known then before the job is submitted."""


class StateMismatch(FlinkError):
    """What is declared cannot go on from a job's state; the text says why, and what can be done."""

    exit_code = 2


@dataclass(frozen=True)
class Finish:
    """What finishes a restart that broke off."""

    replay: str
    """The id of the replay that it is for."""

    command: str


class BrokenOff(HeadwaterError):
    """A job's tables lack what a restart took out that broke off; the text has what finishes it."""


class Jobs:
    """The jobs of a repository on a cluster."""

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self.settings = settings
        self.known = {job.name: job for job in jobs(repository)}
        self.cluster = FlinkCluster(settings.flink_url)
        # Neither part of a name holds a hyphen: no other repository's job, nor a replay's, is such.
        self._named = re.compile(rf"{re.escape(repository.name)}-[a-z0-9_]+")

    def running(self) -> dict[str, RunningJob]:
        """The declared jobs that have not ended, by name."""
        return {job.name: job for job in self.cluster.jobs() if job.name in self.known}

    def undeclared(self) -> dict[str, RunningJob]:
        """The repository's jobs that have not ended and that are declared no more, by name.

        Their stream was renamed, or has no view any more. They write as they did.
        """
        return {
            job.name: job
            for job in self.cluster.jobs()
            if job.name not in self.known and self._named.fullmatch(job.name)
        }

    @contextmanager
    def alone(self, report: Report) -> Iterator[int]:
        """Waits until nobody else submits or stops live jobs; the open file that is locked.

        Two jobs of one name would each write all that comes. A process that inherits the file
        keeps the lock, should this one be killed.
        """
        folder = self.settings.state / "jobs"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report("waits for another command, which submits or stops jobs")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock.fileno()

    def settled(self, report: Report) -> dict[str, RunningJob]:
        """The jobs that have not ended, by name, once none is being submitted or stopped."""
        with self.alone(report):
            return self._settled()

    def _settled(self) -> dict[str, RunningJob]:
        """The same; what each was submitted with is kept.

        It is not yet where whoever submitted a job was killed after Flink had taken it. Of a job
        that has been lost since, that is known by what it has left; without that it has changed
        nothing.
        """
        running = self.running()
        for name, job in self.known.items():
            kept = self._kept(job.name, "asked")
            if not kept.exists():
                continue
            asked = json.loads(kept.read_text("utf-8")).get("id", "")
            if name in running:
                self._remember(job, running[name].id)
            elif newest_left(self.settings.state, asked) is not None:
                self._remember(job, asked)
        return running

    def submit(
        self,
        names: Iterable[str],
        report: Report,
        savepoint: str | None = None,
        anew: bool = False,
    ) -> None:
        """Submit the jobs that do not run, each from where it was last.

        That is its savepoint if it was stopped, and the newest checkpoint or savepoint that it has
        left if it was lost, or whoever stopped it was. The job of the archive, if its state does
        not fit any more, goes on where its tables end. `savepoint` is another one, for one job.
        `anew` begins what is declared with the whole log, also where its last script began later.
        OldSavepoint if to go on from there, or to begin `anew`, would write rows again; RolledBack
        if to go on from there would leave rows out; ShortTransactions if Kafka would not keep a
        job's late rows for as long as it may be away.
        What was lost for longer is reported. One that is refused here keeps no other from it: that
        is raised once they are submitted, Several if it is more than one. What Flink refuses ends
        it.
        """
        wanted = self._select(names)
        if savepoint is not None and len(wanted) != 1:
            raise SettingsError("a savepoint is of one job: name that job")
        if savepoint is not None and anew:
            raise SettingsError("--from goes on from a savepoint, and --anew from none: choose one")
        refusals = Refusals()
        with self.alone(report) as lock:
            running = self._settled()
            self._tell_running(wanted, running, report)
            requests, missing = [], [job for job in wanted if job.name not in running]
            if any(job.late for job in missing):
                with refusals.noted():
                    check_transactions(self.settings.kafka_access, self.settings.outage_seconds)
                if refusals:
                    missing = [job for job in missing if not job.late]
            for job in missing:
                with refusals.noted():
                    if not anew:
                        self._tell_outage(job, savepoint, report)
                    request = self._request(job, report, savepoint, anew)
                    _placed(self._place(), request)  # or it is refused with all others
                    requests.append(request)
            if requests:
                with refusals.noted():
                    self._run(requests, report, (lock,))
        refusals.tell()

    def _tell_running(
        self, wanted: Iterable[Job], running: Mapping[str, RunningJob], report: Report
    ) -> None:
        for job in wanted:
            if job.name in running:
                older = f", {OLDER}" if self.is_changed(job) else ""
                report(f"{job.name} runs already ({running[job.name].state}){older}")
        for name in self.undeclared():
            report(f"{name} runs and is no longer declared: `headwater jobs stop {name}` ends it")

    def was_submitted(self, job: Job) -> bool:
        """Whether Flink has ever taken it."""
        return self._kept(job.name, "declared.sql").exists()

    def goes_on(self, job: Job) -> bool:
        """Whether it goes on from where it was once it is submitted, and writes what comes then.

        One whose restart broke off does not: where it was counts no more.
        """
        there = any(self._kept(job.name, what).exists() for what in _STATE)
        return there and self.was_submitted(job) and not self.changes(job)

    def changes(self, job: Job) -> list[str]:
        """Why a job cannot go on from the state of its last submission; empty if it can."""
        last = self._submitted(job)
        return [] if last is None else last.changes(job)

    def is_changed(self, job: Job) -> bool:
        """Whether the declarations are others than at its last submission."""
        last = self._submitted(job)
        return last is not None and not last.is_of(job)

    def _submitted(self, job: Job) -> Submission | None:
        """What a job was submitted with last; None if Flink has taken none."""
        declared, sql = (self._kept(job.name, what) for what in _SCRIPTS)
        if not declared.exists() or not sql.exists():
            return None
        begun = Begun.read(self._told(job).get("begun"))
        return Submission(sql.read_text("utf-8"), declared.read_text("utf-8"), begun)

    def _made(self, job: Job, savepoint: str) -> Submission | None:
        """What the job was submitted with that a savepoint is of.

        Where that is not known it is held to be what was submitted last.
        """
        found = self._submissions(job).find(Savepoint.read(savepoint).job)
        return found or self._submitted(job)

    def _submissions(self, job: Job) -> Submissions:
        return Submissions(self.settings.state, job.name)

    def _told(self, job: Job) -> dict[str, Any]:
        """What is known of a job's last submission; empty if Flink has taken none."""
        known = self._kept(job.name, "json")
        return json.loads(known.read_text("utf-8")) if known.exists() else {}

    def restart(
        self,
        job: Job,
        sql: str,
        report: Report,
        begun: Begun | None = None,
        between: Callable[[], None] = lambda: None,
        finish: Finish | None = None,
    ) -> str:
        """End a job and submit it with the script `sql`, from no state; Flink's id of it.

        Later submissions that the declarations are unchanged for take the same script; where they
        have changed and its state fits, the one that is made of them and of how it has `begun`. The
        state that it had counts no more, whether it comes to be submitted or not: what is taken out
        of its tables `between` the two would not be written again by a job that goes on from it.
        Nobody else submits it meanwhile, nor once that has broken off: `finish` is what does it.
        """
        with self.alone(report) as lock:
            self._cancel(job)
            if finish is not None:
                told = msgspec.json.encode(finish).decode()
                write_whole(self._kept(job.name, "broken-off"), told)
            for what in (*_STATE, "asked"):
                self._kept(job.name, what).unlink(missing_ok=True)
            between()
            return self._run([self._script(job.name, sql, begun=begun)], report, (lock,))[job.name]

    def broken_off(self, job: Job) -> Finish | None:
        """What finishes a restart of a job that broke off; None if none did."""
        kept = self._kept(job.name, "broken-off")
        return msgspec.json.decode(kept.read_bytes(), type=Finish) if kept.exists() else None

    def check_broken_off(self, job: Job, replay: str = "") -> None:
        """Raise BrokenOff if a restart of a job broke off, other than one for that replay."""
        finish = self.broken_off(job)
        if finish is not None and finish.replay != replay:
            raise BrokenOff(
                f"{job.name} was to begin anew when that broke off, and its tables may lack what it"
                f" would have written then: `{finish.command}` finishes it. Should that replay be"
                f" gone, `headwater jobs submit {job.name} --anew` reads the whole log again and"
                " lets the newer of two rows count"
            )

    def _cancel(self, job: Job) -> None:
        if (running := self.running().get(job.name)) is not None:
            self._end(job.name, running.id)

    def _end(self, name: str, id_: str) -> None:
        """Cancel a job and wait until it has ended."""
        self.cluster.cancel(id_)
        self._await_end(name, id_)

    def _await_end(self, name: str, id_: str) -> None:
        deadline = time.monotonic() + _CANCEL_SECONDS
        while any(job.id == id_ for job in self.cluster.jobs()):
            if time.monotonic() > deadline:
                raise FlinkError(f"{name} has not ended after {_CANCEL_SECONDS} s")
            time.sleep(0.2)

    def submit_scripts(
        self,
        scripts: Mapping[str, str],
        report: Report,
        configuration: Mapping[str, Mapping[str, str]] | None = None,
        held: tuple[int, ...] = (),
    ) -> dict[str, str]:
        """Submit scripts by job name, with each job's own configuration; Flink's id of each.

        The process that submits keeps the files `held` open: a lock on them outlives a caller
        that is killed for as long as jobs may still come.
        """
        more = configuration or {}
        requests = [self._script(name, sql, more.get(name)) for name, sql in scripts.items()]
        return self._run(requests, report, held)

    def stop(self, names: Iterable[str], report: Report, cancel: bool = False) -> None:
        """Stop running jobs, each with a savepoint that the next submit goes on from.

        Those that are no longer declared, too. SettingsError for a name of neither. FlinkError,
        once all others are stopped, for those that Flink makes none of: `cancel` ends jobs without.
        """
        with self.alone(report):
            there = self._settled() | self.undeclared()
            choices = dict.fromkeys((*self.known, *there))
            wanted = dict.fromkeys(names) or choices
            for name in wanted:
                _check(name, choices)
            for name in wanted:
                if name not in there:
                    report(f"{name} does not run")
            running = {there[name].id: name for name in wanted if name in there}
            (self._cancel_each if cancel else self._stop_each)(running, report)

    def _stop_each(self, running: Mapping[str, str], report: Report) -> None:
        """With a savepoint; names by Flink's ids."""
        unstopped = {}
        for id_, found in self.cluster.stop_each(running):
            name = running[id_]
            if isinstance(found, FlinkError):
                unstopped[name] = found
                report(f"{name} is not stopped")
            else:
                write_whole(self._kept(name, "savepoint"), found + "\n")
                report(f"{name} is stopped; savepoint {found}")
        if unstopped:
            said = "; ".join(dict.fromkeys(map(str, unstopped.values())))
            raise FlinkError(
                f"{said}. `headwater jobs stop --cancel {' '.join(unstopped)}` ends what cannot"
                " be stopped, without a savepoint: it goes on from its newest checkpoint"
            )

    def _cancel_each(self, running: Mapping[str, str], report: Report) -> None:
        """With none; names by Flink's ids."""
        refusals, ending = Refusals(), []
        for id_ in running:
            with refusals.noted():
                self.cluster.cancel(id_)
                ending.append(id_)
        for id_ in ending:
            with refusals.noted():
                self._await_end(running[id_], id_)
                report(f"{running[id_]} is cancelled, and goes on from where it was last")
        refusals.tell()

    def _select(self, names: Iterable[str]) -> list[Job]:
        wanted = dict.fromkeys(names) or self.known
        return [self.find(name) for name in wanted]

    def find(self, name: str) -> Job:
        """The job of that name; SettingsError if there is none."""
        _check(name, self.known)
        return self.known[name]

    def _kept(self, name: str, what: str) -> Path:
        return self.settings.state / "jobs" / f"{name}.{what}"

    def _ask(self, job: Job, request: Mapping[str, object]) -> None:
        """Note what a job is submitted with, and the declarations it was made of.

        That counts from when Flink has taken it: until then what it was submitted with before does.
        """
        asked = {
            "sql": request["sql"],
            "declared": job_sql(job),
            "id": _configured(request, FIXED_ID),
            "from": _configured(request, RECOVERY),
            "begun": request["begun"],
            "before": request.get("before"),
            "outage": self.settings.outage_seconds,
        }
        write_whole(self._kept(job.name, "asked"), json.dumps(asked))

    def _request(
        self, job: Job, report: Report, savepoint: str | None, anew: bool
    ) -> dict[str, object]:
        if not anew:
            self.check_broken_off(job)
        sql, begun, before = job_sql(job), None, self._before(job, savepoint)
        last = self._submitted(job) if savepoint is None else self._made(job, savepoint)
        named = savepoint is not None
        if not named and not anew:
            savepoint = self._last(job)
            if before is not None:
                report(
                    f"{job.name} has left nothing since it was submitted from {savepoint}; where it"
                    f" was before that, `headwater jobs submit {job.name} --from {before}` goes on"
                )
        if last is not None and not anew:
            reasons = last.changes(job)
            if savepoint is not None and reasons and job.views:
                out = (
                    "Submit without --from: the job goes on from where it was last."
                    if named
                    else way_out(sql)
                )
                raise StateMismatch(
                    f"{job.name} cannot go on from its savepoint: {'; '.join(reasons)}. {out}"
                )
            if savepoint is not None and reasons:
                report(f"{job.name} goes on where its tables end: {'; '.join(reasons)}")
                sql = resumed_sql(job, unarchived(self.settings, job, report))
                savepoint, anew = None, True
            elif not reasons:
                sql, begun = last.script(job), last.begun
        configuration = {}
        if not job.views:
            configuration[_INTERVAL] = f"{2 * self.settings.checkpoint_seconds} s"
        tables = tables_of(job)
        if savepoint is not None:
            is_last = not named and savepoint == self._left(job)
            check_savepoint(catalog(self.settings), tables, savepoint, is_last=is_last)
            configuration[RECOVERY] = savepoint
        elif not anew:
            check_anew(catalog(self.settings), tables)
        return self._script(job.name, sql, configuration, begun) | {
            "before": None if savepoint is None else before
        }

    def _tell_outage(self, job: Job, savepoint: str | None, report: Report) -> None:
        """What a job was stopped with is committed; what it was lost with may not have been."""
        last = savepoint or self._last(job)
        if last is None or job.late is None or (made := checkpoint_time(last)) is None:
            return
        # What counts is what it was submitted with, whatever is declared by now.
        allowed = self._told(job).get("outage", self.settings.outage_seconds)
        away = time.time() - made
        if away > allowed:
            report(
                f"{job.name} was lost {away:,.0f} s ago, and Kafka keeps its transactions for"
                f" {allowed} s (HEADWATER_OUTAGE_SECONDS): late rows of its last checkpoint may"
                f" never come to {late_topic(job.late)}. `headwater audit` names them; their"
                " events are in the archive"
            )

    def _last(self, job: Job) -> str | None:
        """Where a job was when it was stopped or lost; None if it never came to a checkpoint.

        What it was stopped with is not noted where whoever stopped it was killed meanwhile.
        """
        return self._left(job) or self._told(job).get("from")

    def _left(self, job: Job) -> str | None:
        """What a job has left since its last submission; None if nothing."""
        kept, told = self._kept(job.name, "savepoint"), self._told(job)
        if kept.exists():
            return kept.read_text("utf-8").strip()
        return newest_left(self.settings.state, told["id"]) if told else None

    def _before(self, job: Job, savepoint: str | None) -> str | None:
        """Where a job was before one named the savepoint that it goes on from.

        None if it goes on from where it was, or has left something since.
        """
        told, left = self._told(job), self._left(job)
        if savepoint is None:
            return None if left else told.get("before")
        last = left or told.get("before") or told.get("from")
        return None if last and _same_path(last) == _same_path(savepoint) else last

    def _remember(self, job: Job, id_: str) -> None:
        """Keep what a job was submitted with: Flink has taken it, as `id_`."""
        asked = json.loads(self._kept(job.name, "asked").read_text("utf-8"))
        told = {"id": id_, "from": asked["from"], "outage": asked["outage"]}
        told |= {"begun": asked.get("begun"), "before": asked.get("before")}
        submission = Submission(asked["sql"], asked["declared"], Begun.read(told["begun"]))
        self._submissions(job).keep(id_, submission)
        write_whole(self._kept(job.name, "json"), json.dumps(told))
        write_whole(self._kept(job.name, "sql"), asked["sql"])
        write_whole(self._kept(job.name, "declared.sql"), asked["declared"])
        for what in ("savepoint", "broken-off"):
            self._kept(job.name, what).unlink(missing_ok=True)
        self._kept(job.name, "asked").unlink()  # the last: killed before, all this is done again

    def _script(
        self,
        name: str,
        sql: str,
        configuration: Mapping[str, str] | None = None,
        begun: Begun | None = None,
    ) -> dict[str, object]:
        return {
            "name": name,
            "sql": sql,
            "begun": begun and asdict(begun),
            "configuration": {FIXED_ID: uuid4().hex, **(configuration or {})},
        }

    def _place(self) -> Place:
        """Where the jobs run; SettingsError if they could not open the catalog there."""
        settings = self.settings
        rest = settings.elsewhere.catalog_uri
        if rest and not rest.startswith(("http://", "https://")):
            raise SettingsError(
                "HEADWATER_CATALOG_URI: jobs open an Iceberg REST catalog, http:// or https://, or"
                f" the one in PostgreSQL, got {rest.partition(':')[0]}:..."
            )
        return Place(
            repository=settings.repository,
            kafka=settings.kafka_access,
            redis_url=settings.redis_url,
            warehouse=settings.warehouse,
            postgres=settings.postgres,
            password="" if rest else settings.postgres_password(),
            redis_replicas=settings.redis_replicas,
            outage_seconds=settings.outage_seconds,
            catalog_uri=rest,
            catalog_token=settings.catalog_token(),
        )

    def _run(
        self, requests: list[dict[str, object]], report: Report, held: tuple[int, ...] = ()
    ) -> dict[str, str]:
        settings, place = self.settings, self._place()
        request = {
            "flink": {
                "execution.target": "remote",
                "execution.attached": "false",
                **CONFIGURATION,
                _INTERVAL: f"{settings.checkpoint_seconds} s",
                _PAUSE: f"{settings.checkpoint_seconds} s",
                "table.exec.source.idle-timeout": f"{settings.idle_seconds} s",
                "execution.checkpointing.dir": f"file://{settings.state}/checkpoints",
                "execution.checkpointing.savepoint-dir": f"file://{settings.state}/savepoints",
                "rest.address": "127.0.0.1",
                "rest.port": str(settings.ports.flink),
            },
            "jobs": [_placed(place, asked) for asked in requests],
        }
        for asked in requests:
            if job := self.known.get(str(asked["name"])):
                self._ask(job, asked)
        ids: dict[str, str] = {}
        for told in submitted(settings, request, held):
            report(f"{told['name']} is submitted as {told['id']}")
            ids[told["name"]] = told["id"]
            if told["name"] in self.known:
                self._remember(self.known[told["name"]], told["id"])
        return ids


def tables_of(job: Job) -> list[str]:
    """The Iceberg tables of a job's views, or those of the events that the archive's job keeps."""
    views = [f"{NAMESPACE}.{view.name}" for view in job.views]
    return views or [f"{ARCHIVE}.{source.name}" for source in job.sources]


def _placed(place: Place, asked: dict[str, object]) -> dict[str, object]:
    """A request with all that its script leaves open; SettingsError if that cannot run there.

    None of it is kept with the script: secrets are not, and the state fits in another place too.
    """
    name, sql = str(asked["name"]), str(asked["sql"])
    if place.catalog_uri and _READS_ARCHIVE in sql:
        raise SettingsError(
            f"HEADWATER_CATALOG_URI: {name} reads the archive, which it opens by the catalog in"
            " PostgreSQL alone; `--source kafka` has a replay read the log"
        )
    return asked | {"sql": place.script(sql), "values": place.values(name)}


def _same_path(savepoint: str) -> str:
    """A path by one name, of the several that Flink and its users have for it."""
    return re.sub("^file:/*", "/", savepoint).rstrip("/")


def _check(name: str, choices: Iterable[str]) -> None:
    if name not in choices:
        raise SettingsError(f"no job {name!r}; choices: {', '.join(choices)}")


def _configured(request: Mapping[str, object], key: str) -> object:
    configuration = request["configuration"]
    return configuration.get(key) if isinstance(configuration, dict) else None
