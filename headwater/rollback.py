"""What goes back with a job to one of its savepoints, and whether it may just now."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import requests
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from flink_jobs.rest import FlinkError
from flink_jobs.sql import Job, jobs
from headwater.jobs import Jobs, Report, tables_of
from headwater.savepoints import Savepoint
from headwater.settings import Settings
from iceberg.lineage import lineage
from iceberg.promotions import promotions, taken_back
from schemas import FeatureView, HeadwaterError, Repository, SettingsError


class JobRuns(HeadwaterError):
    """A table cannot go back while a job writes it; the text names that, and how to stop it."""


@contextmanager
def stopped(
    settings: Settings, repository: Repository, views: Iterable[FeatureView], report: Report
) -> Iterator[None]:
    """Meanwhile no job of those views runs, nor is submitted; JobRuns if one does.

    As far as a Flink is there to ask: where each job has a cluster of its own, none is.
    """
    live = Jobs(settings, repository)
    try:
        live.cluster.jobs()
    except FlinkError as error:
        if not isinstance(error.__cause__, requests.ConnectionError):
            raise
        yield
        return
    with live.alone(report):
        names = {view.name for view in views}
        writing = {job.name for job in jobs(repository) if names & {v.name for v in job.views}}
        if running := [*(live.running().keys() & writing), *live.undeclared()]:
            raise JobRuns(
                f"{', '.join(running)} would write on top:"
                f" `headwater jobs stop {' '.join(running)}` first"
            )
        yield


class PromotedSince(HeadwaterError):
    """A replay would be in place offline or online alone; the text says what comes first."""


def check_promotions(
    table: Table, view: str, chosen: Snapshot, known: Container[str], report: Report
) -> None:
    """Raise PromotedSince if other replays were in place when a snapshot was current than are now.

    The online values are those of now, and the journal says so. Of replays that are not `known` any
    more, since they were dropped, that is reported: they can be neither taken back nor put there.
    """
    held = {snapshot.snapshot_id for snapshot in lineage(table, chosen.snapshot_id)}
    since = {
        one.order: id_
        for id_, one in promotions(table).items()
        if one.promoted not in held and (one.at or 0) > chosen.timestamp_ms
    }
    then = [
        id_
        for id_, one in taken_back(table).items()
        if one.promoted in held and one.undone not in held
    ]
    for id_ in (*since.values(), *then):
        if id_ not in known:
            report(f"{view}: replay {id_} is not known any more; what is online stays as it is")
    if back := [since[order] for order in sorted(since, reverse=True) if since[order] in known]:
        commands = " and ".join(f"`headwater replay rollback {id_}`" for id_ in back)
        raise PromotedSince(
            f"{view}: replays were put in place since {chosen.snapshot_id} was current, online as"
            f" well: {commands} first"
        )
    if away := [id_ for id_ in then if id_ in known]:
        raise PromotedSince(
            f"{view}: at {chosen.snapshot_id} replay {', '.join(away)} was in place, which was"
            " taken back since, online as well: choose a snapshot of after that, or of before it"
            " was put there"
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
    """Whether a table of a job has been at a commit of the one that a savepoint is of."""
    for name in tables_of(job):
        with suppress(NoSuchTableError):
            table = catalog.load_table(name)
            was_at = {entry.snapshot_id for entry in table.history()}
            its = filter(savepoint.of_job, table.snapshots())
            if any(snapshot.snapshot_id in was_at for snapshot in its):
                return True
    return False
