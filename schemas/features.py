"""What is computed: aggregations over windows, facts of a table, views and services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import TypeVar

from schemas.conditions import Condition
from schemas.errors import DeclarationError, SettingsError
from schemas.expectations import Expectation, WindowExpectation, check_expectations, of_view
from schemas.expressions import OnDemandView
from schemas.joins import JoinedStream, Source, parts
from schemas.served import served_stream
from schemas.sources import (
    ARCHIVE,
    CHECKED,
    EVENT_DAY,
    EVENT_TIME,
    LOG,
    OF_WINDOWS,
    CdcTable,
    Entity,
    EventStream,
)
from schemas.topics import captured_topic, dead_topic, late_topic
from schemas.types import (
    Column,
    Duration,
    Type,
    check_apart,
    check_column,
    check_free,
    check_name,
    check_topic,
    check_tuple,
    check_type,
    check_unique,
)

_Value = TypeVar("_Value")


class Op(Enum):
    """How an aggregation reduces the values of its column that are not null."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    STDDEV = "stddev"
    LAST = "last"
    VARIANCE = "variance"
    FIRST = "first"
    SHARE = "share"
    DISTINCT = "distinct"
    PERCENTILE = "percentile"
    LAST_N = "last_n"

    @property
    def is_estimate(self) -> bool:
        """True where the value may differ from the exact one, within a stated bound."""
        return self in (Op.DISTINCT, Op.PERCENTILE)


_NUMERIC_ONLY = (Op.SUM, Op.MEAN, Op.STDDEV, Op.VARIANCE, Op.PERCENTILE)
_ORDERED_ONLY = (Op.MIN, Op.MAX)
_FRACTIONS = (Op.MEAN, Op.STDDEV, Op.VARIANCE, Op.PERCENTILE)


@dataclass(frozen=True)
class Window:
    """The last `size` of event time; its tail moves by `tile`.

    At time t it covers (floor(t - size, tile), t]. `tile` defaults to a minute up to one hour,
    five minutes up to twelve hours, an hour up to twelve days and a day beyond.
    """

    size: Duration
    tile: Duration | None = None

    def __post_init__(self) -> None:
        check_type("window.size", Duration, self.size)
        check_type("window.tile", (Duration, NoneType), self.tile)
        if self.size.seconds % self.resolution.seconds:
            raise DeclarationError(
                f"window.{self.size}.size",
                f"must be a multiple of its tile {self.resolution}",
                str(self.size),
            )

    @property
    def resolution(self) -> Duration:
        """The tile in force, declared or derived."""
        if self.tile is not None:
            return self.tile
        for limit, tile in ((3_600, 60), (43_200, 300), (1_036_800, 3_600)):
            if self.size.seconds <= limit:
                return Duration(min(tile, self.size.seconds))
        return Duration(86_400)


