"""Feast's Redis format, written and read without Feast and without protobuf reflection.

One Redis hash per entity holds the features of all its views, in the layout of Feast 0.67 with
entity key serialization version 3 (`feast/infra/key_encoding_utils.py` and
`feast/infra/online_stores/redis.py`):

    key     serialized entity key, then the project's name
    field   4 bytes: murmur3 of `view:feature`, little-endian   -> a `Value` message
    field   `_ts:<view>`                                        -> a `Timestamp` message

Fields of our own stand beside them, `epoch_field` and `trace_field`; Feast does not read them.

A null feature is an empty `Value`. A timestamp feature is kept as int64 milliseconds, since
Feast's own timestamp holds whole seconds and would lose the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import mmh3

from schemas import CdcTable, Entity, FeatureView, HeadwaterError, Type

Value = str | int | float | bool | None

_STRING, _INT64 = 2, 4  # feast.types.ValueType
_STRING_TAG, _INT64_TAG, _DOUBLE_TAG, _BOOL_TAG = b"\x12", b"\x20", b"\x29", b"\x38"
_SECONDS_TAG, _NANOS_TAG = b"\x08", b"\x10"
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Of the years 1 and 9999, which a `Timestamp` lies within."""

_INT64_RANGE = range(-(2**63), 2**63)


class CodecError(HeadwaterError, ValueError):
    """A value cannot be written, or bytes in Redis are not what Feast's format has there."""


def entity_key(project: str, entities: tuple[Entity, ...], row: Mapping[str, str | int]) -> bytes:
    """The Redis key of the entity that `row` identifies, one value for each entity's key column."""
    ordered = sorted(entities, key=lambda entity: entity.key)
    parts = [struct.pack("<I", len(ordered))]
    for entity in ordered:
        name = entity.key.encode()
        parts.append(struct.pack("<II", _STRING, len(name)) + name)
    for entity in ordered:
        parts.append(_key_value(entity, row[entity.key]))
    return b"".join(parts) + project.encode()


def decode_entity_key(
    project: str, entities: tuple[Entity, ...], key: bytes
) -> dict[str, str | int] | None:
    """The values that `entity_key` made a key of; None of a key of others."""
    row: dict[str, str | int] = {}
    ordered = sorted(entities, key=lambda entity: entity.key)
    try:
        (count,), place = struct.unpack_from("<I", key), 4
        for _ in range(count):
            _, data, place = _part(key, place)
            row[data.decode()] = ""
        for name in row:
            type_, data, place = _part(key, place)
            row[name] = data.decode() if type_ == _STRING else struct.unpack("<q", data)[0]
        known = entity_key(project, entities, row) == key
    except (struct.error, UnicodeDecodeError, CodecError, KeyError):
        return None
    return row if known and list(row) == [entity.key for entity in ordered] else None


def feature_field(view: str, feature: str) -> bytes:
    """The hash field of a feature, 4 bytes."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    """The hash field of a view's event time."""
    return f"_ts:{view}".encode()


def epoch_field(view: str) -> bytes:
    """The hash field of a view's `<replay epoch>:<event time in ms>`, ours and not Feast's."""
    return f"_ep:{view}".encode()


def trace_field(view: str) -> bytes:
    """The hash field of the trace of a view's newest sampled row, ours and not Feast's.

    It holds the W3C traceparent of the span that wrote the row, a blank and the row's event time
    in milliseconds; newer rows that are not sampled leave it as it is.
    """
    return f"_trace:{view}".encode()


def decode_trace(data: bytes) -> tuple[str, int]:
    """A trace field's traceparent, as it stands there, and event time in milliseconds."""
    traceparent, _, time = data.partition(b" ")
    try:
        return traceparent.decode("ascii"), int(time)
    except ValueError:
        raise _foreign(data) from None


def encode_value(type_: Type, value: Value) -> bytes:
    """`value` as the bytes of a Feast `Value`; CodecError if it is not of `type_`."""
    if value is None:
        return b""
    match type_:
        case Type.STRING if isinstance(value, str):
            data = value.encode()
            return _STRING_TAG + _varint(len(data)) + data
        case Type.BOOL if isinstance(value, bool):
            return _BOOL_TAG + (b"\x01" if value else b"\x00")
        case Type.INT64 | Type.TIMESTAMP if type(value) is int and value in _INT64_RANGE:
            return _INT64_TAG + _varint(value)
        case Type.FLOAT64 if isinstance(value, int | float) and not isinstance(value, bool):
            return _DOUBLE_TAG + struct.pack("<d", value)
    raise CodecError(f"expected `{type_.value}`, got {value!r}")


