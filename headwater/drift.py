"""What the features of a window are like, and how far from those of the time before it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from headwater.distribution import Distribution, distribution
from headwater.stability import Stability, stability
from iceberg.bounds import bounds
from iceberg.catalog import NAMESPACE
from iceberg.filters import between
from iceberg.offline import rows
from iceberg.tables import AVAILABLE_AT
from schemas import EVENT_TIME, Feature, FeatureView, HeadwaterError, Op, Type, Window

_MEMORY = "512MB"


class DriftError(HeadwaterError):
    """Nothing can be compared; the text says why and what to do."""

    exit_code = 1


@dataclass(frozen=True)
class ViewDrift:
    """The features of a view, by name."""

    view: str
    rows: int
    """In the window; of a sample, where there are more."""

    reference_rows: int
    distributions: dict[str, Distribution]
    """Of the window; none if it has no rows."""

    features: dict[str, Stability]
    """The window compared; none where one of both has no rows."""

    def numbers(self) -> Iterable[dict[str, object]]:
        """All that is known of each feature, for whoever draws or keeps it.

        One that only grows has no index there, since whoever has one may be told that it moved.
        """
        for feature, one in self.distributions.items():
            compared = self.features.get(feature)
            yield {
                "view": self.view,
                "feature": feature,
                "rows": self.rows,
                **asdict(one),
                **(
                    {}
                    if compared is None or compared.grows
                    else {"psi": compared.psi, "chance": compared.chance}
                ),
            }


def compare(
    views: Iterable[FeatureView], catalog: Catalog, start: int, middle: int, end: int, sample: int
) -> list[ViewDrift]:
    """Rows of event times from `middle` up to `end` against those from `start` up to `middle`.

    Milliseconds since 1970 UTC. Of each window about `sample` rows at the most, always the same. A
    feature that is a time is compared by its age. DriftError if no view has rows in both windows.
    """
    found = [_compared(view, _table(view, catalog), (start, middle, end), sample) for view in views]
    if not any(one.features for one in found):
        empty = ", ".join(one.view for one in found)
        raise DriftError(
            f"nothing to compare: {empty}: no rows from {_time(middle)} up to {_time(end)}, or none"
            f" from {_time(start)} up to then; --last, --against and --to say which"
        )
    return found


def newest(
    view: FeatureView, catalog: Catalog, now: int, last: int, against: int, sample: int
) -> ViewDrift:
    """The `last` milliseconds up to the view's newest event, against those before them.

    What comes after `now` is left out. DriftError if the view has no table.
    """
    table = _table(view, catalog)
    end = min(now, _end(table, now - last))
    middle = end - last
    return _compared(view, table, (middle - against, middle, end), sample)


def _end(table: Table, since: int) -> int:
    """The millisecond after the newest event."""
    for scan in (between(table.scan(), since, None), table.scan()):
        times = [bounds(table.schema(), task.file, EVENT_TIME)[1] for task in scan.plan_files()]
        if times:
            return max(times) // 1000 + 1
    return since


def _table(view: FeatureView, catalog: Catalog) -> Table:
    try:
        return catalog.load_table(f"{NAMESPACE}.{view.name}")
    except NoSuchTableError:
        raise DriftError(
            f"there is no table {NAMESPACE}.{view.name}: run `headwater apply`"
        ) from None


def _compared(
    view: FeatureView, table: Table, times: tuple[int, int, int], sample: int
) -> ViewDrift:
    start, middle, end = times
    reference, present = (
        _rows(view, table, *span, sample) for span in ((start, middle), (middle, end))
    )
    names = [column.name for column in view.schema]
    distributions, features = {}, {}
    if present.num_rows:
        distributions = {name: distribution(present[name]) for name in names}
        if reference.num_rows:
            drawn = [
                _Drawn(found.num_rows, _entities(view, found), until - since)
                for found, since, until in ((reference, start, middle), (present, middle, end))
            ]
            declared = {feature.name: feature for feature in view.features}
            for name in names:
                known = declared.get(name)
                window = None if known is None else known.window
                before, now = (one.independent(window) for one in drawn)
                found = stability(reference[name], present[name], (before, now))
                features[name] = replace(found, grows=known is not None and _grows(known))
    return ViewDrift(view.name, present.num_rows, reference.num_rows, distributions, features)


@dataclass(frozen=True)
class _Drawn:
    """How many rows of a view were read, of how many entities, over how many milliseconds."""

    rows: int
    entities: int
    span: int

    def independent(self, window: Window | None) -> float:
        """Rows that tell something of their own.

        Values over a window that follow each other are of mostly the same events: there is one for
        each entity and each length of the window. Without one, a value lasts until it changes, and
        is there as often as its entity is seen: there is one for each entity.
        """
        if window is None:
            return min(self.rows, self.entities)
        lengths = max(1.0, self.span / (window.size.seconds * 1000))
        return min(self.rows, self.entities * lengths)


def _grows(feature: Feature) -> bool:
    """Whether its values are other ones every day, and nothing has happened."""
    return feature.window is None and feature.aggregation.op in (Op.COUNT, Op.SUM, Op.DISTINCT)


def _entities(view: FeatureView, found: pa.Table) -> int:
    return int(found.group_by(list(view.keys)).aggregate([]).num_rows)


def _rows(view: FeatureView, table: Table, start: int, end: int, sample: int) -> pa.Table:
    """The view's features, a time as its age in milliseconds."""
    files = between(table.scan(), start, end).plan_files()
    there = math.ceil(sum(_of_span(table, task.file, start, end) for task in files))
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


def _of_span(table: Table, file: DataFile, start: int, end: int) -> float:
    """About so many of a file's rows are of a span, as if they were spread over its own evenly."""
    first, last = bounds(table.schema(), file, EVENT_TIME)
    there = min(last + 1, end * 1000) - max(first, start * 1000)
    return file.record_count * max(0, there) / (last + 1 - first)


def _moment(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def _time(milliseconds: int) -> str:
    return f"{_moment(milliseconds):%Y-%m-%dT%H:%MZ}"
