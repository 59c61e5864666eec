"""The jobs of a repository as Flink SQL: pure text, made of nothing but the declarations.

One job a stream, so that each record is read and parsed once for all views over it, and one job
for all captured tables, which change rarely. The statements are those of Flink's own SQL client.
Databases: `sources` is what is read, `dead` where the records go that cannot be, `joined` streams
with columns of other sources, `inputs` the columns a view needs, `rolled` what becomes of each row,
`computed` the feature values, `online` and `headwater.features` where they are written to, `late`
where the rows go that came too late, `checked` what becomes of a view's expectations.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from connectors.ddl import (
    OFFSET,
    PARTITION,
    REASON,
    TRACEPARENT,
    create_table,
    dead_ddl,
    dead_insert,
    identifier,
    late_ddl,
    literal,
    source_ddl,
    sql_type,
    versions_ddl,
)
from flink_jobs.quality import TIMED, breaks, checked_sql, checked_view_sql
from flink_jobs.rolled import LATE, of_result, results
from schemas import (
    EVENT_TIME,
    CdcTable,
    Comparison,
    Condition,
    EventStream,
    Feature,
    FeatureView,
    JoinedStream,
    Op,
    Repository,
    TemporalJoin,
    Type,
    parts,
)

_DATABASES = ("sources", "dead", "inputs", "rolled", "computed", "online", "late")
_TEMPORAL_JOIN = "io.headwater.kernel.joins.TemporalJoin"
_LONGEST_NAME = 256
"""UTF-16 units of a quoted name: Flink parses none that is longer."""

SHARD = "_shard"
"""The column that a view is partitioned by."""
_AVAILABLE_AT = "available_at"
_TRACE = "_trace"
CREATE_ROLLING = (
    "CREATE TEMPORARY SYSTEM FUNCTION rolling AS 'io.headwater.kernel.rolling.Rolling';\n"
)
CREATE_SHARD = "CREATE TEMPORARY SYSTEM FUNCTION shard AS 'io.headwater.kernel.rolling.ShardOf';\n"
CATALOG = {
    "type": "iceberg",
    "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
    "uri": "${catalog_uri}",
    "jdbc.user": "${catalog_user}",
    "jdbc.password": "${catalog_password}",
    "jdbc.schema-version": "V1",
    "warehouse": "${warehouse}",
}
"""The options of the Iceberg catalog in Flink SQL, with placeholders."""


Part = EventStream | CdcTable
Read = Callable[[Part, str, EventStream | None], str]


def read_ddl(source: Part, prefix: str, joined_with: EventStream | None) -> str:
    """CREATE TABLE for a source, or for one that the events of a stream are joined with."""
    if joined_with is None:
        return source_ddl(source, prefix)
    return versions_ddl(source, prefix, joined_with)


@dataclass(frozen=True)
class Job:
    """One Flink job: the sources it reads and the views it computes.

    The first source of a stream's job is the stream, the others are what it is joined with.
    The one without views keeps the records of its streams in the archive.
    """

    name: str
    repository: str
    sources: tuple[EventStream | CdcTable, ...]
    views: tuple[FeatureView, ...]
    apart: tuple[EventStream | CdcTable, ...]
    """Those whose bad records it sends to the dead letters: each source is one job's."""

    @property
    def joined(self) -> tuple[JoinedStream, ...]:
        """The joined streams among the views' sources."""
        sources = dict.fromkeys(view.source for view in self.views)
        return tuple(source for source in sources if isinstance(source, JoinedStream))

    @property
    def late(self) -> EventStream | None:
        """The stream whose late rows it sets apart, if any."""
        first = self.sources[0]
        return first if self.views and isinstance(first, EventStream) else None

    def only(self, names: Iterable[str]) -> Job:
        """The same job for the views of those names, with no more sources than they need."""
        views = tuple(view for view in self.views if view.name in set(names))
        read = {source for view in views for source in parts(view.source)}
        return replace(self, sources=tuple(s for s in self.sources if s in read), views=views)


