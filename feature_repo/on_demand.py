"""Training sets with on-demand features: the request's expressions over what was known then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
from feast.feature_store import FeatureStore

from connectors.computed import sql
from iceberg.offline import quoted
from schemas import HeadwaterError, OnDemandView, Repository, Type

EVENT_TIMESTAMP = "event_timestamp"


class TrainingError(HeadwaterError, ValueError):
    """What was asked for is not there, or does not fit; the text names it."""


def training_set(
    store: FeatureStore, repository: Repository, features: Sequence[str], rows: Any
) -> pa.Table:
    """`rows` with `features`, stored and on-demand ones, each as `view__feature`.

    `rows` is a DataFrame with the entities' keys, the inputs of the on-demand views, and
    `event_timestamp`: stored features are as of it, and `since` counts up to it. All its columns
    come first, as they are there.
    """
    known = repository.stored_types
    _check(repository, features, rows)
    views = {view.name: view for view in repository.on_demand}
    places = dict.fromkeys(name.partition(":")[0] for name in features)
    wanted = [views[place] for place in places if place in views]
    needed = [name for name in features if name in known]
    needed += [name for view in wanted for name in view.reads]
    stored = list(dict.fromkeys(needed))
    table = pa.Table.from_pandas(rows, preserve_index=False)
    if stored:
        table = store.get_historical_features(rows, stored, full_feature_names=True).to_arrow()
    found = {_shown(name): table.column(_shown(name)) for name in stored}
    for view in wanted:
        made = compute(table, view, known)
        found |= zip(made.column_names, made.columns, strict=True)
    # By their places: to Arrow, a column that is named by a number is one.
    result = table.select(list(range(len(rows.columns))))
    for name in features:
        result = result.append_column(_shown(name), found[_shown(name)])
    return result


def compute(table: pa.Table, view: OnDemandView, known: Mapping[str, Type]) -> pa.Table:
    """The view's features of each row of `table`, which has what they are computed from.

    Stored features are columns `view__feature`, timestamps among them milliseconds; inputs have
    their own names, timestamps among them milliseconds or Arrow's; the moment is in
    `event_timestamp`. TrainingError if an input is not there, or is no timestamp where it is to be.
    """
    given = {column.name: column.type for column in view.inputs}
    read = _read(table, view)

    def input_(name: str) -> str:
        column = f"given:{name}"
        return _moment(column) if pa.types.is_timestamp(read[column].type) else quoted(column)

    texts = [
        sql(
            feature.expression,
            known,
            given,
            lambda name: quoted(f"stored:{name}"),
            input_,
            _moment("now"),
        )
        + f" AS {quoted(f'{view.name}__{feature.name}')}"
        for feature in view.features
    ]
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("rows", pa.table(read))
        return database.sql(f"SELECT {', '.join(texts)} FROM rows ORDER BY place").to_arrow_table()


def _check(repository: Repository, features: Sequence[str], rows: Any) -> None:
    """TrainingError for a feature that is not there, or that `rows` have a column of already."""
    known = set(repository.stored_types)
    known |= {f"{view.name}:{one.name}" for view in repository.on_demand for one in view.features}
    for name in features:
        if name not in known:
            raise TrainingError(f"unknown feature {name!r}")
        if _shown(name) in rows.columns:
            raise TrainingError(f"rows: a column {_shown(name)!r}, which is what {name!r} becomes")


def _read(table: pa.Table, view: OnDemandView) -> dict[str, pa.ChunkedArray]:
    """What the view reads, and no more, under names that are different in any case: DuckDB holds
    `Price` to be `price`."""
    read = {"place": pa.chunked_array([pa.array(range(table.num_rows), pa.int64())])}
    for column in view.inputs:
        if column.name not in table.column_names:
            raise TrainingError(f"no column {column.name!r}, an input of {view.name}")
        values = table.column(column.name)
        if column.type is Type.TIMESTAMP and not _is_time(values.type):
            raise TrainingError(
                f"{column.name} is {values.type}, and as an input of {view.name} a timestamp, or"
                " milliseconds since 1970 UTC"
            )
        read[f"given:{column.name}"] = values
    for name in view.reads:
        read[f"stored:{name}"] = table.column(_shown(name))
    if EVENT_TIMESTAMP in table.column_names:
        read["now"] = table.column(EVENT_TIMESTAMP)
    return read


def _is_time(type_: pa.DataType) -> bool:
    kinds = (pa.types.is_timestamp, pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
    return any(kind(type_) for kind in kinds)


def _moment(column: str) -> str:
    """A column of timestamps, of UTC where they have no zone, in milliseconds since 1970 UTC."""
    return f"epoch_ms(CAST({quoted(column)} AS TIMESTAMPTZ))"


def _shown(name: str) -> str:
    return name.replace(":", "__")
