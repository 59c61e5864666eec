"""The protocol of Feast's own feature server: `POST /get-online-features`.

Feast's SDK with `online_store: {type: remote}` asks by it. The answer is what `feast serve` 0.67
answers over the same Redis, but that what is not there is `NOT_FOUND`, as the protocol has it:
Feast's server calls it present and null.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from api.auth import Principal
from api.door import decoder
from api.errors import RequestError
from api.lookup import FeatureLookup, Part, rows_of
from api.messages import FeastColumn, FeastMetadata, FeastReply, FeastRequest
from api.plan import Selection, Slot
from api.telemetry import Trace
from connectors.redis_codec import CodecError, Value, decode_event_time

_NEVER = "1970-01-01T00:00:00Z"

_encode = msgspec.json.Encoder().encode
_decode = decoder(FeastRequest)


class FeastAnswers:
    """From the bytes of a request to those of its answer, as Feast has them."""

    def __init__(self, lookup: FeatureLookup) -> None:
        self._lookup = lookup

    async def answer(self, body: bytes, query: bytes, trace: Trace, principal: Principal) -> bytes:
        """The answer to a FeastRequest; RequestError, msgspec.DecodeError, Forbidden or
        StoreUnavailable if there is none."""
        request: FeastRequest = _decode(body)
        if request.feature_service:
            selection = self._lookup.stored(request.feature_service, None, principal)
        else:
            selection = self._lookup.stored(None, request.features, principal)
        names = _names(selection, request.full_feature_names)
        rows = rows_of(request.entities, "$.entities")
        found = await self._lookup.find(selection, rows, trace)
        there = ["PRESENT"] * len(rows)
        results: list[Any] = [
            FeastColumn(values, there, [_NEVER] * len(rows)) for values in request.entities.values()
        ]
        columns = found.columns()
        described: list[Any] = [None] * len(columns)
        if rows:
            for part in found.parts:
                times = {view.time_at: _times(part, view.time_at) for view in part.group.views}
                for slot in part.group.slots:
                    described[slot.at] = _column(part, slot, columns[slot.at], times[slot.time_at])
        else:
            described = [FeastColumn((), [], []) for _ in columns]
        return _encode(
            FeastReply(
                results + described,
                FeastMetadata(
                    [*request.entities, *names],
                    [{"name": view} for view in dict.fromkeys(c.view for c in selection.columns)]
                    if request.include_feature_view_version_metadata
                    else [],
                ),
            )
        )


def _names(selection: Selection, full: bool) -> list[str]:
    names = [name.replace(":", "__") if full else name.split(":")[1] for name in selection.names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestError(
            "$.full_feature_names",
            f"must be true, since several views have {twice}",
            False,
            ("true",),
        )
    return names


def _times(part: Part, at: int) -> list[str]:
    """A view's event times of the rows; Feast tells them also where a feature is not there."""
    return list(part.rows([_time(one) for one in part.by_field[at]]))


def _column(part: Part, slot: Slot, values: Sequence[Value], times: list[str]) -> FeastColumn:
    """One feature: what has no field, as after a delete, or no time is not there."""
    fields, moments = part.by_field[slot.value_at], part.by_field[slot.time_at]
    if None not in fields and None not in moments:
        return FeastColumn(values, ["PRESENT"] * len(values), times)
    there = part.rows([None not in pair for pair in zip(fields, moments, strict=True)])
    return FeastColumn(
        [value if here else None for value, here in zip(values, there, strict=True)],
        ["PRESENT" if here else "NOT_FOUND" for here in there],
        times,
    )


def _time(data: bytes | None) -> str:
    if data is None:
        return _NEVER
    try:
        seconds, rest = divmod(decode_event_time(data), 1000)
    except CodecError:
        return _NEVER
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:03}Z" if rest else f"{text}Z"