@dataclass(frozen=True)
class Aggregation:
    """One reduction of one column, or of the rows for which a condition holds.

    `column` is None only for a count of rows and a share of them; `condition` is the share's,
    `parameter` the q of a percentile or the n of last_n; only rows for which `where` holds count.
    """

    op: Op
    column: str | None = None
    condition: Condition | None = None
    parameter: float | None = None
    where: Condition | None = None

    def __post_init__(self) -> None:
        path = f"aggregation.{self.op.value}"
        check_type(f"{path}.column", (str, NoneType), self.column)
        check_type(f"{path}.condition", (Condition, NoneType), self.condition)
        check_type(f"{path}.where", (Condition, NoneType), self.where)
        if self.column is None and self.op not in (Op.COUNT, Op.SHARE):
            raise DeclarationError(f"{path}.column", "needs a column", None)
        if (self.condition is not None) != (self.op is Op.SHARE):
            raise DeclarationError(
                f"{path}.condition", "only share has one, and it must", self.condition
            )
        q = self.parameter
        if self.op is Op.PERCENTILE:
            if q is None or not 0 < q <= 1 or Decimal(str(q)) % Decimal("1e-6"):
                raise DeclarationError(
                    f"{path}.q", "must be above 0, at most 1, of at most 6 decimals", q
                )
        elif self.op is Op.LAST_N:
            if not isinstance(q, int) or not 0 < q <= 1000:
                raise DeclarationError(f"{path}.n", "must be a whole number of 1 to 1000", q)
        elif q is not None:
            raise DeclarationError(f"{path}.parameter", "takes none", q)

    @property
    def label(self) -> str:
        """The first part of a feature's name: `dep_delay_mean`, `dep_delay_p95`, or `count`.

        A condition adds its label: `dep_delay_mean_where_carrier_is_aa`.
        """
        op = self.op.value
        if self.op is Op.PERCENTILE:
            percent = (Decimal(str(self.parameter)) * 100).normalize()
            op = f"p{percent:f}".replace(".", "_")
        elif self.op is Op.LAST_N:
            op = f"last_{self.parameter}"
        of = self.condition.label if self.condition is not None else self.column
        label = f"{of}_{op}" if of else op
        return label if self.where is None else f"{label}_where_{self.where.label}"

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The share's condition and the filter, as far as there are any."""
        return tuple(c for c in (self.condition, self.where) if c is not None)

    def result_type(self, path: str, columns: Iterable[Column]) -> Type:
        """The type of the reduced value; DeclarationError if a column does not suit it."""
        for condition in self.conditions:
            condition.check(f"{path}.where" if condition is self.where else path, columns)
        if self.column is None:
            return Type.INT64 if self.op is Op.COUNT else Type.FLOAT64
        column = check_column(f"{path}.column", columns, self.column)
        suited = [
            c.name
            for c in columns
            if c.type.is_numeric or (c.type is Type.TIMESTAMP and self.op in _ORDERED_ONLY)
        ]
        if self.op in (*_NUMERIC_ONLY, *_ORDERED_ONLY) and column.name not in suited:
            raise DeclarationError(
                f"{path}.column",
                f"{self.op.value} needs a numeric column, not {column.type.value}",
                self.column,
                suited,
            )
        if self.op in (Op.COUNT, Op.DISTINCT):
            return Type.INT64
        if self.op is Op.LAST_N:
            return Type.STRING
        return Type.FLOAT64 if self.op in _FRACTIONS else column.type


def count(column: str | None = None, where: Condition | None = None) -> Aggregation:
    """Rows, or rows whose `column` is not null. 0 for an empty window."""
    return Aggregation(Op.COUNT, column, where=where)


def total(column: str, where: Condition | None = None) -> Aggregation:
    """Sum; null for an empty window."""
    return Aggregation(Op.SUM, column, where=where)


def mean(column: str, where: Condition | None = None) -> Aggregation:
    """Arithmetic mean; null for an empty window."""
    return Aggregation(Op.MEAN, column, where=where)


def smallest(column: str, where: Condition | None = None) -> Aggregation:
    """Minimum; null for an empty window."""
    return Aggregation(Op.MIN, column, where=where)


def largest(column: str, where: Condition | None = None) -> Aggregation:
    """Maximum; null for an empty window."""
    return Aggregation(Op.MAX, column, where=where)


def stddev(column: str, where: Condition | None = None) -> Aggregation:
    """Population standard deviation; null for an empty window."""
    return Aggregation(Op.STDDEV, column, where=where)


def last(column: str, where: Condition | None = None) -> Aggregation:
    """The newest value that is not null; null if there is none."""
    return Aggregation(Op.LAST, column, where=where)


def first(column: str, where: Condition | None = None) -> Aggregation:
    """The oldest value that is not null; null if there is none."""
    return Aggregation(Op.FIRST, column, where=where)


def variance(column: str, where: Condition | None = None) -> Aggregation:
    """Population variance; null for an empty window."""
    return Aggregation(Op.VARIANCE, column, where=where)


