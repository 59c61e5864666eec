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
_PLACE = "__place"


class TrainingError(HeadwaterError, ValueError):
    """What was asked for is not there; the text names it."""


def training_set(
    store: FeatureStore, repository: Repository, features: Sequence[str], rows: Any
) -> pa.Table:
    """`rows` with `features`, stored and on-demand ones, each as `view__feature`.

    `rows` is a DataFrame with the entities' keys, the inputs of the on-demand views, and
    `event_timestamp`: stored features are as of it, and `since` counts up to it.
    """
    views = {view.name: view for view in repository.on_demand}
    known = repository.stored_types
    for name in features:
        place, _, feature = name.partition(":")
        there = place in views and feature in [f.name for f in views[place].features]
        if name not in known and not there:
            raise TrainingError(f"unknown feature {name!r}")
    places = dict.fromkeys(name.partition(":")[0] for name in features)
    wanted = [views[place] for place in places if place in views]
    needed = [name for name in features if name in known]
    needed += [name for view in wanted for name in view.reads]
    stored = list(dict.fromkeys(needed))
    table = pa.Table.from_pandas(rows, preserve_index=False)
    if stored:
        table = store.get_historical_features(rows, stored, full_feature_names=True).to_arrow()
    result = table.select(list(rows.columns))
    for view in wanted:
        for column in view.inputs:
            if column.name not in table.column_names:
                raise TrainingError(f"no column {column.name!r}, an input of {view.name}")
        made = compute(table, view, known)
        for name in made.column_names:
            table = table.append_column(name, made.column(name))
    for name in features:
        column_name = name.replace(":", "__")
        result = result.append_column(column_name, table.column(column_name))
    return result


def compute(table: pa.Table, view: OnDemandView, known: Mapping[str, Type]) -> pa.Table:
    """The view's features of each row of `table`, which has what they are computed from.

    Stored features are columns `view__feature`, timestamps among them milliseconds; inputs have
    their own names; the moment is in `event_timestamp`.
    """
    given = {column.name: column.type for column in view.inputs}
    now = f"epoch_ms(CAST({quoted(EVENT_TIMESTAMP)} AS TIMESTAMPTZ))"
    texts = [
        sql(
            feature.expression,
            known,
            given,
            lambda name: quoted(name.replace(":", "__")),
            quoted,
            now,
        )
        + f" AS {quoted(f'{view.name}__{feature.name}')}"
        for feature in view.features
    ]
    numbered = table.append_column(_PLACE, pa.array(range(table.num_rows), pa.int64()))
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("rows", numbered)
        made = database.sql(f"SELECT {', '.join(texts)} FROM rows ORDER BY {quoted(_PLACE)}")
        return made.to_arrow_table()
