"""One event of a stream: its JSON Schema, and the check a producer makes before it sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.errors import EventError
from schemas.sources import EVENT_TIME, EventStream
from schemas.types import INT64, Column, Type

_JSON = {
    Type.STRING: "string",
    Type.INT64: "integer",
    Type.FLOAT64: "number",
    Type.BOOL: "boolean",
    Type.TIMESTAMP: "integer",
}
MILLISECONDS = "milliseconds since 1970 UTC"
"""Ends the description of a timestamp, which JSON has no type for."""

_TIME = Column(EVENT_TIME, Type.TIMESTAMP, description="When it happened")


def json_schema(stream: EventStream) -> dict[str, Any]:
    """The stream's events as a JSON Schema (2020-12), ready to be dumped."""
    columns = (_TIME, *stream.columns)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{stream.topic}.v{stream.version}.json",
        "title": stream.name,
        "description": stream.description,
        "type": "object",
        "properties": {column.name: _property(column) for column in columns},
        "required": [column.name for column in columns if column.required],
        "additionalProperties": False,
    }


def check_event(stream: EventStream, event: Mapping[str, object]) -> None:
    """Raise EventError, naming the path of the first wrong value, unless `event` fits `stream`."""
    columns = {column.name: column for column in (_TIME, *stream.columns)}
    for name in event:
        if name not in columns:
            raise EventError(
                f"{stream.name}: unknown field - at `$.{name}`; fields: {', '.join(columns)}"
            )
    for name, column in columns.items():
        value = event.get(name)
        if value is None:
            if column.required:
                raise EventError(f"{stream.name}: required `{column.type.value}` - at `$.{name}`")
        elif not _fits(column.type, value):
            raise EventError(
                f"{stream.name}: expected `{column.type.value}`, got {value!r} - at `$.{name}`"
            )


def _fits(type_: Type, value: object) -> bool:
    match type_:
        case Type.STRING:
            return isinstance(value, str)
        case Type.BOOL:
            return isinstance(value, bool)
        case Type.INT64 | Type.TIMESTAMP:
            return type(value) is int and value in INT64
        case Type.FLOAT64:
            # JSON has no NaN and no infinity.
            return type(value) is int or (type(value) is float and abs(value) < float("inf"))


def _property(column: Column) -> dict[str, Any]:
    name = _JSON[column.type]
    result: dict[str, Any] = {"type": name if column.required else [name, "null"]}
    description = column.description
    if column.type is Type.TIMESTAMP:
        description = f"{description}; {MILLISECONDS}".removeprefix("; ")
    if description:
        result["description"] = description
    return result