def jobs(repository: Repository) -> tuple[Job, ...]:
    """The jobs that together compute every view, and the one that archives the streams."""
    found = []
    for stream in repository.streams:
        views = tuple(view for view in repository.views if view.stream == stream)
        if views:
            sources = dict.fromkeys((stream, *(s for view in views for s in parts(view.source))))
            name = f"{repository.name}-{stream.name}"
            found.append(Job(name, repository.name, tuple(sources), views, (stream,)))
    facts = tuple(view for view in repository.views if view.stream is None)
    if facts:
        tables = tuple(t for t in repository.tables if any(v.source == t for v in facts))
        found.append(Job(f"{repository.name}-tables", repository.name, tables, facts, tables))
    if archived := repository.archived:
        own: set[Part] = {source for job in found for source in job.apart}
        # What is only joined with, and the feature log.
        read: tuple[Part, ...] = (*archived, *repository.tables)
        rest = tuple(source for source in read if source not in own)
        found.append(Job(f"{repository.name}-archive", repository.name, archived, (), rest))
    return tuple(found)


def job_sql(job: Job, read: Read = read_ddl, live: bool = True) -> str:
    """The whole script of a job; statements end with `;` at the end of a line.

    `read` gives the statements that make `sources.SOURCE`, of the source and the repository, and
    of the stream whose events it is joined with, if it is.
    A job that is not `live` leaves dead letters, late rows and what becomes of expectations to the
    one that is.
    """
    if not job.views:
        return _archive_sql(job, read)
    apart = job.apart if live else ()
    late = [source for source in apart if isinstance(source, EventStream)]
    checked = [
        checked_view_sql(view, job.repository) for view in job.views if live and view.checked
    ]
    parts = [
        f"SET 'pipeline.name' = {literal(job.name)};\n",
        *(f"CREATE DATABASE {name};\n" for name in _DATABASES),
        _catalog(),
        CREATE_ROLLING,
        *([CREATE_SHARD] if any(view.stream is not None for view in job.views) else []),
        *_sources(job, read),
        *(dead_ddl(source, job.repository) for source in apart),
        *(text for view in job.views for text in view_sql(view)),
        *(_checking(checked)),
        *(_online(view, job.repository) for view in job.views),
        *(late_ddl(stream) for stream in late),
        "BEGIN STATEMENT SET;\n",
        *(dead_insert(source, job.repository) for source in apart),
        *(text for view in job.views for text in _inserts(view)),
        *(_insert_late(stream, job.views) for stream in late),
        *(written for _, written in checked),
        "END;\n",
    ]
    return "\n".join(parts)


def _checking(checked: Iterable[tuple[list[str], str]]) -> Iterable[str]:
    views = [text for made, _ in checked for text in made]
    if views:
        yield "CREATE DATABASE checked;\n"
        yield f"CREATE TEMPORARY SYSTEM FUNCTION timed AS {literal(TIMED)};\n"
        yield from views


def _catalog() -> str:
    options = ",\n  ".join(f"{literal(k)} = {literal(v)}" for k, v in CATALOG.items())
    return f"CREATE CATALOG headwater WITH (\n  {options}\n);\n"


def _archive_sql(job: Job, read: Read) -> str:
    """Every record of the streams with its place in the log, into the tables `raw.STREAM`.

    And what became of their expectations, window by window, into `quality.REPOSITORY`, and the bad
    records of what no other job sets apart. It keeps no traces, so it is the same whether a stream
    is traced or not.
    """
    streams = [
        replace(source, traced=False) for source in job.sources if isinstance(source, EventStream)
    ]
    sources: list[Part] = [*streams, *(s for s in job.apart if isinstance(s, CdcTable))]
    checked = [checked_sql(stream, job.repository) for stream in streams if stream.checked]
    return "\n".join(
        [
            f"SET 'pipeline.name' = {literal(job.name)};\n",
            "CREATE DATABASE sources;\n",
            "CREATE DATABASE dead;\n",
            _catalog(),
            *(read(source, job.repository, None) for source in sources),
            *(dead_ddl(source, job.repository) for source in job.apart),
            *(view for view, _ in checked),
            "BEGIN STATEMENT SET;\n",
            *(dead_insert(source, job.repository) for source in job.apart),
            *(_archive(stream) for stream in streams),
            *(insert for _, insert in checked),
            "END;\n",
        ]
    )


