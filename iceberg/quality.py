"""What became of expectations: read from the rows that the jobs write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from iceberg.catalog import QUALITY
from iceberg.commits import commit_beside_others
from iceberg.filters import between, instant
from schemas import EVENT_TIME, HeadwaterError, Repository
from schemas.expectations import of_view

_MEMORY = "256MB"
_EACH = """
SELECT source, expectation, count(*) AS windows,
  sum(events)::BIGINT AS events, sum(broken)::BIGINT AS broken,
  epoch_ms(max(until)) AS newest_end,
  max_by(events, until) AS newest_events, max_by(broken, until) AS newest_broken
FROM windows GROUP BY ALL ORDER BY source, expectation
"""


class NothingChecked(HeadwaterError):
    """There is no such table; the text says what to do."""

    exit_code = 1


@dataclass(frozen=True)
class Kept:
    """One expectation over some windows; `newest` is the one that ended last."""

    source: str
    expectation: str
    windows: int
    events: int
    broken: int
    newest_end: str
    newest_events: int
    newest_broken: int


def kept(
    catalog: Catalog, repository: Repository, start: int | None, end: int | None
) -> list[Kept]:
    """Each declared expectation over the windows that begin from `start` up to `end`, by name.

    The table has the windows of those that were declared once, too. Milliseconds since 1970 UTC,
    None is open. NothingChecked if there is no such table.
    """
    try:
        table = catalog.load_table(f"{QUALITY}.{repository.name}")
    except NoSuchTableError:
        raise NothingChecked(
            f"there is no table {QUALITY}.{repository.name}: what declares `checked` has its"
            " expectations summed up; `headwater apply` makes the table"
        ) from None
    # These take DuckDB with them, and who forgets windows needs it for nothing.
    from iceberg.offline import spilling_database
    from iceberg.reading import batches

    columns = ("source", "expectation", "until", "events", "broken")
    windows = between(table.scan(selected_fields=columns), start, end)
    with spilling_database(_MEMORY) as database:
        database.register("windows", batches(windows))
        found = database.sql(_EACH).to_arrow_table().to_pylist()
        database.unregister("windows")
    known = set(_declared(repository))
    return [
        Kept(**row | {"newest_end": instant(row["newest_end"])})
        for row in found
        if (row["source"], row["expectation"]) in known
    ]


def _declared(repository: Repository) -> Iterator[tuple[str, str]]:
    """The source and the name of each expectation that is summed up."""
    for stream in repository.streams:
        if stream.checked:
            yield from ((stream.name, one.name) for one in stream.expectations)
    for view in repository.views:
        if view.checked:
            yield from ((of_view(view.name), one.name) for one in view.expectations)


def forget(catalog: Catalog, repository: str, sources: Iterable[str], since: int) -> None:
    """Delete the windows of those sources that begin at `since` or later: they come again.

    Milliseconds since 1970 UTC. TableBusy if the table changes again and again.
    """
    names = ", ".join(f"'{source}'" for source in sources)
    windows = f"source in ({names}) and {EVENT_TIME} >= '{instant(since)}'"
    name = f"{QUALITY}.{repository}"
    commit_beside_others(name, lambda: catalog.load_table(name).delete(windows))
