"""Point-in-time joins: a stream's events with what else was true when they happened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import NoneType

from schemas.errors import DeclarationError
from schemas.sources import EVENT_TIME, ROWTIME, CdcTable, EventStream
from schemas.types import (
    Column,
    Duration,
    check_column,
    check_free,
    check_name,
    check_tuple,
    check_type,
    check_unique,
)


@dataclass(frozen=True)
class TemporalJoin:
    """Columns of a table's row, or of a stream's newest event, as of the time of an event.

    `on` is the event's column that must equal the table's primary key, or the stream's `key`
    (called as `on` unless it is given). The row is the newest of those true at the event's time
    or before; its columns are null where there is none, or it was deleted. A stream's event
    counts for as long as `within`; of events at one instant the one with the greatest columns
    counts. `prefix` stands before the joined columns' names.
    """

    source: CdcTable | EventStream
    on: str
    columns: tuple[str, ...]
    within: Duration | None = None
    key: str | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        check_type("join.source", (CdcTable, EventStream), self.source)
        path = f"join.{self.source.name}"
        check_tuple(f"{path}.columns", str, self.columns)
        check_type(f"{path}.within", (Duration, NoneType), self.within)
        if not self.columns:
            raise DeclarationError(f"{path}.columns", "needs at least one column", ())
        for name in self.columns:
            check_column(f"{path}.columns", self.source.columns, name)
        if isinstance(self.source, CdcTable):
            if self.key not in (None, self.source.primary_key):
                raise DeclarationError(
                    f"{path}.key",
                    "must be the table's primary key",
                    self.key,
                    (self.source.primary_key,),
                )
            if self.within is not None:
                raise DeclarationError(
                    f"{path}.within", "a row holds until it is changed", str(self.within)
                )
        else:
            check_column(f"{path}.key", self.source.columns, self.matched)
            if self.within is None:
                raise DeclarationError(
                    f"{path}.within", "a stream needs how long an event counts", None
                )

    @property
    def matched(self) -> str:
        """The column of the joined source that must equal `on`."""
        if isinstance(self.source, CdcTable):
            return self.source.primary_key
        return self.key or self.on

    @property
    def joined(self) -> tuple[Column, ...]:
        """The columns it adds, all nullable."""
        by_name = {column.name: column for column in self.source.columns}
        return tuple(
            replace(by_name[name], name=self.prefix + name, required=False) for name in self.columns
        )


@dataclass(frozen=True)
class JoinedStream:
    """A stream whose events carry columns of other sources, as of their own time.

    A view takes it as its source like the stream itself. An event waits for the stream's
    `disorder`, and for sources that catch up with their topics. What comes later than that is used
    for later events only, and counted.
    """

    name: str
    stream: EventStream
    joins: tuple[TemporalJoin, ...]
    description: str = ""

    def __post_init__(self) -> None:
        check_name("joined_stream", self.name)
        path = f"joined_stream.{self.name}"
        check_type(f"{path}.stream", EventStream, self.stream)
        check_tuple(f"{path}.joins", TemporalJoin, self.joins)
        if not self.joins:
            raise DeclarationError(f"{path}.joins", "needs at least one join", ())
        known = list(self.stream.columns)
        for join in self.joins:
            if join.source == self.stream:
                raise DeclarationError(f"{path}.joins", "a stream with itself", join.source.name)
            on = check_column(f"{path}.joins.{join.source.name}.on", known, join.on)
            key = check_column(
                f"{path}.joins.{join.source.name}", join.source.columns, join.matched
            )
            if on.type is not key.type:
                raise DeclarationError(
                    f"{path}.joins.{join.source.name}.on",
                    f"must be {key.type.value} as {key.name} is",
                    f"{on.type.value} {on.name}",
                    (c.name for c in known if c.type is key.type),
                )
            known += join.joined
        names = [column.name for column in known]
        check_unique(f"{path}.columns", names)
        check_free(f"{path}.columns", names, (EVENT_TIME, ROWTIME))
        check_unique(f"{path}.joins", (f"{j.source.name} on {j.on}" for j in self.joins))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The stream's columns, then those of each join."""
        return (*self.stream.columns, *(column for j in self.joins for column in j.joined))

    @property
    def steps(self) -> tuple[str, ...]:
        """What a job calls its events: before the first join, and after each."""
        return (*(f"{self.name}_{number}" for number in range(len(self.joins))), self.name)

    def versions(self, join: TemporalJoin) -> str:
        """What a job calls the rows that its events are joined with, and the join."""
        return f"{self.name}_{join.source.name}_by_{join.on}"

    @property
    def others(self) -> tuple[CdcTable | EventStream, ...]:
        """What the stream is joined with."""
        return tuple(dict.fromkeys(join.source for join in self.joins))

    @property
    def sources(self) -> tuple[CdcTable | EventStream, ...]:
        """All that is read: the stream, then what it is joined with."""
        return (self.stream, *self.others)


Source = EventStream | CdcTable | JoinedStream


def parts(source: Source) -> tuple[EventStream | CdcTable, ...]:
    """The sources that are read for `source`: itself, or those of a joined stream."""
    return source.sources if isinstance(source, JoinedStream) else (source,)
