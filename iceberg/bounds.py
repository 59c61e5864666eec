"""What the statistics of a table's data files say without reading them."""

from __future__ import annotations

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import PrimitiveType


def bounds(schema: Schema, file: DataFile, name: str) -> tuple[int, int]:
    """No value of a column of integers or times (microseconds) is below the first, above the last.

    ValueError where the file has no statistics of it.
    """
    field = schema.find_field(name)
    assert isinstance(field.field_type, PrimitiveType)
    found = []
    for known in (file.lower_bounds, file.upper_bounds):
        if not known or field.field_id not in known:
            raise ValueError(f"{file.file_path}: no statistics of {name}")
        found.append(int(from_bytes(field.field_type, known[field.field_id])))
    return found[0], found[1]
