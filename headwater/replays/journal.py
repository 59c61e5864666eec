"""What is known of each replay, in one file each: it outlives the command that started it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from iceberg.filters import instant
from schemas import EVENT_TIME, SettingsError

STATES = (
    *("starting", "running", "following", "paused", "done", "failed", "cancelled"),
    *("promoting", "promoted", "rolling back", "rolled back"),
)
"""Done and following can be promoted; following reads on until it is stopped."""
GOING = ("starting", "running", "following")
"""Its jobs run, or should."""


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

    max_p99_ms: float | None = None
    """It is slowed down while the API's 99th percentile is over this."""

    max_lag: int | None = None
    """It is slowed down while live jobs have more records than this to read."""

    planned: int = 0
    """Records it reads, as planned."""

    rows: int = 0
    """Records it has read, once it is done."""

    seconds: float = 0.0
    """How long its jobs ran, once it is done."""

    ends: dict[str, int] = field(default_factory=dict)
    """Where the span of a view ended that followed the log, once it was stopped."""

    begun: str = ""
    """When, ISO 8601 UTC."""

    @property
    def branch(self) -> str:
        """The branch of the Iceberg tables that holds its rows and no others."""
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

    def within(self, view: str) -> str:
        """Its span of a view, and its keys, as a filter on rows of Iceberg."""
        parts = [f"{EVENT_TIME} >= '{self.iso(self.start)}'"]
        end = self.ends.get(view, self.end)
        if end is not None:
            parts.append(f"{EVENT_TIME} < '{self.iso(end)}'")
        parts += [f"{column} in ({_values(values)})" for column, values in self.keys.items()]
        return " and ".join(parts)

    @staticmethod
    def iso(milliseconds: int) -> str:
        """An instant as Iceberg's filters want it."""
        return instant(milliseconds)


def _values(values: Iterable[str | int]) -> str:
    return ", ".join(
        "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
        for value in values
    )


class Journal:
    """The replays of one state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[Replay]:
        """Every replay, oldest first."""
        return [_read(path) for path in sorted(self._folder.glob("[0-9]*.json"))]

    def find(self, id_: str) -> Replay:
        """The replay of that id; SettingsError lists those there are."""
        path = self._folder / f"{id_}.json"
        if not id_.isdigit() or not path.exists():
            known = ", ".join(replay.id for replay in self.all()) or "there are none"
            raise SettingsError(f"no replay {id_!r}; choices: {known}")
        return _read(path)

    def next_id(self) -> str:
        """An id that no replay has had: a number of four digits."""
        return f"{self._newest() + 1:04}"

    def _newest(self) -> int:
        """The highest number that a replay has, or has had."""
        newest = self._folder / "newest"
        had = int(newest.read_text("utf-8")) if newest.exists() else 0
        return max(had, *(int(replay.id) for replay in self.all()), 0)

    def folder(self, replay: Replay) -> Path:
        """Where a replay's scripts and reports lie."""
        return self._folder / replay.id

    def write(self, replay: Replay) -> Replay:
        """Keep it, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(replay), indent=1) + "\n"
        _write(self._folder / f".{replay.id}.new", text, self._folder / f"{replay.id}.json")
        return replay

    @contextmanager
    def alone(self, replay: Replay) -> Iterator[int]:
        """Waits until nobody else starts jobs of a replay; the open file that is locked.

        A process that inherits the file keeps the lock, should this one be killed.
        """
        folder = self.folder(replay)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock.fileno()

    def set_state(self, replay: Replay, state: str) -> Replay:
        """The same replay in another state, kept."""
        return self.write(replace(replay, state=state))

    def remove(self, replay: Replay) -> None:
        """Forget it, but for its id, which no other gets."""
        had = str(max(self._newest(), int(replay.id)))
        _write(self._folder / ".newest.new", had, self._folder / "newest")
        shutil.rmtree(self.folder(replay), ignore_errors=True)
        (self._folder / f"{replay.id}.json").unlink(missing_ok=True)


def _write(partial: Path, text: str, path: Path) -> None:
    """On the disk before it has its name: a power cut leaves the old text or the new one."""
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read(path: Path) -> Replay:
    document = json.loads(path.read_text("utf-8"))
    return Replay(
        **document
        | {
            "views": tuple(document["views"]),
            "keys": {name: tuple(values) for name, values in document.get("keys", {}).items()},
        }
    )
