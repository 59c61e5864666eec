"""Compares the features of a window with those of the time before it, view by view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from headwater.stability import Stability, stability
from iceberg.catalog import NAMESPACE
from iceberg.filters import between
from iceberg.offline import rows
from iceberg.tables import AVAILABLE_AT
from schemas import EVENT_TIME, FeatureView, HeadwaterError, Type

_MEMORY = "512MB"


class DriftError(HeadwaterError):
    """Nothing can be compared; the text says why and what to do."""

    exit_code = 1


@dataclass(frozen=True)
class ViewDrift:
    """The features of a view compared; none where a window has no rows."""

    view: str
    rows: int
    """In the window; of a sample, where there are more."""

    reference_rows: int
    features: dict[str, Stability]


def compare(
    views: Iterable[FeatureView], catalog: Catalog, start: int, middle: int, end: int, sample: int
) -> list[ViewDrift]:
    """Rows of event times from `middle` up to `end` against those from `start` up to `middle`.

    Milliseconds since 1970 UTC. Of each window about `sample` rows at the most, always the same. A
    feature that is a time is compared by its age. DriftError if no view has rows in both windows.
    """
    found = [_view(view, catalog, (start, middle, end), sample) for view in views]
    if not any(one.features for one in found):
        empty = ", ".join(one.view for one in found)
        raise DriftError(
            f"nothing to compare: {empty}: no rows from {_time(middle)} up to {_time(end)}, or none"
            f" from {_time(start)} up to then; --last, --against and --to say which"
        )
    return found


def _view(
    view: FeatureView, catalog: Catalog, times: tuple[int, int, int], sample: int
) -> ViewDrift:
    try:
        table = catalog.load_table(f"{NAMESPACE}.{view.name}")
    except NoSuchTableError:
        raise DriftError(
            f"there is no table {NAMESPACE}.{view.name}: run `headwater apply`"
        ) from None
    start, middle, end = times
    reference, present = (
        _rows(view, table, *span, sample) for span in ((start, middle), (middle, end))
    )
    features = {}
    if reference.num_rows and present.num_rows:
        features = {
            column.name: stability(reference[column.name], present[column.name])
            for column in view.schema
        }
    return ViewDrift(view.name, present.num_rows, reference.num_rows, features)


def _rows(view: FeatureView, table: Table, start: int, end: int, sample: int) -> pa.Table:
    """The view's features, a time as its age in milliseconds."""
    files = between(table.scan(), start, end).plan_files()
    there = sum(task.file.record_count for task in files)
    found = rows(
        table,
        view.keys,
        [column.name for column in view.schema],
        EVENT_TIME,
        AVAILABLE_AT,
        _moment(start),
        _moment(end) - timedelta(microseconds=1),
        memory_limit=_MEMORY,
        one_in=max(1, -(-there // sample)),
    )
    at = pc.divide(found[EVENT_TIME].cast(pa.int64()), 1000)
    for column in view.schema:
        if column.type is Type.TIMESTAMP:
            place = found.column_names.index(column.name)
            found = found.set_column(place, column.name, pc.subtract(at, found[column.name]))
    return found


def _moment(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def _time(milliseconds: int) -> str:
    return f"{_moment(milliseconds):%Y-%m-%dT%H:%MZ}"
