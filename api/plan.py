"""What a lookup reads, worked out at start-up from the declarations.

A `Selection` has one `Group` for each set of entity keys: all its views share a Redis hash, so
one HMGET reads them for an entity. A group holds all of its HMGET that does not depend on the
entity, as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby
from operator import itemgetter
from struct import error as StructError
from typing import Any

import msgspec

from api.auth import ANYONE, Principal
from api.computation import Computation, ComputedColumn, computed
from api.errors import RequestError
from api.texts import LONGEST_KEY, Room, Texts
from connectors.redis_codec import (
    CodecError,
    Value,
    column_decoder,
    entity_key,
    feature_field,
    key_encoder,
    timestamp_field,
    trace_field,
)
from connectors.registered import Served, ServedView
from schemas import Entity, Type

Key = str | int
Decoder = Callable[[Sequence[bytes | None], list[int]], Sequence[Value]]


@dataclass(frozen=True)
class FeatureColumn:
    """One feature and where it lies: two fields of the hash of `entities`."""

    name: str  # view:feature
    view: str
    type: Type
    entities: tuple[Entity, ...]
    field: bytes
    time_field: bytes
    ttl_seconds: int


@dataclass(frozen=True)
class Slot:
    """Where one column of a selection comes from in the reply of a group."""

    column: FeatureColumn
    at: int
    """The column's place in the selection."""

    value_at: int
    time_at: int
    decode: Decoder


@dataclass(frozen=True)
class ViewTimes:
    """Where the event times of one view lie in the reply of a group."""

    view: str
    ttl_seconds: int
    time_at: int
    columns: int
    """How many columns of the selection are the view's."""

    trace_at: int | None = None
    """Where the view's trace lies, where it is read."""


@dataclass(frozen=True)
class Group:
    """The columns that lie in one hash; `slots` point into its `fields`."""

    entities: tuple[Entity, ...]
    fields: int
    slots: tuple[Slot, ...]
    views: tuple[ViewTimes, ...]
    names: tuple[str, ...]
    """The key columns in the order of the Redis key."""

    key_of: Callable[[Mapping[str, Key]], Key | tuple[Key, ...]]
    encode: Callable[[Key | tuple[Key, ...]], bytes]
    """From what `key_of` gives to the Redis key, with its length before it."""

    head: bytes
    tail: bytes

    def traced(self) -> Group:
        """The same, with the traces of the views behind all else."""
        added = [trace_field(view.view) for view in self.views]
        return replace(
            self,
            fields=self.fields + len(added),
            views=tuple(
                replace(view, trace_at=at) for at, view in enumerate(self.views, self.fields)
            ),
            head=_head(self.fields + len(added)),
            tail=self.tail + _tail(added),
        )

    def commands(self, keys: Iterable[Key | tuple[Key, ...]]) -> bytes:
        """An HMGET for each of what `key_of` gave; raises one of BAD_ROW for what is no key."""
        return self.head + self.between.join(map(self.encode, keys)) + self.tail

    @cached_property
    def between(self) -> bytes:
        """From one key to the next."""
        return self.tail + self.head

    def redis_keys(self, keys: Iterable[Key | tuple[Key, ...]]) -> list[bytes]:
        """The Redis key for each of what `key_of` gave; raises as `commands` does."""
        return [self.encode(key).partition(b"\r\n")[2] for key in keys]

    def command(self, key: bytes) -> bytes:
        """The HMGET of a Redis key."""
        return b"%b%d\r\n%b%b" % (self.head, len(key), key, self.tail)


@dataclass(frozen=True)
class Run:
    """Columns that follow each other in a selection and lie in one group's hash."""

    group: int
    slots: tuple[Slot, ...]
    texts: Texts
    """Of the entities that were looked up last."""