def decode_value(data: bytes) -> Value:
    """The value in the bytes of a Feast `Value`; CodecError if the bytes are anything else."""
    if not data:
        return None
    tag, body = data[:1], data[1:]
    if tag == _DOUBLE_TAG and len(body) == 8:
        return float(struct.unpack("<d", body)[0])
    if tag == _INT64_TAG:
        number, end = _read_varint(body, 0, data)
        if end == len(body):
            return number - 2**64 if number >= 2**63 else number
    if tag == _STRING_TAG:
        length, start = _read_varint(body, 0, data)
        if start + length == len(body):
            try:
                return body[start:].decode()
            except UnicodeDecodeError:
                raise _foreign(data) from None
    if tag == _BOOL_TAG and body in (b"\x00", b"\x01"):
        return body == b"\x01"
    raise _foreign(data)


def encode_event_time(milliseconds: int) -> bytes:
    """Milliseconds since 1970 UTC as the bytes of a protobuf `Timestamp`."""
    seconds, rest = divmod(milliseconds, 1000)
    result = _SECONDS_TAG + _varint(seconds) if seconds else b""
    return result + (_NANOS_TAG + _varint(rest * 1_000_000) if rest else b"")


def decode_event_time(data: bytes) -> int:
    """Milliseconds since 1970 UTC from the bytes of a protobuf `Timestamp`, rounded down.

    CodecError if it is none, or outside the years 1 to 9999 that a `Timestamp` may hold.
    """
    seconds = nanos = position = 0
    while position < len(data):
        tag = data[position : position + 1]
        number, position = _read_varint(data, position + 1, data)
        if tag == _SECONDS_TAG:
            seconds = number - 2**64 if number >= 2**63 else number
        elif tag == _NANOS_TAG:
            nanos = number
        else:
            raise _foreign(data)
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise _foreign(data)
    return seconds * 1000 + nanos // 1_000_000


def row_encoder(view: FeatureView) -> Callable[[Mapping[str, Any], int], list[Any]]:
    """What gives a row of an event time as Redis holds it: fields and values, first its version.

    Then Feast's timestamp, and the features unless it says that a captured row was deleted.
    """
    columns = [(c.name, feature_field(view.name, c.name), c.type) for c in view.schema]
    version, timestamp = epoch_field(view.name), timestamp_field(view.name)
    captured = isinstance(view.source, CdcTable)

    def encode(row: Mapping[str, Any], time: int) -> list[Any]:
        values: list[Any] = [version, f"0:{time}", timestamp, encode_event_time(time)]
        if captured and all(row[name] is None for name, _, _ in columns):
            return values
        for name, field, type_ in columns:
            values += [field, encode_value(type_, row[name])]
        return values

    return encode


def key_encoder(
    project: str, entities: Iterable[Entity]
) -> tuple[tuple[str, ...], Callable[..., bytes]]:
    """The key columns in Feast's order, and what makes a Redis key of their values.

    The same bytes as `entity_key`, with all that does not depend on the values worked out before.
    For values of another type it raises CodecError, UnicodeEncodeError, AttributeError or
    struct.error; ask `entity_key` what is wrong.
    """
    ordered = sorted(entities, key=lambda entity: entity.key)
    head = struct.pack("<I", len(ordered))
    for entity in ordered:
        head += struct.pack("<II", _STRING, len(name := entity.key.encode())) + name
    tail = project.encode()
    names = tuple(entity.key for entity in ordered)
    strings = all(entity.type is Type.STRING for entity in ordered)
    pack = struct.Struct("<II").pack
    if strings and len(ordered) == 1:

        def one(value: str) -> bytes:
            data = value.encode()
            return head + pack(_STRING, len(data)) + data + tail

        return names, one
    if strings and len(ordered) == 2:

        def two(first: str, second: str) -> bytes:
            a, b = first.encode(), second.encode()
            return head + pack(_STRING, len(a)) + a + pack(_STRING, len(b)) + b + tail

        return names, two

    def any_(*values: str | int) -> bytes:
        return head + b"".join(map(_key_value, ordered, values)) + tail

    return names, any_


