"""A replay's job: the live job's own SQL over a part of the log, its values kept apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from connectors.ddl import (
    NO_RECORD,
    REASON,
    TRACEPARENT,
    identifier,
    literal,
    sql_type,
    untraced,
)
from flink_jobs.quality import breaks
from flink_jobs.sql import CATALOG, Job, Part, Read, job_sql, read_ddl
from schemas import (
    EVENT_TIME,
    CdcTable,
    EventStream,
    FeatureView,
    JoinedStream,
    SettingsError,
    parts,
)
from schemas.sources import ARCHIVE, LOG

_FORMAT = re.compile(r"'format' = '([^']+)'")
_ALIGNMENT = re.compile(r"'(scan\.watermark\.[^']+)' = '([^']*)'")
_INPUT = re.compile(r"(CREATE VIEW inputs\.`(\w+)` AS\n[^;]*?)(;\n)")
_OUTPUT = re.compile(r"(FROM computed\.`(\w+)`);\n")
_SUMMED = re.compile(r"(INSERT INTO headwater\.`quality`\.[^;]*)(;\n)")
_BRANCH = re.compile(r"(INSERT INTO headwater\.features\.`\w+`)")

Offsets = dict[int, tuple[int, int]]
"""The first offset and one more than the last, by partition."""


@dataclass(frozen=True)
class Span:
    """The event times a replay writes, milliseconds since 1970 UTC: start <= t < end."""

    start: int
    end: int | None
    """None: it follows the log, from the archive on, until it is stopped."""


@dataclass(frozen=True)
class Reading:
    """Which records of one topic a replay reads, and where from."""

    topic: str
    log: Offsets
    """From Kafka; for a replay that follows, the second offset counts for nothing."""

    archive: Offsets = field(default_factory=dict)
    snapshot: int | None = None
    """Of the archive."""


def encode_readings(readings: Mapping[str, Reading]) -> bytes:
    """Readings by stream as one JSON document."""
    return msgspec.json.encode(readings)


def decode_readings(document: bytes) -> dict[str, Reading]:
    """What `encode_readings` wrote; SettingsError says where it is something else."""
    try:
        return msgspec.json.decode(document, type=dict[str, Reading])
    except msgspec.DecodeError as error:
        raise SettingsError(f"where the archive's tables end: {error}") from error


@dataclass(frozen=True)
class Isolation:
    """What keeps a replay's job apart from the live one."""

    name: str
    branch: str
    """Of the Iceberg tables."""

    version: str
    """What its Redis keys end in, where live ones end in the project."""

    pace: str
    """The Redis key that holds how many records a second it may read."""


def warm_up(views: tuple[FeatureView, ...], source: Part | None = None) -> int | None:
    """How long before its span a replay must read, in milliseconds; None from the beginning.

    The largest window with its tile, and the disorder the first events may have. A lifetime
    feature needs all of the log. Of a `source` that events are joined with, as much more as an
    event of it counts, and all of a captured table.
    """
    longest = 0
    for view in views:
        stream = view.stream
        if source is not None and source not in parts(view.source):
            continue
        if stream is None or any(feature.window is None for feature in view.features):
            return None
        before = 0
        if isinstance(view.source, JoinedStream):
            for join in view.source.joins:
                if join.source != source:
                    continue
                if join.within is None or not isinstance(join.source, EventStream):
                    return None
                more = join.within.seconds + join.source.disorder.seconds
                before = max(before, more)
        for feature in view.features:
            if feature.window is not None:
                window = feature.window.size.seconds + feature.window.resolution.seconds
                longest = max(longest, window + stream.disorder.seconds + before)
    return longest * 1000


