"""What is known of each replay, in one file each: it outlives the command that started it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from pathlib import Path

from pyiceberg.expressions import And, BooleanExpression

from headwater.files import write_whole
from headwater.locks import locked
from iceberg.filters import among, before, instant, since
from iceberg.promotions import branch_of
from schemas import SettingsError

STATES = (
    *("starting", "running", "following", "paused", "done", "failed", "cancelled"),
    *("promoting", "promoted", "rolling back", "rolled back", "dropping"),
)
"""Done and following can be promoted; following reads on until it is stopped."""
GOING = ("starting", "running", "following")
"""Its jobs run, or should."""

_WAIT_SECONDS = 60
"""For another command that works on the same replay: to submit jobs takes about half of it."""


@dataclass(frozen=True)
class Replay:
    """One replay of views over [start, end), milliseconds since 1970 UTC."""

    id: str
    views: tuple[str, ...]
    start: int
    end: int | None
    """None while it follows the log."""

    jobs: dict[str, str] = field(default_factory=dict)
    """Flink's id of each job, by the job's name; empty for one that was not submitted yet."""

    state: str = "running"
    keys: dict[str, tuple[str | int, ...]] = field(default_factory=dict)
    """Values of key columns, if it computes just those entities."""

    rate: float | None = None
    """The most records a second it may read."""

    held: bool = False
    """Whether it had such a limit, or a bound, at any time."""

    max_p99_ms: float | None = None
    """It is slowed down while the API's 99th percentile is over this."""

    max_lag: int | None = None
    """It is slowed down while live jobs have more records than this to read."""

    planned: int = 0
    """Records it reads, as planned."""

    rows: int = 0
    """Records it had read when it was done, or stopped."""

    share: float = 1.0
    """How far it was when it was stopped, 0 to 1."""

    seconds: float = 0.0
    """How long its jobs ran, once it is done."""

    ends: dict[str, int] = field(default_factory=dict)
    """Where the span of a view ended that followed the log, once it was stopped."""

    begun: str = ""
    """When, ISO 8601 UTC."""

    offsets: dict[str, dict[str, int]] = field(default_factory=dict)
    """From where on its sources' topics had nothing of its span when it was planned, by source and
    partition; of one that ends, and is to know all that came."""

    archives: dict[str, list[int]] = field(default_factory=dict)
    """The snapshots that its scripts read of a stream's archive, by the stream's name."""

    @property
    def branch(self) -> str:
        """The branch of the Iceberg tables that holds its rows and no others."""
        return branch_of(self.id)

    @property
    def read(self) -> str:
        """What the tags begin with that keep what it reads of the archives."""
        return f"replay_{self.id}"

    @property
    def kept(self) -> str:
        """The tag that keeps a table's rows from before the promotion."""
        return f"before_replay_{self.id}"

    @property
    def placed(self) -> str:
        """The tag that keeps a table as the promotion left it, which its undoing starts from."""
        return f"promoted_replay_{self.id}"

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that its promotion puts on a table."""
        return self.kept, self.placed

    def version(self, project: str) -> str:
        """What its Redis keys end in, where live ones end in the project."""
        return f"{project}~{self.id}"

    def pace(self, project: str) -> str:
        """The Redis key that holds how many records a second it may read."""
        return f"headwater:{project}:replay:{self.id}:pace"

    def end_of(self, view: str) -> int | None:
        """Where its span of a view ends, milliseconds since 1970 UTC; None if it is open."""
        return self.ends.get(view, self.end)

    def within(self, view: str) -> BooleanExpression:
        """Its span of a view, and its keys, as a filter on rows of Iceberg."""
        parts = [since(self.start)]
        end = self.end_of(view)
        if end is not None:
            parts.append(before(end))
        parts += [among(column, values) for column, values in self.keys.items()]
        return reduce(And, parts)

    @staticmethod
    def iso(milliseconds: int) -> str:
        """An instant as Iceberg's filters want it."""
        return instant(milliseconds)


