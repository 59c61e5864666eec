"""What became of expectations: read from the rows that the archive's job writes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from iceberg.catalog import QUALITY
from schemas import EVENT_TIME, HeadwaterError


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


def kept(catalog: Catalog, repository: str, start: int | None, end: int | None) -> list[Kept]:
    """Each expectation over the windows that begin from `start` up to `end`, by name.

    Milliseconds since 1970 UTC, None is open. NothingChecked if no stream declares `checked`.
    """
    try:
        table = catalog.load_table(f"{QUALITY}.{repository}")
    except NoSuchTableError:
        raise NothingChecked(
            f"there is no table {QUALITY}.{repository}: a stream that declares `checked` has its"
            " expectations summed up; `headwater apply` makes the table"
        ) from None
    scan = table.scan()
    if start is not None:
        scan = scan.filter(f"{EVENT_TIME} >= '{_iso(start)}'")
    if end is not None:
        scan = scan.filter(f"{EVENT_TIME} < '{_iso(end)}'")
    rows = scan.to_arrow().sort_by([("until", "ascending")]).to_pylist()
    by_name: dict[tuple[str, str], list[dict[str, object]]] = {}
    for row in rows:
        by_name.setdefault((row["source"], row["expectation"]), []).append(row)
    return [
        Kept(
            source=source,
            expectation=expectation,
            windows=len(its),
            events=sum(_number(row["events"]) for row in its),
            broken=sum(_number(row["broken"]) for row in its),
            newest_end=_text(its[-1]["until"]),
            newest_events=_number(its[-1]["events"]),
            newest_broken=_number(its[-1]["broken"]),
        )
        for (source, expectation), its in sorted(by_name.items())
    ]


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _text(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