def share(condition: Condition, where: Condition | None = None) -> Aggregation:
    """The part of the rows for which `condition` holds, 0 to 1; null for an empty window.

    A row for which the condition is neither true nor false, for a column of it is null, counts
    among the rows, not among those for which it holds.
    """
    return Aggregation(Op.SHARE, condition=condition, where=where)


def distinct(column: str, where: Condition | None = None) -> Aggregation:
    """How many different values, without null. 0 for an empty window.

    Exact up to 1024 (but for one in a hundred cases, off by one), beyond with a standard error
    of 1.6 %. A replay gives the same estimate.
    """
    return Aggregation(Op.DISTINCT, column, where=where)


def percentile(column: str, q: float, where: Condition | None = None) -> Aggregation:
    """The value at rank ceil(q * n) of n in ascending order; null for an empty window.

    Up to 1/128 closer to zero than that value; whole numbers up to 256 are exact. A replay gives
    the same estimate.
    """
    return Aggregation(Op.PERCENTILE, column, parameter=q, where=where)


def last_n(column: str, n: int, where: Condition | None = None) -> Aggregation:
    """The newest `n` values that are not null, oldest first, as the text of a JSON array.

    Null if there is none. JSON, because the formats a feature is written to do not share an
    array of every type.
    """
    return Aggregation(Op.LAST_N, column, parameter=n, where=where)


@dataclass(frozen=True)
class Feature:
    """A named aggregation; `window` None means over the entity's lifetime."""

    name: str
    aggregation: Aggregation
    window: Window | None = None

    def __post_init__(self) -> None:
        check_name("feature", self.name)
        check_type(f"feature.{self.name}.aggregation", Aggregation, self.aggregation)
        check_type(f"feature.{self.name}.window", (Window, NoneType), self.window)


def over(windows: Iterable[Duration | Window], *aggregations: Aggregation) -> tuple[Feature, ...]:
    """Every aggregation over every window, named `<column>_<op>_<window>`."""
    if isinstance(windows, Duration | Window):
        raise DeclarationError("over.windows", "must be a list, also of a single one", windows)
    check_tuple("over.aggregations", Aggregation, aggregations)
    sized = [w if isinstance(w, Window) else Window(w) for w in windows]
    return tuple(Feature(f"{a.label}_{w.size}", a, w) for a in aggregations for w in sized)


def latest(*columns: str) -> tuple[Feature, ...]:
    """The newest value of each column, each under the column's own name."""
    return tuple(Feature(column, last(column)) for column in columns)


_TAKEN = (EVENT_TIME, "available_at", "late_row", "deleted")
"""Columns that stand beside the keys and features, in a job or in a table."""

_RESULT = "result"
"""The column that a job has a view's values in."""

_MOST_READ = 64
"""A row that waits keeps in one word which of them are null."""


