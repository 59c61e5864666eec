"""What a job was submitted with, each time: a state goes on with the script that has made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from flink_jobs.checkpoints import newest_left
from flink_jobs.replay import Reading, restart_sql
from flink_jobs.sql import Job, job_sql
from flink_jobs.upgrade import breaks
from headwater.files import write_whole


@dataclass(frozen=True)
class Begun:
    """How a job began anew in mid-log: all its later scripts read and let out the same."""

    since: int
    """Milliseconds since 1970 UTC; the first event time that is let out."""

    readings: Mapping[str, Reading]

    @classmethod
    def read(cls, document: object) -> Begun | None:
        """Of what JSON has of it; None for one that began with the whole log."""
        return msgspec.convert(document, cls | None, str_keys=True)


@dataclass(frozen=True)
class Submission:
    """What Flink took once."""

    sql: str
    declared: str
    """The script of what was declared, which is another one where the job began in mid-log."""

    begun: Begun | None

    def is_of(self, job: Job) -> bool:
        """Whether it is of what is declared."""
        return self.declared == job_sql(job)

    def changes(self, job: Job) -> list[str]:
        """Why what is declared cannot go on from a state of this; empty if it can."""
        if self.is_of(job):
            return []
        return breaks(self.declared, job_sql(job)) or breaks(self.sql, self._continued(job))

    def script(self, job: Job) -> str:
        """What goes on from a state of this, of what is declared."""
        return self.sql if self.is_of(job) else self._continued(job)

    def _continued(self, job: Job) -> str:
        """The script of what is declared, over what the job reads since it began."""
        if self.begun is None:
            return job_sql(job)
        return restart_sql(job, self.begun.since, self.begun.readings)


class Submissions:
    """Those of one job, by Flink's ids, as long as there is a state that they made."""

    def __init__(self, state: Path, name: str) -> None:
        self._state = state
        self._folder = state / "jobs" / name

    def find(self, beginning: str) -> Submission | None:
        """The one whose id begins so; None where it is not known, or not which of them."""
        found = list(self._folder.glob(f"{beginning}*.json"))
        if len(found) != 1:
            return None
        document = json.loads(found[0].read_text("utf-8"))
        return Submission(document["sql"], document["declared"], Begun.read(document["begun"]))

    def keep(self, id_: str, submission: Submission) -> None:
        """Keep the newest, and of the others those that have left something."""
        write_whole(self._folder / f"{id_}.json", json.dumps(asdict(submission)))
        for path in self._folder.glob("*.json"):
            if path.stem != id_ and newest_left(self._state, path.stem) is None:
                path.unlink()
