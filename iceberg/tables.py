"""The Iceberg tables of feature views, and of the raw events they are computed from."""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from schemas import EVENT_TIME, EventStream, FeatureView, Type
from schemas.sources import EVENT_DAY

AVAILABLE_AT = "available_at"
TOPIC = "_topic"
PARTITION = "_partition"
OFFSET = "_offset"
ARCHIVED_AT = "_archived_at"
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
    return _schema([*keys, *times], features)


def archive_schema(stream: EventStream) -> Schema:
    """Where each record stood in the log, its event time and schema version, then its columns.

    Names of ours begin with an underscore, which no declared column does.
    """
    ours: list[tuple[str, IcebergType]] = [
        (TOPIC, StringType()),
        (PARTITION, IntegerType()),
        (OFFSET, LongType()),
        (EVENT_TIME, TimestamptzType()),
        ("_schema_version", IntegerType()),
        (ARCHIVED_AT, TimestamptzType()),
    ]
    columns = [(column.name, _ICEBERG[column.type]) for column in stream.columns]
    return _schema(ours, columns)


def quality_schema() -> Schema:
    """What became of an expectation in a window that begins at `event_time`.

    `source` is a stream's name, or `view.` and a view's; `events` are its events or rows, `broken`
    is how many of them broke it; of a `rate`, 1 or 0.
    """
    return _schema(
        [
            ("source", StringType()),
            ("expectation", StringType()),
            (EVENT_TIME, TimestamptzType()),
            ("until", TimestamptzType()),
            ("events", LongType()),
            ("broken", LongType()),
        ]
    )


def archive_partitions(schema: Schema) -> PartitionSpec:
    """By day of event time, and by Kafka's partition: so a file holds one partition in order."""
    day, partition = (schema.find_field(name).field_id for name in (EVENT_TIME, PARTITION))
    return PartitionSpec(
        PartitionField(day, 1000, DayTransform(), EVENT_DAY),
        PartitionField(partition, 1001, IdentityTransform(), PARTITION),
    )


def archive_order(schema: Schema) -> SortOrder:
    """By offset: whoever rewrites a file keeps it so, since replays read it in this order."""
    return SortOrder(SortField(schema.find_field(OFFSET).field_id, IdentityTransform()))


def partition_spec(schema: Schema) -> PartitionSpec:
    """By day of event time, hidden: a reader filters on `event_time` and needs to know nothing."""
    source = schema.find_field(EVENT_TIME).field_id
    return PartitionSpec(PartitionField(source, 1000, DayTransform(), EVENT_DAY))


def describe(view: FeatureView) -> str:
    """The table as text, for the derived plan."""
    return f"table features.{view.name}\n{_fields(table_schema(view))}"


def describe_archive(stream: EventStream) -> str:
    """The table of a stream's raw events as text, for the derived plan."""
    fields = _fields(archive_schema(stream)).rstrip("\n")
    return f"table raw.{stream.name}\n{fields}, {PARTITION}; sorted by {OFFSET}\n"


def _schema(
    required: Sequence[tuple[str, IcebergType]], optional: Sequence[tuple[str, IcebergType]] = ()
) -> Schema:
    """Those columns, numbered as they stand."""
    return Schema(
        *(
            NestedField(number, name, type_, required=number <= len(required))
            for number, (name, type_) in enumerate([*required, *optional], start=1)
        )
    )


def _fields(schema: Schema) -> str:
    fields = "".join(
        f"  {field.field_id}: {field.name} {field.field_type}"
        f"{' required' if field.required else ''}\n"
        for field in schema.fields
    )
    return f"{fields}  partitioned by days({EVENT_TIME})\n"