def replay_sql(
    job: Job,
    apart: Isolation,
    span: Span,
    readings: Mapping[str, Reading],
    keys: Mapping[str, tuple[str | int, ...]] | None = None,
) -> str:
    """The script of a replay of `job`'s views.

    It is the live script but for where it reads (`readings`, by source), which rows it lets out,
    the Iceberg branch, and the project its Redis keys end in. `keys` are values of key columns:
    no other entity is computed.
    """

    read = _reader(readings, span, apart.pace)
    text = job_sql(job, read, live=False)
    text = text.replace(f"'pipeline.name' = '{job.name}'", f"'pipeline.name' = '{apart.name}'", 1)
    text = text.replace(f"'project' = '{job.repository}'", f"'project' = '{apart.version}'")
    text = _BRANCH.sub(rf"\1 /*+ OPTIONS('branch'='{apart.branch}') */", text)
    if keys:
        only = _only(keys)
        text = _INPUT.sub(
            lambda m: f"{m[1]}\n{'  AND' if 'WHERE' in m[1] else 'WHERE'} {only}{m[3]}", text
        )
    within = [f"`{EVENT_TIME}` >= TO_TIMESTAMP_LTZ({span.start}, 3)"]
    if span.end is not None:
        within.append(f"`{EVENT_TIME}` < TO_TIMESTAMP_LTZ({span.end}, 3)")
    if keys:
        within.append(_only(keys))
    return _OUTPUT.sub(lambda m: f"{m[1]}\nWHERE {' AND '.join(within)};\n", text)


def restart_sql(job: Job, since: int, readings: Mapping[str, Reading]) -> str:
    """The live script of `job` from an empty state: it lets rows out from `since` on.

    Expectations are summed up from the first window on that is whole.

    `readings` begin early enough to fill the windows of all its views.
    """

    read = _reader(readings, Span(since, None))
    begin = f"TO_TIMESTAMP_LTZ({since}, 3)"
    text = job_sql(job, read)
    text = _OUTPUT.sub(lambda m: f"{m[1]}\nWHERE `{EVENT_TIME}` >= {begin};\n", text)
    whole = f"WHERE CAST(window_start AS TIMESTAMP_LTZ(3)) >= {begin}"
    return _SUMMED.sub(lambda m: f"{m[1]}\n{whole}{m[2]}", text)


def resumed_sql(job: Job, readings: Mapping[str, Reading]) -> str:
    """The script of the archive's job from no state: it begins where its tables end.

    A captured table, of which it keeps the bad records alone, is read from the log's beginning: a
    dead letter that comes again is the same one.
    """
    archived = _reader(readings, Span(0, None))

    def read(source: Part, repository: str, joined_with: EventStream | None) -> str:
        one = read_ddl if isinstance(source, CdcTable) else archived
        return one(source, repository, joined_with)

    return job_sql(job, read)


def _only(keys: Mapping[str, tuple[str | int, ...]]) -> str:
    return " AND ".join(
        f"{identifier(column)} IN ("
        f"{', '.join(literal(v) if isinstance(v, str) else str(v) for v in values)})"
        for column, values in keys.items()
    )


def _reader(readings: Mapping[str, Reading], span: Span, pace: str | None = None) -> Read:
    """Each source's own DDL over what is to be read of it."""

    def read(source: Part, repository: str, joined_with: EventStream | None) -> str:
        ddl = read_ddl(source, repository, joined_with)
        return _read(source, ddl, readings[source.name], span, pace)

    return read


def _read(source: Part, ddl: str, reading: Reading, span: Span, pace: str | None) -> str:
    """The source's own DDL over those offsets; the archive's before it where there is one."""
    log = _bounded(ddl, reading, span)
    if pace is not None:
        log = log.replace("'connector' = 'kafka", "'connector' = 'kafka-replay", 1)
        log = untraced(_paced(log, pace))
    if not isinstance(source, EventStream) or not reading.archive:
        return log
    name = f"sources.{identifier(source.name)}"
    first, then = (f"sources.{identifier(f'{source.name}_{part}')}" for part in (ARCHIVE, LOG))
    columns = ", ".join(
        map(
            identifier,
            (EVENT_TIME, *(column.name for column in source.columns), *_no_record(log), "rowtime"),
        )
    )
    tables = [_archive(source, log, first, reading, span, pace)]
    query = f"SELECT {columns} FROM {first}\nWHERE `rowtime` IS NOT NULL"
    if reading.log:
        tables.append(log.replace(f"CREATE TABLE {name} (", f"CREATE TABLE {then} (", 1))
        query += f"\nUNION ALL\nSELECT {columns} FROM {then}"
    return "\n".join([*tables, f"CREATE VIEW {name} AS\n{query};\n"])