@dataclass(frozen=True)
class Selection:
    """The columns of one request, in order, and the groups that hold them."""

    names: tuple[str, ...]
    groups: tuple[Group, ...]
    keys: tuple[Entity, ...]
    columns: tuple[FeatureColumn, ...]
    names_json: bytes
    runs: tuple[Run, ...]
    views: frozenset[str]
    computation: Computation | None = None
    """Where features are computed: the rest of the selection is what is read for them."""

    @cached_property
    def traced(self) -> Selection:
        """What a request reads whose spans are recorded: the traces of the values besides."""
        return replace(self, groups=tuple(group.traced() for group in self.groups))

    def check(self, rows: Iterable[Mapping[str, Key]]) -> None:
        """RequestError for the first row that has not just the keys it needs, of their types."""
        names = [entity.key for entity in self.keys]
        for i, row in enumerate(rows):
            path = f"$.entities[{i}]"
            for name in names:
                if name not in row:
                    raise RequestError(f"{path}.{name}", "missing entity key", None, names)
            for name in row:
                if name not in names:
                    raise RequestError(f"{path}.{name}", "unknown entity key", name, names)
            for entity in self.keys:
                _check_key(entity, row[entity.key], f"{path}.{entity.key}")


BAD_ROW = (KeyError, AttributeError, CodecError, UnicodeEncodeError, StructError)
"""What working with a row raises that does not fit; `Selection.check` says why it does not."""


class Plan:
    """Every lookup that what is served allows.

    A caller is told of no more than it may read: the choices of an error are its own.
    """

    def __init__(self, what: Served) -> None:
        self.project = what.project
        self._encoders: dict[tuple[tuple[str, Type], ...], Encoder] = {}
        self._room = Room(_TEXTS)
        self._columns = {column.name: column for view in what.views for column in _columns(view)}
        stored = {name: column.type for name, column in self._columns.items()}
        self._computed = {c.name: c for view in what.on_demand for c in computed(view, stored)}
        self._services = {
            service.name: self._select(
                f"{read.view}:{name}" for read in service.reads for name in read.features
            )
            for service in what.services
        }
        self._known: dict[str, FeatureColumn | ComputedColumn] = self._columns | self._computed
        self._lists: dict[tuple[str, ...], Selection] = {}

    def service(self, name: str, principal: Principal = ANYONE) -> Selection:
        """The columns of a service; RequestError if there is none of that name, or Forbidden."""
        if (selection := self._services.get(name)) is None:
            own = [n for n, one in self._services.items() if principal.may_read(one.views)]
            raise RequestError("$.service", "unknown feature service", name, own)
        principal.check(selection.views)
        return selection

    def features(self, names: Iterable[str], principal: Principal = ANYONE) -> Selection:
        """The columns called `view:feature`, each once; RequestError for an unknown one, or
        Forbidden."""
        asked = tuple(names)
        if (selection := self._lists.get(asked)) is None:
            selection = self._list(asked, principal)
        principal.check(selection.views)
        return selection

    def _list(self, asked: tuple[str, ...], principal: Principal) -> Selection:
        known = self._known
        for position, name in enumerate(asked):
            if name not in known:
                own = [n for n, one in known.items() if principal.may_read({one.view})]
                raise RequestError(f"$.features[{position}]", "unknown feature", name, own)
        # Before anything is told of how they go together.
        principal.check(frozenset(known[name].view for name in asked))
        selection = self._select(dict.fromkeys(asked))
        if len(asked) > len(known):  # some of them again and again
            return selection
        if len(self._lists) >= _LISTS:  # whoever asks for another list each time gains nothing
            self._lists.clear()
        self._lists[asked] = selection
        return selection

    def _select(self, names: Iterable[str]) -> Selection:
        asked = tuple(names)
        wanted = [self._computed[name] for name in asked if name in self._computed]
        if not wanted:
            return self._select_stored(asked)
        read = chain.from_iterable(one.reads for one in wanted)
        stored = dict.fromkeys(chain((n for n in asked if n in self._columns), read))
        base = self._select_stored(stored)
        return replace(
            base,
            computation=Computation.of(asked, base.names, self._computed),
            views=base.views | {one.view for one in wanted},
        )

    def _encoder(self, column: FeatureColumn) -> Encoder:
        """One for each set of keys, since it remembers keys that it has encoded."""
        identity = tuple((entity.key, entity.type) for entity in column.entities)
        if identity not in self._encoders:
            names, encode = key_encoder(self.project, column.entities)
            self._encoders[identity] = names, _Sized(encode, len(names)).__getitem__
        return self._encoders[identity]

    def _select_stored(self, names: Iterable[str]) -> Selection:
        columns = tuple(self._columns[name] for name in names)
        members: dict[tuple[tuple[str, Type], ...], list[tuple[int, FeatureColumn]]] = {}
        for at, column in enumerate(columns):
            identity = tuple((entity.key, entity.type) for entity in column.entities)
            members.setdefault(identity, []).append((at, column))
        groups = tuple(_group(found, self._encoder(found[0][1])) for found in members.values())
        keys = {entity.key: entity for group in groups for entity in group.entities}
        listed = tuple(column.name for column in columns)
        return Selection(
            names=listed,
            groups=groups,
            keys=tuple(keys.values()),
            columns=columns,
            names_json=msgspec.json.encode(listed),
            runs=_runs(groups, self._room),
            views=frozenset(column.view for column in columns),
        )


