"""What replays have written, and how it goes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from headwater.replays.context import Context
from headwater.replays.journal import Replay
from headwater.replays.promote import mark
from headwater.replays.values import chunks
from iceberg.archive import release
from iceberg.catalog import NAMESPACE, branch_files, drop_branch

_SAMPLED_KEYS = 200
_AT_ONCE = 1000


@dataclass(frozen=True)
class Freed:
    """What a replay holds, and dropping it frees."""

    id: str
    state: str
    redis_keys: int
    redis_bytes: int
    """By the size of a sample of its keys."""

    disk_bytes: int
    """Files of its branches and its checkpoints. Of a replay that was promoted, not those of the
    branches: they are the table's now, or go when maintenance expires its snapshots."""


class Holdings:
    """The branches, keys and checkpoints of replays."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def of(self, replay: Replay) -> Freed:
        """What dropping a replay would free."""
        return self._freed(replay, self._on_disk(replay), unlink=False)

    def drop(self, replay: Replay) -> Freed:
        """Remove all of it; what that has freed. None of its jobs may run."""
        on_disk = self._on_disk(replay)
        for table in self._tables(replay):
            taken_over = mark(replay) in table.properties
            drop_branch(table, replay.branch, replay.tags, delete_files=not taken_over)
        release(self._context.tables, replay.read)
        with self._context.online() as online:
            online.delete(replay.pace(self._context.repository.name))
        freed = self._freed(replay, on_disk, unlink=True)
        shutil.rmtree(self._context.checkpoints(replay), ignore_errors=True)
        return freed

    def _tables(self, replay: Replay) -> Iterator[Table]:
        """Those of its views; of a view whose table somebody has dropped all went with that."""
        for view in replay.views:
            try:
                table = self._context.tables.load_table(f"{NAMESPACE}.{view}")
            except NoSuchTableError:
                continue
            yield table

    def _on_disk(self, replay: Replay) -> int:
        on_disk = 0
        for table in self._tables(replay):
            if mark(replay) not in table.properties:
                on_disk += sum(branch_files(table, replay.branch).values())
        kept = self._context.checkpoints(replay).glob("**/*")
        return on_disk + sum(path.stat().st_size for path in kept if path.is_file())

    def _freed(self, replay: Replay, on_disk: int, unlink: bool) -> Freed:
        """In one pass through Redis, which takes as long as it has keys."""
        keys, sizes = 0, list[int]()
        with self._context.online() as online:
            there = online.scan_iter(match=self._keys(replay), count=_AT_ONCE)
            for some in chunks(there, _AT_ONCE):
                keys += len(some)
                left = max(0, _SAMPLED_KEYS - len(sizes))
                sizes += [int(online.memory_usage(key) or 0) for key in some[:left]]
                if unlink:
                    online.unlink(*some)
        in_memory = round(keys * sum(sizes) / len(sizes)) if sizes else 0
        return Freed(replay.id, replay.state, keys, in_memory, on_disk)

    def _keys(self, replay: Replay) -> bytes:
        """The pattern of its Redis keys, and of what a promotion keeps to be taken back."""
        return b"*" + replay.version(self._context.repository.name).encode() + b"*"