def _archive(stream: EventStream) -> str:
    names = ("_topic", "_partition", "_offset", EVENT_TIME, "_schema_version", "_archived_at")
    values = "".join(f",\n  {_offline(c.name, c.type)}" for c in stream.columns)
    # By name: a column that was added later stands last in the table.
    return (
        f"INSERT INTO headwater.`raw`.{identifier(stream.name)}\n"
        f"  ({_list((*names, *(c.name for c in stream.columns)))})\n"
        f"SELECT {literal(stream.topic)}, {_list((PARTITION, OFFSET))}, `rowtime`,\n"
        f"  {stream.version}, CURRENT_TIMESTAMP{values}\n"
        f"FROM sources.{identifier(stream.name)}\n"
        f"WHERE {identifier(REASON)} IS NULL;\n"
    )


def _sources(job: Job, read: Read) -> Iterable[str]:
    if not job.joined:
        yield from (read(source, job.repository, None) for source in job.sources)
        return
    stream, *others = job.sources
    assert isinstance(stream, EventStream)
    yield read(stream, job.repository, None)
    yield from (read(source, job.repository, stream) for source in others)
    yield from joins_sql(job.joined)


def joins_sql(joined: Iterable[JoinedStream]) -> Iterable[str]:
    """The statements that make `joined.NAME` of each joined stream's sources."""
    yield "CREATE DATABASE joined;\n"
    yield f"CREATE TEMPORARY SYSTEM FUNCTION temporal_join AS {literal(_TEMPORAL_JOIN)};\n"
    for source in joined:
        yield from _joined(source)


def _joined(joined: JoinedStream) -> Iterable[str]:
    """One `temporal_join` after the other, since each needs its own key."""
    names = [column.name for column in joined.stream.columns] + _traceparent(joined.stream)
    steps = joined.steps
    yield (
        f"CREATE VIEW joined.{identifier(steps[0])} AS\n"
        f"SELECT {_list(names)}, `rowtime`\n"
        f"FROM sources.{identifier(joined.stream.name)}\n"
        f"WHERE {identifier(REASON)} IS NULL;\n"
    )
    for join, (events, result) in zip(joined.joins, pairwise(steps), strict=True):
        uid = joined.versions(join)
        versions = f"joined.{identifier(uid)}"
        yield f"CREATE VIEW {versions} AS\n{_versions(join)}"
        names += [column.name for column in join.joined]
        yield (
            f"CREATE VIEW joined.{identifier(result)} AS\n"
            f"SELECT {_list(names)}, `rowtime`\n"
            "FROM temporal_join(\n"
            f"  events => TABLE joined.{identifier(events)} PARTITION BY {identifier(join.on)},\n"
            f"  versions => TABLE {versions} PARTITION BY {identifier(join.on)},\n"
            f"  uid => {literal(uid)}\n"
            ");\n"
        )


def _versions(join: TemporalJoin) -> str:
    """The key, since when a row is true, until when or whether it is deleted, and its columns."""
    source, key = join.source, identifier(join.matched)
    image = "" if isinstance(source, EventStream) else "`after`."
    if isinstance(source, EventStream):
        since = identifier(EVENT_TIME)
        assert join.within is not None
        until = f"{since} + {join.within.seconds * 1000} AS `_until`"
    else:
        key = f"COALESCE(`after`.{key}, `before`.{key})"
        since = _true_since(source)
        until = "`op` = 'd' AS `_deleted`"
    columns = [
        f"{key} AS {identifier(join.on)}",
        f"{since} AS `_since`",
        until,
        *(
            f"{image}{identifier(name)} AS {identifier(column.name)}"
            for name, column in zip(join.columns, join.joined, strict=True)
        ),
    ]
    lines = ",\n  ".join(columns)
    return (
        f"SELECT\n  {lines}\nFROM sources.{identifier(source.name)}\n"
        f"WHERE {identifier(REASON)} IS NULL AND {key} IS NOT NULL AND {since} IS NOT NULL;\n"
    )


def rolling_spec(view: FeatureView) -> str:
    """What the kernel's `rolling` is told to compute, as JSON."""
    spec: dict[str, object] = {"time": "rowtime", "keys": view.keys}
    if _is_traced(view):
        spec["trace"] = TRACEPARENT
    spec["features"] = [_rolling_feature(feature) for feature in view.features]
    return json.dumps(spec, separators=(",", ":"))


def _is_traced(view: FeatureView) -> bool:
    return view.stream is not None and view.stream.traced


def _traceparent(stream: EventStream | None) -> list[str]:
    return [TRACEPARENT] if stream is not None and stream.traced else []


def _trace(view: FeatureView) -> list[str]:
    """The column of a view's rows with what is kept of their trace, if they have any."""
    return [_TRACE] if _is_traced(view) else []