@dataclass(frozen=True)
class FeatureView:
    """Features of one entity (or of several together) computed from one source.

    `ttl` is how long a value may be served before it counts as stale. Over a CdcTable only
    `latest` features make sense, and the entity's key must be the primary key.
    `expectations` are of its keys and features, summed up by windows of `checked` of event time, a
    row each in Iceberg. A feature's value that breaks one which rejects is null, online and
    offline. Of a captured table they are declared beside its columns.
    """

    name: str
    source: Source
    entities: tuple[Entity, ...]
    features: tuple[Feature, ...]
    ttl: Duration
    description: str = ""
    expectations: tuple[Expectation | WindowExpectation, ...] = ()
    checked: Duration | None = None

    def __post_init__(self) -> None:
        check_name("view", self.name)
        path = f"view.{self.name}"
        check_type(f"{path}.source", (EventStream, CdcTable, JoinedStream), self.source)
        check_tuple(f"{path}.entities", Entity, self.entities)
        check_tuple(f"{path}.features", Feature, self.features)
        check_tuple(f"{path}.expectations", (Expectation, WindowExpectation), self.expectations)
        check_type(f"{path}.ttl", Duration, self.ttl)
        check_type(f"{path}.checked", (Duration, NoneType), self.checked)
        if not self.entities:
            raise DeclarationError(f"{path}.entities", "needs at least one entity", ())
        if not self.features:
            raise DeclarationError(f"{path}.features", "needs at least one feature", ())
        keys = [entity.key for entity in self.entities]
        names = [feature.name for feature in self.features]
        check_unique(f"{path}.features", (*_TAKEN, *keys, *names))
        check_free(f"{path}.features", (*keys, *names), (EVENT_DAY,))
        if self.checked:
            check_free(f"{path}.features", (*keys, *names), OF_WINDOWS)
        for entity in self.entities:
            column = check_column(f"{path}.entities", self.source.columns, entity.key)
            if column.type is not entity.type:
                raise DeclarationError(
                    f"{path}.entities.{entity.name}",
                    f"the source has {column.type.value} {entity.key}",
                    entity.type.value,
                    (column.type.value,),
                )
        for feature in self.features:
            feature.aggregation.result_type(f"{path}.features.{feature.name}", self.source.columns)
        if isinstance(self.source, CdcTable):
            self._check_facts(path, self.source, keys)
        else:
            check_free(f"{path}.entities", keys, (_RESULT,))
            self._check_read(path)
        if self.expectations or self.checked:
            self._check_expectations(path)

    def _check_expectations(self, path: str) -> None:
        if isinstance(self.source, CdcTable):
            raise DeclarationError(
                f"{path}.expectations",
                f"its values are those of the table {self.source.name}: expect it of that",
                [one.name for one in self.expectations],
            )
        if not self.expectations or self.checked is None:
            raise DeclarationError(
                f"{path}.checked",
                "expectations of a view and the length of their windows belong together",
                self.checked and str(self.checked),
            )
        keys = tuple(Column(entity.key, entity.type) for entity in self.entities)
        check_expectations(f"{path}.expectations", self.expectations, (*keys, *self.schema))
        for name in self.rejecting:
            if name in self.keys:
                raise DeclarationError(
                    f"{path}.expectations.{self.rejecting[name].name}",
                    "a key cannot be rejected here: reject its events in their stream",
                    name,
                    [feature.name for feature in self.features],
                )

    def _check_read(self, path: str) -> None:
        of_all = [feature.aggregation for feature in self.features]
        columns = {how.column for how in of_all} - {None}
        conditions = {c.comparisons for how in of_all for c in how.conditions}
        if (count := len(columns) + len(conditions)) > _MOST_READ:
            raise DeclarationError(
                f"{path}.features",
                f"read at most {_MOST_READ} different columns and conditions: make two views of it",
                count,
            )

    def _check_facts(self, path: str, table: CdcTable, keys: list[str]) -> None:
        if keys != [table.primary_key]:
            raise DeclarationError(
                f"{path}.entities",
                "must be keyed by the table's primary key",
                keys,
                (table.primary_key,),
            )
        for feature in self.features:
            if feature.window or feature.aggregation != last(feature.aggregation.column or ""):
                raise DeclarationError(
                    f"{path}.features.{feature.name}",
                    "a table has only latest() features",
                    feature.aggregation.label,
                    ("latest",),
                )

    @property
    def keys(self) -> tuple[str, ...]:
        """The key columns, in the order of `entities`."""
        return tuple(entity.key for entity in self.entities)

    @property
    def optional_keys(self) -> tuple[str, ...]:
        """The keys that an event may come without: it then says nothing of any entity."""
        required = {column.name for column in self.source.columns if column.required}
        return tuple(key for key in self.keys if key not in required)

    @property
    def stream(self) -> EventStream | None:
        """The stream whose events are aggregated; None over a table."""
        if isinstance(self.source, JoinedStream):
            return self.source.stream
        return self.source if isinstance(self.source, EventStream) else None

    @property
    def schema(self) -> tuple[Column, ...]:
        """The features as nullable columns, in declaration order."""
        columns = self.source.columns
        return tuple(
            Column(f.name, f.aggregation.result_type(f.name, columns), required=False)
            for f in self.features
        )

    @property
    def rejecting(self) -> dict[str, Expectation]:
        """What a value must keep to go out, by column: there is one of a type at most."""
        return {
            one.column: one
            for one in self.expectations
            if isinstance(one, Expectation) and one.reject
        }

    def let_out(self, values: Mapping[str, _Value]) -> dict[str, _Value | None]:
        """The values with null in the place of each that is rejected."""
        rejecting = self.rejecting
        return {
            name: value if name not in rejecting or rejecting[name].holds(value) else None
            for name, value in values.items()
        }

    def only(self, *names: str) -> FeatureView:
        """The same view with just these features; DeclarationError for an unknown one."""
        by_name = {feature.name: feature for feature in self.features}
        for name in names:
            if name not in by_name:
                raise DeclarationError(
                    f"view.{self.name}.features", "unknown feature", name, by_name
                )
        known = {*self.keys, *names}
        expected = tuple(one for one in self.expectations if known.issuperset(one.columns))
        return replace(
            self,
            features=tuple(by_name[name] for name in names),
            expectations=expected,
            checked=self.checked if expected else None,
        )


