"""What goes back with a job to one of its savepoints, and whether it may just now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from flink_jobs.rest import FlinkError
from flink_jobs.sql import Job, jobs
from headwater.jobs import Jobs, tables_of
from headwater.savepoints import Savepoint
from headwater.settings import Settings
from iceberg.lineage import lineage
from iceberg.promotions import promotions
from schemas import FeatureView, HeadwaterError, Repository, SettingsError


class JobRuns(HeadwaterError):
    """A table cannot go back while a job writes it; the text names that, and how to stop it."""


def check_stopped(settings: Settings, repository: Repository, views: Iterable[FeatureView]) -> None:
    """Raise JobRuns if the job of one of those views runs, as far as there is a Flink to ask.

    Where each job has a cluster of its own, none is asked.
    """
    try:
        running = Jobs(settings, repository).running()
    except FlinkError:
        return
    names = {view.name for view in views}
    for job in jobs(repository):
        if job.name in running and names & {view.name for view in job.views}:
            raise JobRuns(
                f"{job.name} runs and would write on top: `headwater jobs stop {job.name}` first"
            )


class PromotedSince(HeadwaterError):
    """A replay was promoted since, and would be half taken back; the text says what comes first."""


def check_promotions(table: Table, view: str, chosen: Snapshot) -> None:
    """Raise PromotedSince if replays are in place that were not when a snapshot was committed.

    The online values are theirs, and the journal says so.
    """
    held = {snapshot.snapshot_id for snapshot in lineage(table, chosen.snapshot_id)}
    since = {
        one.order: id_
        for id_, one in promotions(table).items()
        if one.promoted not in held and (one.at or 0) > chosen.timestamp_ms
    }
    if since:
        newest_first = [since[order] for order in sorted(since, reverse=True)]
        first = " and ".join(f"`headwater replay rollback {id_}`" for id_ in newest_first)
        raise PromotedSince(
            f"{view}: replays were put in place since {chosen.snapshot_id} was committed, online as"
            f" well: {first} first"
        )


def views_of(
    catalog: Catalog,
    repository: Repository,
    savepoint: Savepoint,
    wanted: Sequence[FeatureView],
) -> Sequence[FeatureView]:
    """The views that go back with a job to its savepoint: all of the job's if none is wanted.

    Which job's it is its commits tell. SettingsError if no table has one and no view is wanted, and
    for what is wanted of another job.
    """
    job = next((job for job in jobs(repository) if _wrote(catalog, savepoint, job)), None)
    if job is None:
        if not wanted:
            raise SettingsError(
                f"{savepoint.path}: no view's table has a snapshot of its job any more; name the"
                " views"
            )
        return wanted
    if not job.views:
        raise SettingsError(
            f"{savepoint.path} is of {job.name}, whose tables do not go back: it goes on where they"
            " end"
        )
    if others := [view.name for view in wanted if view not in job.views]:
        raise SettingsError(
            f"{savepoint.path} is of {job.name}, which does not write {', '.join(others)}"
        )
    return wanted or job.views


def _wrote(catalog: Catalog, savepoint: Savepoint, job: Job) -> bool:
    """Whether a table of a job has a commit of the one that a savepoint is of."""
    for name in tables_of(job):
        with suppress(NoSuchTableError):
            if any(map(savepoint.of_job, catalog.load_table(name).snapshots())):
                return True
    return False
