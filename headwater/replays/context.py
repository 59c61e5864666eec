"""What all that is done with replays works on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog

from flink_jobs.rest import FlinkCluster
from flink_jobs.sql import Job
from headwater.local.cores import Cores
from headwater.replays.journal import Journal, Replay
from headwater.replays.plan import Planner
from headwater.settings import Settings
from headwater.stores import catalog, online
from schemas import FeatureView, Repository, SettingsError


class Context:
    """One repository on one platform, and the journal of its replays."""

    def __init__(self, settings: Settings, repository: Repository) -> None:
        self.settings = settings
        self.repository = repository
        self.journal = Journal(settings.state / "replays")
        self.cluster = FlinkCluster(settings.flink_url)

    @cached_property
    def planner(self) -> Planner:
        """Works out what replays read."""
        return Planner(self.repository, self.settings.kafka_access, self.tables)

    @cached_property
    def tables(self) -> Catalog:
        """The Iceberg catalog, which has connections of its own."""
        return catalog(self.settings)

    def online(self) -> AbstractContextManager[Any]:
        """A connection to the online store."""
        return online(self.settings)

    @cached_property
    def cores(self) -> Cores:
        """The cores that the platform's parts run on, where they are of this machine."""
        return Cores(self.settings.state)

    def lookups_first(self, replay: Replay) -> AbstractContextManager[None]:
        """One core is kept for lookups meanwhile, where the replay has a bound for their p99."""
        return nullcontext() if replay.max_p99_ms is None else self.cores.one_kept()

    def checkpoints(self, replay: Replay) -> Path:
        """Where its jobs keep their checkpoints and savepoints, a folder each."""
        return self.settings.state / "checkpoints" / "replays" / replay.id

    def views(self, replay: Replay) -> list[FeatureView]:
        """The views that it computes; SettingsError if the repository does not declare them all."""
        known = [view.name for view in self.repository.views]
        if gone := [name for name in replay.views if name not in known]:
            is_under_way = replay.state in ("promoting", "rolling back")
            drop = f"; `headwater replay drop {replay.id}` takes the replay away"
            raise SettingsError(
                f"replay {replay.id} is of {', '.join(gone)}, which the repository"
                f" {self.repository.name} does not declare; choices: {', '.join(known)}. Declare it"
                f" again, or name its repository by HEADWATER_REPOSITORY"
                f"{'' if is_under_way else drop}"
            )
        return [view for view in self.repository.views if view.name in replay.views]


def job_name(replay: Replay, job: Job) -> str:
    """What the replay's job is called that computes what `job` does."""
    return f"replay-{replay.id}-{job.name}"