def _rolling_feature(feature: Feature) -> dict[str, object]:
    how, window = feature.aggregation, feature.window
    spec: dict[str, object] = {
        "name": feature.name,
        "op": how.op.value,
        "column": how.column if how.condition is None else condition_column(how.condition),
        "window_ms": window.size.seconds * 1000 if window else None,
        "tile_ms": window.resolution.seconds * 1000 if window else None,
    }
    # Only where used, so that what was declared before them stays as it is, in plan and state.
    if how.where is not None:
        spec["filter"] = condition_column(how.where)
    if how.parameter is not None:
        spec["q" if how.op is Op.PERCENTILE else "n"] = how.parameter
    return spec


def condition_text(condition: Condition) -> str:
    """A condition as SQL."""
    return " AND ".join(_comparison(c) for c in condition.comparisons)


def condition_column(condition: Condition) -> str:
    """The name of the BOOLEAN column that `rolling` reads: its SQL, or a digest of that if long.

    So a changed condition is another column, and the kernel refuses the state of the old one.
    """
    text = condition_text(condition)
    if len(text.encode("utf-16-le")) // 2 <= _LONGEST_NAME:
        return text
    # No declared name begins so.
    return f"_condition_{hashlib.sha256(text.encode()).hexdigest()}"


def _comparison(comparison: Comparison) -> str:
    left = f"{identifier(comparison.column)} {comparison.operator.value}"
    value = comparison.literal
    if value is None:
        return left
    if isinstance(value, str):
        return f"{left} {literal(value)}"
    text = repr(value).upper()
    # An exponent makes it a DOUBLE of SQL; without one it would be a DECIMAL.
    return f"{left} {text}E0" if isinstance(value, float) and "E" not in text else f"{left} {text}"


def view_sql(view: FeatureView) -> Iterable[str]:
    """The statements that make `computed.VIEW` of the view's source."""
    if isinstance(view.source, CdcTable):
        yield _facts(view, view.source)
        return
    yield _input(view)
    name = identifier(view.name)
    yield (
        f"CREATE VIEW rolled.{name} AS\n"
        "SELECT *\n"
        "FROM rolling(\n"
        f"  input => TABLE inputs.{name} PARTITION BY {identifier(SHARD)},\n"
        f"  spec => {literal(rolling_spec(view))},\n"
        f"  uid => {literal(view.name)}\n"
        ");\n"
    )
    yield (
        f"CREATE VIEW computed.{name} AS\n"
        f"SELECT {', '.join(_let_out(view))}\n"
        f"FROM rolled.{name}\n"
        f"WHERE {of_result(LATE)} IS NULL;\n"
    )


def _let_out(view: FeatureView) -> Iterable[str]:
    """The columns of a view's rows, null in the place of a value that is rejected."""
    for column in (*view.keys, *_names(view), EVENT_TIME, *_trace(view)):
        value = of_result(column)
        if column in view.rejecting:
            broken = breaks(view.rejecting[column], value)
            value = f"CASE WHEN {broken} THEN NULL ELSE {value} END"
        yield f"{value} AS {identifier(column)}"


def _input(view: FeatureView) -> str:
    """Only the columns the view needs cross the network to the operator of their key."""
    read = dict.fromkeys((*view.keys, *(f.aggregation.column for f in view.features)))
    columns = [name for name in read if name is not None]
    texts = {
        condition_column(c): condition_text(c)
        for f in view.features
        for c in f.aggregation.conditions
    }
    source = "joined" if isinstance(view.source, JoinedStream) else "sources"
    needed = [f"{identifier(REASON)} IS NULL"] if source == "sources" else []
    needed += [f"{identifier(key)} IS NOT NULL" for key in view.optional_keys]
    whole = f"\nWHERE {' AND '.join(needed)}" if needed else ""
    conditions = "".join(
        f",\n  ({text}) IS TRUE AS {identifier(name)}" for name, text in texts.items()
    )
    return (
        f"CREATE VIEW inputs.{identifier(view.name)} AS\n"
        f"SELECT {_list((*columns, *_traceparent(view.stream)))}, `rowtime`{conditions},\n"
        f"  shard({_list(view.keys)}) AS {identifier(SHARD)}\n"
        f"FROM {source}.{identifier(view.source.name)}{whole};\n"
    )