def column_decoder(type_: Type) -> Callable[[Sequence[bytes | None], list[int]], Sequence[Value]]:
    """What decodes the bytes of one feature of many entities; None for missing and for null.

    The places of bytes that are no value of `type_` are appended to its second argument, and
    their values are None. The usual bytes are looked up in tables or unpacked together, without
    a step of Python's for each.
    """
    if type_ is Type.FLOAT64:
        return _decode_floats
    table = _BOOLS if type_ is Type.BOOL else _INTS
    look_up = {Type.STRING: _NULLS}.get(type_, table).__getitem__

    def decode(data: Sequence[bytes | None], bad: list[int]) -> Sequence[Value]:
        try:
            return list(map(look_up, data))
        except KeyError:
            return _decode_each(type_, data, bad)

    return decode


def count_older(data: Iterable[bytes | None], milliseconds: int) -> int:
    """How many of the event times in `data` are of a second before that of `milliseconds`.

    Exact for times from August 1978 on; of older ones it may miss some.
    """
    # Five varint bytes, reversed, sort as their seconds do; times up to 2106 have five.
    limit = _varint(max(milliseconds // 1000, _FIVE_BYTES))[::-1]
    return sum(
        (order := time[5:0:-1]) < limit or (order > _NEWEST and _is_older(time, milliseconds))
        for time in data
        if time is not None
    )


_FIVE_BYTES = 2**28
_NEWEST = b"\x0f\xff\xff\xff\x7f"
_NULLS: dict[bytes | None, Value] = {None: None, b"": None}
_BOOLS = _NULLS | {b"\x38\x00": False, b"\x38\x01": True}


def _decode_floats(data: Sequence[bytes | None], bad: list[int]) -> Sequence[Value]:
    present = data if all(data) else [value for value in data if value]
    whole = b"".join(present)  # type: ignore[arg-type]
    count = len(present)
    if len(whole) != 9 * count or whole[::9] != _DOUBLE_TAG * count:
        return _decode_each(Type.FLOAT64, data, bad)
    numbers = _doubles(count).unpack(whole)
    if present is data:
        return numbers
    following = iter(numbers)
    return [next(following) if value else None for value in data]


@lru_cache(maxsize=1024)
def _doubles(count: int) -> struct.Struct:
    return struct.Struct("<" + "xd" * count)


_PYTHON_TYPES = {
    Type.STRING: str,
    Type.INT64: int,
    Type.TIMESTAMP: int,
    Type.FLOAT64: float,
    Type.BOOL: bool,
}


def _decode_each(type_: Type, data: Sequence[bytes | None], bad: list[int]) -> Sequence[Value]:
    wanted = _PYTHON_TYPES[type_]
    result: list[Value] = []
    for place, value in enumerate(data):
        found: Value = None
        if value:
            try:
                found = decode_value(value)
            except CodecError:
                bad.append(place)
            else:
                if type(found) is not wanted:
                    bad.append(place)
                    found = None
        result.append(found)
    return result


def _is_older(time: bytes, milliseconds: int) -> bool:
    try:
        return decode_event_time(time) // 1000 < milliseconds // 1000
    except CodecError:
        return False


def _part(key: bytes, place: int) -> tuple[int, bytes, int]:
    """The type and bytes of a part of an entity's key, and where the next one begins."""
    type_, length = struct.unpack_from("<II", key, place)
    end = place + 8 + length
    return type_, key[place + 8 : end], end


def _key_value(entity: Entity, value: str | int) -> bytes:
    if entity.type is Type.STRING and isinstance(value, str):
        data = value.encode()
        return struct.pack("<II", _STRING, len(data)) + data
    if entity.type is Type.INT64 and type(value) is int and value in _INT64_RANGE:
        return struct.pack("<IIq", _INT64, 8, value)
    raise CodecError(f"entity {entity.name}: expected `{entity.type.value}`, got {value!r}")


def _varint(number: int) -> bytes:
    number &= 2**64 - 1  # protobuf writes a negative int64 as its two's complement
    result = bytearray()
    while number > 0x7F:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    result.append(number)
    return bytes(result)


def _read_varint(data: bytes, position: int, whole: bytes) -> tuple[int, int]:
    number = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & (2**64 - 1), position
        shift += 7
    raise _foreign(whole)


def _foreign(data: bytes) -> CodecError:
    shown = data[:16].hex(" ") + (" …" if len(data) > 16 else "")
    return CodecError(f"not a value of Feast's Redis format: {len(data)} bytes, {shown}")


_INTS = _NULLS | {_INT64_TAG + _varint(number): number for number in range(1 << 14)}