_LISTS = 64
_KEYS = 16_384
_TEXTS = 96 << 20
"""Bytes."""

Encoder = tuple[tuple[str, ...], Callable[[Any], bytes]]
"""The key columns in their order, and what makes a sized key of their values."""


class _Sized(dict[Any, bytes]):
    """Keys with their length before them, but for long ones; it is emptied when it is full."""

    def __init__(self, encode: Callable[..., bytes], count: int) -> None:
        super().__init__()
        self._encode = encode
        self._alone = count == 1

    def __missing__(self, key: Any) -> bytes:
        data = self._encode(key) if self._alone else self._encode(*key)
        sized = b"%d\r\n%b" % (len(data), data)
        if len(data) <= LONGEST_KEY:
            if len(self) >= _KEYS:
                self.clear()
            self[key] = sized
        return sized


def _runs(groups: Sequence[Group], room: Room) -> tuple[Run, ...]:
    placed = sorted(
        ((slot.at, group, slot) for group, found in enumerate(groups) for slot in found.slots),
        key=itemgetter(0),
    )
    return tuple(
        Run(group, tuple(slot for _, _, slot in members), Texts(room))
        for group, members in groupby(placed, key=itemgetter(1))
    )


def _columns(view: ServedView) -> Iterable[FeatureColumn]:
    entities = tuple(sorted(view.entities, key=lambda entity: entity.key))
    for column in view.columns:
        yield FeatureColumn(
            f"{view.name}:{column.name}",
            view.name,
            column.type,
            entities,
            feature_field(view.name, column.name),
            timestamp_field(view.name),
            view.ttl_seconds,
        )


def _group(columns: list[tuple[int, FeatureColumn]], encoder: Encoder) -> Group:
    fields = dict.fromkeys(chain.from_iterable((c.field, c.time_field) for _, c in columns))
    place = {field: position for position, field in enumerate(fields)}
    slots = tuple(
        Slot(c, at, place[c.field], place[c.time_field], column_decoder(c.type))
        for at, c in columns
    )
    views = {c.view: c for _, c in columns}
    counts = [sum(c.view == view for _, c in columns) for view in views]
    entities = columns[0][1].entities
    names, encode = encoder
    return Group(
        entities=entities,
        fields=len(fields),
        slots=slots,
        views=tuple(
            ViewTimes(c.view, c.ttl_seconds, place[c.time_field], count)
            for c, count in zip(views.values(), counts, strict=True)
        ),
        names=names,
        key_of=itemgetter(*names),
        encode=encode,
        head=_head(len(fields)),
        tail=b"\r\n" + _tail(fields),
    )


def _head(fields: int) -> bytes:
    return b"*%d\r\n$5\r\nHMGET\r\n$" % (fields + 2)


def _tail(fields: Iterable[bytes]) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(f), f) for f in fields)


def _check_key(entity: Entity, value: Key, path: str) -> None:
    try:
        entity_key("", (entity,), {entity.key: value})
    except (CodecError, UnicodeEncodeError) as error:
        problem = f"expected `{entity.type.value}` for entity {entity.name}"
        raise RequestError(path, problem, value) from error
