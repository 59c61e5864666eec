"""What is known of each replay, in one file each: it outlives the command that started it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from schemas import EVENT_TIME, SettingsError

STATES = (
    *("running", "done", "failed", "cancelled"),
    *("promoting", "promoted", "rolling back", "rolled back"),
)


@dataclass(frozen=True)
class Replay:
    """One replay of views over [start, end), milliseconds since 1970 UTC."""

    id: str
    views: tuple[str, ...]
    start: int
    end: int
    jobs: dict[str, str]
    """Flink's id of each job, by the job's name."""

    state: str = "running"

    @property
    def branch(self) -> str:
        """The branch of the Iceberg tables that holds its rows and no others."""
        return f"replay_{self.id}"

    def version(self, project: str) -> str:
        """What its Redis keys end in, where live ones end in the project."""
        return f"{project}~{self.id}"

    @property
    def within(self) -> str:
        """Its span as a filter on rows of Iceberg."""
        start, end = self.iso(self.start), self.iso(self.end)
        return f"{EVENT_TIME} >= '{start}' and {EVENT_TIME} < '{end}'"

    @staticmethod
    def iso(milliseconds: int) -> str:
        """An instant as Iceberg's filters want it."""
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


class Journal:
    """The replays of one state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[Replay]:
        """Every replay, oldest first."""
        return [_read(path) for path in sorted(self._folder.glob("*.json"))]

    def find(self, id_: str) -> Replay:
        """The replay of that id; SettingsError lists those there are."""
        path = self._folder / f"{id_}.json"
        if not path.exists():
            known = ", ".join(replay.id for replay in self.all()) or "there are none"
            raise SettingsError(f"no replay {id_!r}; choices: {known}")
        return _read(path)

    def next_id(self) -> str:
        """An id that no replay has had: a number of four digits."""
        return f"{max((int(replay.id) for replay in self.all()), default=0) + 1:04}"

    def write(self, replay: Replay) -> Replay:
        """Keep it, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f".{replay.id}.new"
        partial.write_text(json.dumps(asdict(replay), indent=1) + "\n", "utf-8")
        partial.replace(self._folder / f"{replay.id}.json")
        return replay

    def set_state(self, replay: Replay, state: str) -> Replay:
        """The same replay in another state, kept."""
        return self.write(replace(replay, state=state))

    def remove(self, replay: Replay) -> None:
        """Forget it."""
        (self._folder / f"{replay.id}.json").unlink(missing_ok=True)


def _read(path: Path) -> Replay:
    document = json.loads(path.read_text("utf-8"))
    return Replay(**document | {"views": tuple(document["views"])})