class Journal:
    """The replays of one state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[Path, int] = {}
        """The locks that this process has, and their open files."""

    def there(self) -> dict[str, Replay]:
        """Those that can still be promoted or rolled back, by their ids."""
        return {replay.id: replay for replay in self.all() if replay.state != "dropping"}

    def all(self) -> list[Replay]:
        """Every replay, oldest first."""
        found = map(_read, sorted(self._folder.glob("[0-9]*.json")))
        return [replay for replay in found if replay is not None]

    def find(self, id_: str) -> Replay:
        """The replay of that id; SettingsError lists those there are."""
        found = _read(self._folder / f"{id_}.json") if id_.isdigit() else None
        if found is None:
            known = ", ".join(replay.id for replay in self.all()) or "there are none"
            raise SettingsError(f"no replay {id_!r}; choices: {known}")
        return found

    def reserve(self) -> str:
        """An id that no replay has had or will get: a number of four digits."""
        number = self._newest()
        while True:
            number += 1
            try:
                (self._folder / f"{number:04}").mkdir(parents=True)  # by one of all that try
                return f"{number:04}"
            except FileExistsError:
                pass

    def _newest(self) -> int:
        """The highest number that a replay has, or has had."""
        there = [int(replay.id) for replay in self.all()]  # first: who drops one notes it before
        newest = self._folder / "newest"
        had = int(newest.read_text("utf-8")) if newest.exists() else 0
        return max(had, *there, 0)

    def folder(self, replay: Replay) -> Path:
        """Where a replay's scripts and reports lie."""
        return self._folder / replay.id

    def write(self, replay: Replay) -> Replay:
        """Keep it, whole or not at all."""
        text = json.dumps(asdict(replay), indent=1) + "\n"
        write_whole(self._folder / f"{replay.id}.json", text)
        return replay

    @contextmanager
    def alone(
        self, replay: Replay, command: str = "run", seconds: float | None = None
    ) -> Iterator[int]:
        """Nobody else changes a replay or starts its jobs meanwhile; the open file that is locked.

        Whoever does is waited for, not long, and named by Busy then. Who has it may enter
        again. A process that inherits the file keeps the lock, should this one be killed.
        """
        name = f"replay {replay.id}"
        with self._locked(self._lock(replay), name, command, seconds) as lock:
            yield lock

    @contextmanager
    def switching(self, command: str) -> Iterator[None]:
        """Nobody else promotes a replay, or takes one back, meanwhile; otherwise as `alone`."""
        with self._locked(self._folder / "switch.lock", "the values of replays", command):
            yield

    @contextmanager
    def _locked(
        self, path: Path, name: str, command: str, seconds: float | None = None
    ) -> Iterator[int]:
        if path in self._held:
            yield self._held[path]
            return
        wait = _WAIT_SECONDS if seconds is None else seconds
        with locked(path, name, f"headwater replay {command}", wait) as lock:
            self._held[path] = lock
            try:
                yield lock
            finally:
                del self._held[path]

    def _lock(self, replay: Replay) -> Path:
        return self._folder / f"{replay.id}.lock"

    def set_state(self, replay: Replay, state: str) -> Replay:
        """The same replay in another state, kept."""
        return self.write(replace(replay, state=state))

    def remove(self, replay: Replay) -> None:
        """Forget it, but for its id, which no other gets."""
        with self._locked(self._folder / "newest.lock", "the ids of replays", "drop"):
            had = str(max(self._newest(), int(replay.id)))
            write_whole(self._folder / "newest", had)
        shutil.rmtree(self.folder(replay), ignore_errors=True)
        (self._folder / f"{replay.id}.json").unlink(missing_ok=True)
        self._lock(replay).unlink(missing_ok=True)


def _read(path: Path) -> Replay | None:
    """None if it was dropped just now, or never was."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    return Replay(
        **document
        | {
            "views": tuple(document["views"]),
            "keys": {name: tuple(values) for name, values in document.get("keys", {}).items()},
        }
    )
