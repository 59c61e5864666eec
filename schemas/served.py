"""The log of what was served: itself a stream, which the archive keeps like any other."""

from __future__ import annotations

from schemas.sources import EventStream
from schemas.types import Column, Type


def served_stream(project: str) -> EventStream:
    """An event for each row of a logged answer and each view in it.

    Its event time is when the answer was made. `entity` and `answered` are JSON objects: the
    entity's keys, and the values by feature; `value_time` is the values' own event time.
    """
    return EventStream(
        name=f"{project}_served",
        topic=f"{project}.served",
        columns=(
            Column("trace_id", Type.STRING),
            Column("view", Type.STRING),
            Column("entity", Type.STRING),
            Column("value_time", Type.TIMESTAMP, required=False),
            Column("answered", Type.STRING),
        ),
        partition_by="trace_id",
        description="What the API has answered: a sample, to be held against a recomputation",
    )
