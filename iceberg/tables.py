"""The Iceberg table of a feature view."""

from __future__ import annotations

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform
from pyiceberg.types import (
    BooleanType,
    DoubleType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from schemas import EVENT_TIME, FeatureView, Type

AVAILABLE_AT = "available_at"
_ICEBERG: dict[Type, IcebergType] = {
    Type.STRING: StringType(),
    Type.INT64: LongType(),
    Type.FLOAT64: DoubleType(),
    Type.BOOL: BooleanType(),
    Type.TIMESTAMP: TimestamptzType(),
}


def table_schema(view: FeatureView) -> Schema:
    """Required keys, `event_time` and `available_at`, then the features, all of them optional.

    Features stand last so that one added at the end of a view keeps the field ids before it.
    """
    keys = [(entity.key, _ICEBERG[entity.type]) for entity in view.entities]
    times = [(EVENT_TIME, TimestamptzType()), (AVAILABLE_AT, TimestamptzType())]
    features = [(column.name, _ICEBERG[column.type]) for column in view.schema]
    required = len(keys) + len(times)
    return Schema(
        *(
            NestedField(number, name, type_, required=number <= required)
            for number, (name, type_) in enumerate([*keys, *times, *features], start=1)
        )
    )


def partition_spec(schema: Schema) -> PartitionSpec:
    """By day of event time, hidden: a reader filters on `event_time` and needs to know nothing."""
    source = schema.find_field(EVENT_TIME).field_id
    return PartitionSpec(PartitionField(source, 1000, DayTransform(), f"{EVENT_TIME}_day"))


def describe(view: FeatureView) -> str:
    """The table as text, for the derived plan."""
    schema = table_schema(view)
    fields = "".join(
        f"  {field.field_id}: {field.name} {field.field_type}"
        f"{' required' if field.required else ''}\n"
        for field in schema.fields
    )
    return f"table features.{view.name}\n{fields}  partitioned by days({EVENT_TIME})\n"