def _facts(view: FeatureView, table: CdcTable) -> str:
    """A captured row's values; a deleted row's values are all null, since its removal."""
    key = identifier(table.primary_key)
    values = "".join(
        f"  `after`.{identifier(f.aggregation.column or '')} AS {identifier(f.name)},\n"
        for f in view.features
    )
    return (
        f"CREATE VIEW computed.{identifier(view.name)} AS\n"
        "SELECT\n"
        f"  COALESCE(`after`.{key}, `before`.{key}) AS {key},\n"
        f"{values}"
        f"  TO_TIMESTAMP_LTZ({_true_since(table)}, 3) AS {identifier(EVENT_TIME)},\n"
        "  `op` = 'd' AS `deleted`\n"
        f"FROM sources.{identifier(table.name)}\n"
        f"WHERE {identifier(REASON)} IS NULL;\n"
    )


def _true_since(table: CdcTable) -> str:
    """When a row came to be what a change says: of a deleted one, when that was committed.

    Not when the connector read it, which may be long after and past the row's return.
    """
    return (
        "CASE WHEN `op` = 'd' THEN `source`.`ts_ms`"
        f" ELSE `after`.{identifier(table.updated_at)} END"
    )


def _online(view: FeatureView, project: str) -> str:
    columns = [
        *(f"{identifier(e.key)} {sql_type(e.type)}" for e in view.entities),
        *(f"{identifier(c.name)} {sql_type(c.type)}" for c in view.schema),
        f"{identifier(EVENT_TIME)} TIMESTAMP_LTZ(3)",
    ]
    options = {
        "connector": "feast-redis",
        "url": "${redis}",
        "project": project,
        "view": view.name,
        "entity-keys": ";".join(view.keys),
        "event-time": EVENT_TIME,
        "epoch": "${epoch}",
    }
    if _is_traced(view):
        columns.append(f"{identifier(_TRACE)} STRING")
        options["trace"] = _TRACE
    if isinstance(view.source, CdcTable):
        columns.append("`deleted` BOOLEAN")
        options["deleted"] = "deleted"
    return create_table(f"online.{identifier(view.name)}", columns, options)


def _inserts(view: FeatureView) -> Iterable[str]:
    name = identifier(view.name)
    deleted = ("deleted",) if isinstance(view.source, CdcTable) else ()
    yield (
        f"INSERT INTO online.{name}\n"
        f"SELECT {_list((*view.keys, *_names(view), EVENT_TIME, *_trace(view), *deleted))}\n"
        f"FROM computed.{name};\n"
    )
    values = "".join(f"  {_offline(c.name, c.type)},\n" for c in view.schema).rstrip(",\n")
    # By name: a feature that was added later, or moved, stands elsewhere in the table.
    yield (
        f"INSERT INTO headwater.features.{name}\n"
        f"  ({_list((*view.keys, EVENT_TIME, _AVAILABLE_AT, *_names(view)))})\n"
        f"SELECT {_list((*view.keys, EVENT_TIME))},\n"
        f"  CURRENT_TIMESTAMP AS {identifier(_AVAILABLE_AT)},\n"
        f"{values}\n"
        f"FROM computed.{name};\n"
    )


def _insert_late(stream: EventStream, views: Iterable[FeatureView]) -> str:
    """One sink for all views: those that write exactly once cannot share their transactions."""
    return (
        f"INSERT INTO late.{identifier(stream.name)}\n"
        + "UNION ALL\n".join(
            f"SELECT {literal(view.name)}, MAP[{_entity(view)}],"
            f" {results((EVENT_TIME, LATE))}\n"
            f"FROM rolled.{identifier(view.name)}"
            f" WHERE {of_result(LATE)} IS NOT NULL\n"
            for view in views
        ).rstrip("\n")
        + ";\n"
    )


def _entity(view: FeatureView) -> str:
    return ", ".join(f"{literal(k)}, CAST({of_result(k)} AS STRING)" for k in view.keys)


def _offline(name: str, type_: Type) -> str:
    quoted = identifier(name)
    return f"TO_TIMESTAMP_LTZ({quoted}, 3)" if type_ is Type.TIMESTAMP else quoted


def _names(view: FeatureView) -> list[str]:
    return [column.name for column in view.schema]


def _list(names: Iterable[str]) -> str:
    return ", ".join(identifier(name) for name in names)
