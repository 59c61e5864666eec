"""Commits to tables that jobs commit to as well, every few seconds each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.table import Table
from pyiceberg.table.update import AssertRefSnapshotId
from pyiceberg.table.update.snapshot import ExpireSnapshots
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from iceberg.lineage import by_id
from schemas import HeadwaterError

_T = TypeVar("_T")

ATTEMPTS = 30

_CONFLICTS = (CommitFailedException, ValidationException)
"""What PyIceberg says where somebody else was quicker: the second, where it tried again by itself
and what came meanwhile is of what it changes."""


class TableBusy(HeadwaterError):
    """A table changed each time that a change of it was to be committed; the text names it."""

    exit_code = 1


def commit_beside_others(name: str, change: Callable[[], _T]) -> _T:
    """What `change` returns, which is called again whenever somebody else committed before it did.

    It must load what it changes anew each time. TableBusy, with `name` in its text, if that
    happened `ATTEMPTS` times, which takes most of a minute.
    """
    try:
        return Retrying(
            retry=retry_if_exception_type(_CONFLICTS),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=2),
        )(change)
    except RetryError as error:
        last = error.last_attempt.exception()
        raise TableBusy(
            f"{name}: somebody else committed each of {ATTEMPTS} times that this was to be; try"
            f" again, or stop the jobs that write it for the moment. Iceberg said last: {last}"
        ) from last


def expire_snapshots(table: Table, ids: Iterable[int]) -> int:
    """Forget those snapshots of a table that are there and no branch's or tag's; how many.

    To be committed beside others: CommitFailedException if the table is not as it was loaded. A
    branch that went back to one of them meanwhile would go with it, and all that it names.
    """
    heads = {ref.snapshot_id for ref in table.refs().values()}
    there = by_id(table).keys() & set(ids) - heads
    try:
        if there:
            expiry = table.maintenance.expire_snapshots()
            expiry._snapshot_ids_to_expire |= there  # `by_ids` looks through all for each of them
            _commit_as_loaded(table, expiry)
    except ValueError as error:  # of what is gone PyIceberg says this, and nothing of a conflict
        if there <= by_id(table.refresh()).keys():
            raise
        raise CommitFailedException(str(error)) from error
    return len(there)


def _commit_as_loaded(table: Table, expiry: ExpireSnapshots) -> None:
    """Commit that to the very table that was loaded, or, in a REST catalog, where its refs are.

    PyIceberg asks for nothing of the table, and a SQL catalog would do it to what is there now.
    """
    from iceberg.together import commit_each  # SQLAlchemy takes a while to import

    expiry._transaction._autocommit = False
    expiry._requirements = tuple(
        AssertRefSnapshotId.model_validate({"ref": name, "snapshot-id": ref.snapshot_id})
        for name, ref in table.refs().items()
    )
    expiry.commit()
    commit_each(table.catalog, [expiry._transaction])