def _no_record(ddl: str) -> dict[str, str]:
    """The columns of dead letters and of traces, for a source that has them."""
    traced = {TRACEPARENT: "STRING"} if identifier(TRACEPARENT) in ddl else {}
    return NO_RECORD | traced if identifier(REASON) in ddl else {}


def _bounded(ddl: str, reading: Reading, span: Span) -> str:
    starts = ";".join(f"partition:{p},offset:{first}" for p, (first, _) in reading.log.items())
    ends = ";".join(f"partition:{p},offset:{end}" for p, (_, end) in reading.log.items())
    lines = [
        "'scan.startup.mode' = 'specific-offsets'",
        f"'scan.startup.specific-offsets' = '{starts}'",
    ]
    if span.end is not None:
        lines += [
            "'scan.bounded.mode' = 'specific-offsets'",
            f"'scan.bounded.specific-offsets' = '{ends}'",
        ]
    return ddl.replace("'scan.startup.mode' = 'earliest-offset'", ",\n  ".join(lines), 1)


def _paced(ddl: str, key: str) -> str:
    """The same source, its format within the one that holds records back."""
    found = _FORMAT.search(ddl)
    assert found is not None, ddl
    inner = found[1]
    own = re.compile(rf",\n  '{re.escape(inner)}\.([^']+)' = '((?:[^']|'')*)'")
    options = {match[1]: match[2] for match in own.finditer(ddl)}
    ddl = own.sub("", ddl)
    lines = [
        "'format' = 'paced'",
        f"'paced.format' = '{inner}'",
        "'paced.url' = '${redis}'",
        f"'paced.key' = {literal(key)}",
        *(f"'paced.options.{name}' = '{value}'" for name, value in options.items()),
    ]
    return _FORMAT.sub(lambda _: ",\n  ".join(lines), ddl, count=1)


def _rules(stream: EventStream) -> list[str]:
    """What the format of the log asks of an event's columns, beside their types, as SQL."""
    required = [f"{identifier(c.name)} IS NOT NULL" for c in stream.columns if c.required]
    return required + [f"({breaks(one)}) IS NOT TRUE" for one in stream.of_records if one.reject]


def _archive(
    stream: EventStream, ddl: str, name: str, reading: Reading, span: Span, pace: str | None
) -> str:
    """The archive's table with the columns and the watermark of the stream's own DDL.

    What came before a rule may break it. Such an event has no time, as a dead letter of the log has
    none: it makes no other late, and the view of the source leaves it out.
    """
    time = f"TO_TIMESTAMP_LTZ({identifier(EVENT_TIME)}, 3)"
    if rules := _rules(stream):
        time = f"CASE WHEN {' AND '.join(rules)} THEN {time} END"
    found = re.search(r"WATERMARK FOR [^\n]*", ddl)
    assert found is not None, ddl
    lines = [
        f"{identifier(EVENT_TIME)} BIGINT",
        *(f"{identifier(column.name)} {sql_type(column.type)}" for column in stream.columns),
        *(
            f"{identifier(name)} AS CAST(NULL AS {type_})"
            for name, type_ in _no_record(ddl).items()
        ),
        f"{identifier('rowtime')} AS {time}",
        found[0],
    ]
    catalog = {key: value for key, value in CATALOG.items() if key != "type"}
    options = {
        "connector": "headwater-archive",
        **{f"catalog.{key}": value for key, value in catalog.items()},
        "namespace": "raw",
        "table": stream.name,
        "snapshot": str(reading.snapshot),
        "offsets": ";".join(f"{p}:{first}:{end}" for p, (first, end) in reading.archive.items()),
        **({"follow": "true"} if span.end is None else {}),
        **({} if pace is None else {"pace-url": "${redis}", "pace-key": pace}),
        **dict(_ALIGNMENT.findall(ddl)),
    }
    body = ",\n  ".join(lines)
    with_ = ",\n  ".join(f"{literal(key)} = {literal(value)}" for key, value in options.items())
    return f"CREATE TABLE {name} (\n  {body}\n) WITH (\n  {with_}\n);\n"