@dataclass(frozen=True)
class FeatureService:
    """The features one model reads, together."""

    name: str
    views: tuple[FeatureView, ...]
    description: str = ""
    on_demand: tuple[OnDemandView, ...] = ()

    def __post_init__(self) -> None:
        check_name("service", self.name)
        check_tuple(f"service.{self.name}.views", FeatureView, self.views)
        check_tuple(f"service.{self.name}.on_demand", OnDemandView, self.on_demand)
        names = [view.name for view in self.views] + [view.name for view in self.on_demand]
        check_unique(f"service.{self.name}.views", names)


@dataclass(frozen=True)
class Repository:
    """Everything one team declares; checked as a whole."""

    name: str
    views: tuple[FeatureView, ...]
    services: tuple[FeatureService, ...]
    on_demand: tuple[OnDemandView, ...] = ()

    def __post_init__(self) -> None:
        check_name("repository", self.name)
        check_tuple("repository.views", FeatureView, self.views)
        check_tuple("repository.services", FeatureService, self.services)
        check_tuple("repository.on_demand", OnDemandView, self.on_demand)
        names = [view.name for view in self.views] + [view.name for view in self.on_demand]
        check_unique("repository.views", names)
        for computed in self.on_demand:
            computed.schema(self.stored_types)
        for service in self.services:
            for wanted in service.on_demand:
                if wanted not in self.on_demand:
                    raise DeclarationError(
                        f"service.{service.name}.on_demand",
                        "not in the repository",
                        wanted.name,
                        [known.name for known in self.on_demand],
                    )
        check_unique("repository.services", (service.name for service in self.services))
        everything = dict.fromkeys((*self.sources, *self.read))
        names = [source.name for source in everything]
        check_unique("repository.sources", (*names, served_stream(self.name).name))
        self._check_topics()
        self._check_jobs()
        # What jobs are called after that are of no stream.
        own = {"archive", *("tables" for view in self.views if view.stream is None)}
        for stream in {view.stream for view in self.views if view.stream is not None}:
            if stream.name in own:
                raise DeclarationError(
                    f"stream.{stream.name}.name", "a job of another kind is called so", stream.name
                )
        check_unique("repository.entities", (entity.name for entity in self.entities))
        declared = {view.name: view for view in self.views}
        for service in self.services:
            for view in service.views:
                if view.name not in declared:
                    raise DeclarationError(
                        f"service.{service.name}.views",
                        "not in the repository",
                        view.name,
                        declared,
                    )
                # Features may be narrowed by `only`, never redefined under the same name.
                if declared[view.name].only(*(f.name for f in view.features)) != view:
                    raise DeclarationError(
                        f"service.{service.name}.views",
                        "differs from the view declared under the same name",
                        view.name,
                    )

    def _check_topics(self) -> None:
        # Of two declarations of one captured table each reads its topic.
        captured = {captured_topic(table, self.name): table.name for table in self.tables}
        for topic, name in captured.items():
            check_topic(f"table.{name}.table", topic)
        read = [*((one.topic, one.name) for one in self.archived), *captured.items()]
        made = [(name, [topic, dead_topic(topic)]) for topic, name in read]
        made += [(stream.name, [late_topic(stream)]) for stream in self.streams]
        check_apart("repository.topics", "there is a topic", made)

    def _check_jobs(self) -> None:
        """No job makes two tables, or two operators, of one name."""
        path, table = "repository.sources", "a job has a table"
        for stream in self.streams:
            views = [view for view in self.views if view.stream == stream]
            sources = dict.fromkeys(view.source for view in views)
            read = dict.fromkeys(part for source in sources for part in parts(source))
            joined = [source for source in sources if isinstance(source, JoinedStream)]
            joins = [(one.name, [one.versions(join) for join in one.joins]) for one in joined]
            check_apart(path, table, ((one.name, _replayed(one)) for one in read))
            check_apart(path, table, [*((one.name, one.steps) for one in joined), *joins])
            operators = [*((view.name, [view.name]) for view in views), *joins]
            check_apart("repository.views", "a job has an operator", operators)
        # Of captured tables the archive's job has those that no view is of.
        others = (source for source in self.tables if source not in self.sources)
        kept: tuple[EventStream | CdcTable, ...] = (*self.archived, *others)
        check_apart(path, table, ((one.name, _summed_up(one)) for one in kept))

    def named(self, names: Iterable[str]) -> list[FeatureView]:
        """The views of those names, in that order; SettingsError for an unknown one."""
        known = {view.name: view for view in self.views}
        for name in (wanted := list(names)):
            if name not in known:
                raise SettingsError(f"no view {name!r}; choices: {', '.join(known)}")
        return [known[name] for name in wanted]

    @property
    def stored_types(self) -> dict[str, Type]:
        """The type of each stored feature, by `view:feature`."""
        return {f"{v.name}:{column.name}": column.type for v in self.views for column in v.schema}

    @property
    def sources(self) -> tuple[Source, ...]:
        """The different sources of all views, in order of first use."""
        return tuple(dict.fromkeys(view.source for view in self.views))

    @property
    def read(self) -> tuple[EventStream | CdcTable, ...]:
        """The sources, joined ones taken apart."""
        return tuple(dict.fromkeys(part for source in self.sources for part in parts(source)))

    @property
    def streams(self) -> tuple[EventStream, ...]:
        """The event streams that are read."""
        return tuple(source for source in self.read if isinstance(source, EventStream))

    @property
    def archived(self) -> tuple[EventStream, ...]:
        """The streams whose events are kept in Iceberg: those that are read, and what is served."""
        return (*self.streams, served_stream(self.name)) if self.streams else ()

    @property
    def checked(self) -> tuple[str, ...]:
        """Whose expectations are summed up: streams by name, then views as `view.NAME`."""
        streams = (stream.name for stream in self.streams if stream.checked)
        views = (of_view(view.name) for view in self.views if view.checked)
        return (*streams, *views)

    @property
    def tables(self) -> tuple[CdcTable, ...]:
        """The captured tables that are read."""
        return tuple(source for source in self.read if isinstance(source, CdcTable))

    @property
    def entities(self) -> tuple[Entity, ...]:
        """The different entities of all views, in order of first use."""
        return tuple(dict.fromkeys(e for view in self.views for e in view.entities))


def _replayed(source: EventStream | CdcTable) -> list[str]:
    """The tables of a source in the job of a replay."""
    beside = (ARCHIVE, LOG) if isinstance(source, EventStream) else ()
    return [source.name, *(f"{source.name}_{part}" for part in beside)]


def _summed_up(source: EventStream | CdcTable) -> list[str]:
    """The tables of a source in the job of the archive."""
    is_checked = isinstance(source, EventStream) and source.checked is not None
    return [source.name, *([f"{source.name}_{CHECKED}"] if is_checked else [])]
