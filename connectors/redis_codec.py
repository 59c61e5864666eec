"""Feast's Redis format, written and read without Feast and without protobuf reflection.

One Redis hash per entity holds the features of all its views, in the layout of Feast 0.67 with
entity key serialization version 3 (`feast/infra/key_encoding_utils.py` and
`feast/infra/online_stores/redis.py`):

    key     serialized entity key, then the project's name
    field   4 bytes: murmur3 of `view:feature`, little-endian   -> a `Value` message
    field   `_ts:<view>`                                        -> a `Timestamp` message

A null feature is an empty `Value`. A timestamp feature is kept as int64 milliseconds, since
Feast's own timestamp holds whole seconds and would lose the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import mmh3

from schemas import Entity, HeadwaterError, Type

Value = str | int | float | bool | None

_STRING, _INT64 = 2, 4  # feast.types.ValueType
_STRING_TAG, _INT64_TAG, _DOUBLE_TAG, _BOOL_TAG = b"\x12", b"\x20", b"\x29", b"\x38"
_SECONDS_TAG, _NANOS_TAG = b"\x08", b"\x10"
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


def feature_field(view: str, feature: str) -> bytes:
    """The hash field of a feature, 4 bytes."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    """The hash field of a view's event time."""
    return f"_ts:{view}".encode()


def epoch_field(view: str) -> bytes:
    """The hash field of a view's `<replay epoch>:<event time in ms>`, ours and not Feast's."""
    return f"_ep:{view}".encode()


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
    """Milliseconds since 1970 UTC from the bytes of a protobuf `Timestamp`, rounded down."""
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
    return seconds * 1000 + nanos // 1_000_000


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
