"""What became of expectations: read from the rows that the jobs write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa  # type: ignore[import-untyped]
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from iceberg.catalog import QUALITY
from iceberg.commits import commit_beside_others
from iceberg.filters import between, instant
from schemas import EVENT_TIME, HeadwaterError, Repository
from schemas.expectations import of_view

_MEMORY = "256MB"
_EACH = """
WITH dated AS (
  SELECT source, expectation, events, broken, epoch_ms(until) AS ended,
    max(epoch_ms(until)) OVER (PARTITION BY source, expectation) AS newest
  FROM windows)
SELECT source, expectation, count(*) AS windows,
  sum(events)::BIGINT AS events, sum(broken)::BIGINT AS broken,
  max(ended) AS newest_end,
  coalesce(sum(events) FILTER (ended > since), 0)::BIGINT AS newest_events,
  coalesce(sum(broken) FILTER (ended > since), 0)::BIGINT AS newest_broken
FROM (
  SELECT *, coalesce(told, newest - $least - 1) AS since
  FROM dated LEFT JOIN before USING (source, expectation))
GROUP BY ALL ORDER BY source, expectation
"""
_BEFORE = pa.schema({"source": pa.string(), "expectation": pa.string(), "told": pa.int64()})


class NothingChecked(HeadwaterError):
    """There is no such table; the text says what to do."""

    exit_code = 1


@dataclass(frozen=True)
class Newest:
    """Which windows are the newest: by default the one that ended last, of each expectation."""

    told: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By source and expectation: all that ended after it, in milliseconds since 1970 UTC."""

    least: int = 0
    """Of others: all that ended that many milliseconds before the last, or later."""


@dataclass(frozen=True)
class Kept:
    """One expectation over some windows, and over the newest of them."""

    source: str
    expectation: str
    windows: int
    events: int
    broken: int
    newest_end: str
    newest_events: int
    newest_broken: int


def kept(
    catalog: Catalog,
    repository: Repository,
    start: int | None,
    end: int | None,
    newest: Newest = Newest(),
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
        before = [(*name, told) for name, told in newest.told.items()]
        rows = [dict(zip(_BEFORE.names, row, strict=True)) for row in before]
        database.register("before", pa.Table.from_pylist(rows, _BEFORE))
        each = database.sql(_EACH, params={"least": newest.least})
        found = each.to_arrow_table().to_pylist()
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
