"""Where records come from: entities, event streams and tables captured by CDC."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType

from schemas.errors import DeclarationError
from schemas.expectations import Expectation, WindowExpectation, check_expectations
from schemas.types import (
    Column,
    Duration,
    Type,
    check_column,
    check_column_type,
    check_free,
    check_name,
    check_topic,
    check_tuple,
    check_type,
    check_unique,
)

EVENT_TIME = "event_time"
EVENT_DAY = f"{EVENT_TIME}_day"
"""What Iceberg's tables are partitioned by: none has a column of that name."""

ROWTIME = "rowtime"
OF_RECORDS = ("dead_reason", "dead_payload", "kafka_partition", "kafka_offset", "kafka_time")
"""What a job's source has beside a stream's columns, of the record; `connectors.ddl` reads them."""

ARCHIVE, LOG, CHECKED = "archive", "log", "checked"
"""What is made of a stream beside it in a job, called `STREAM_archive`: what a replay reads of the
archive and of the topic, and the windows of its expectations."""

OF_WINDOWS = ("window_start", "window_end")
"""What expectations that are summed up have beside the columns they are of."""

_FIVE_MINUTES = Duration(300)
_ONE_HOUR = Duration(3_600)


@dataclass(frozen=True)
class Entity:
    """A thing features describe; `key` is the column that identifies it."""

    name: str
    key: str
    type: Type = Type.STRING
    description: str = ""

    def __post_init__(self) -> None:
        check_name("entity", self.name)
        check_name(f"entity.{self.name}.key", self.key)
        check_column_type(f"entity.{self.name}.type", self.type)
        if self.type not in (Type.STRING, Type.INT64):
            raise DeclarationError(
                f"entity.{self.name}.type",
                "cannot identify an entity",
                self.type.value,
                (Type.STRING.value, Type.INT64.value),
            )


@dataclass(frozen=True)
class EventStream:
    """Events on a Kafka topic, one JSON object each.

    Every event has `event_time`, milliseconds since 1970 UTC; it is not listed in `columns`.
    `disorder` is how much later than a newer event of the same stream an event may come; one
    that comes later still is late. `ahead` is how far its time may be ahead of the clock of the
    machine that reads it: one event of the year 9000 would make all that follow late. Kafka itself
    refuses records whose timestamp is more than an hour ahead, unless it is told otherwise.
    `heartbeat` is how often `headwater heartbeat` tells each partition what time it is, so that
    features move while no event comes; it is for streams whose events are of the present.
    `partition_by` is the column that keys the Kafka record; an event without a value in it, where
    the column is optional, has no key and comes to any partition.
    `checked` is the length of the windows of event time that expectations are summed up for, a
    row each in Iceberg; `unique`, `fresh` and `rate` need it.
    `drift` is how far, in event time, a job may read one partition ahead of another while it
    catches up; what lies between waits in its state.
    `traced`: an event whose record has a sampled W3C `traceparent` among its headers goes on in
    that trace, to the online store.
    """

    name: str
    topic: str
    columns: tuple[Column, ...]
    partition_by: str
    disorder: Duration = _FIVE_MINUTES
    ahead: Duration = _ONE_HOUR
    heartbeat: Duration | None = None
    expectations: tuple[Expectation | WindowExpectation, ...] = ()
    checked: Duration | None = None
    drift: Duration = _ONE_HOUR
    traced: bool = False
    version: int = 1
    description: str = ""

    def __post_init__(self) -> None:
        check_name("stream", self.name)
        path = f"stream.{self.name}"
        check_topic(f"{path}.topic", self.topic)
        check_tuple(f"{path}.columns", Column, self.columns)
        check_tuple(f"{path}.expectations", (Expectation, WindowExpectation), self.expectations)
        for name in ("disorder", "ahead", "drift"):
            check_type(f"{path}.{name}", Duration, getattr(self, name))
        for name in ("heartbeat", "checked"):
            check_type(f"{path}.{name}", (Duration, NoneType), getattr(self, name))
        names = [column.name for column in self.columns]
        check_unique(f"{path}.columns", names)
        windows = OF_WINDOWS if self.checked else ()
        check_free(
            f"{path}.columns", names, (EVENT_TIME, EVENT_DAY, ROWTIME, *OF_RECORDS, *windows)
        )
        check_column(f"{path}.partition_by", self.columns, self.partition_by)
        check_expectations(f"{path}.expectations", self.expectations, self.columns)
        for one in self.expectations:
            if isinstance(one, WindowExpectation) and self.checked is None:
                raise DeclarationError(
                    f"{path}.checked", f"{one.name} needs the length of its window", None
                )
        if self.version < 1:
            raise DeclarationError(f"{path}.version", "must be 1 or more", self.version)

    @property
    def of_records(self) -> tuple[Expectation, ...]:
        """The expectations that each record keeps or breaks."""
        return tuple(one for one in self.expectations if isinstance(one, Expectation))


@dataclass(frozen=True)
class CdcTable:
    """A PostgreSQL table captured by Debezium.

    `primary_key` is the one column of the table's primary key: what else tells rows apart says
    nothing of a row whose key changes. `updated_at` is the column that says since when a row is
    true: the event time of a change.
    """

    name: str
    table: str
    columns: tuple[Column, ...]
    primary_key: str
    updated_at: str = "updated_at"
    schema: str = "public"
    expectations: tuple[Expectation, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        check_name("table", self.name)
        path = f"table.{self.name}"
        check_tuple(f"{path}.columns", Column, self.columns)
        check_tuple(f"{path}.expectations", Expectation, self.expectations)
        self._check_table(path)
        check_unique(f"{path}.columns", (c.name for c in self.columns))
        check_column(f"{path}.primary_key", self.columns, self.primary_key)
        check_expectations(f"{path}.expectations", self.expectations, self.columns)
        found = check_column(f"{path}.updated_at", self.columns, self.updated_at)
        if found.type is not Type.TIMESTAMP:
            raise DeclarationError(
                f"{path}.updated_at", "must be a timestamp column", found.type.value, ("timestamp",)
            )
        for name in (self.primary_key, self.updated_at):
            if not check_column(path, self.columns, name).required:
                raise DeclarationError(
                    f"{path}.columns.{name}.required",
                    "must be True: every row has a primary key and a time it is true since",
                    False,
                )

    @property
    def qualified(self) -> str:
        """`schema.table`, as PostgreSQL and Debezium name it."""
        return f"{self.schema}.{self.table}"

    def _check_table(self, path: str) -> None:
        check_type(f"{path}.schema", str, self.schema)
        check_type(f"{path}.table", str, self.table)
        schema, dot, table = self.table.rpartition(".")
        if dot:
            raise DeclarationError(
                f"{path}.table",
                f"is a name without its schema: table={table!r}, schema={schema!r}",
                self.table,
            )
