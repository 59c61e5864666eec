"""A lookup's answer in each of its four shapes, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

import msgspec

from api.auth import Principal
from api.computation import Computation
from api.door import decoder
from api.errors import RequestError
from api.lookup import FeatureLookup, Found, transposed
from api.messages import (
    ColumnsAnswer,
    FeatureColumnDocument,
    FeatureValue,
    LookupAnswer,
    LookupRequest,
    Row,
)
from api.telemetry import Trace

_CHOICES = {"include": ("values", "metadata"), "orient": ("rows", "columns")}
_LEAN = (False, False)

_encode = msgspec.json.Encoder().encode
_decode = decoder(LookupRequest)


class FeatureAnswers:
    """From the bytes of a request to those of its answer."""

    def __init__(self, lookup: FeatureLookup) -> None:
        self._lookup = lookup

    async def answer(self, body: bytes, query: bytes, trace: Trace, principal: Principal) -> bytes:
        """The answer to a LookupRequest; RequestError, msgspec.DecodeError, Forbidden or
        StoreUnavailable if there is none."""
        metadata, by_column = shape = _shape(query) if query else _LEAN
        request: LookupRequest = _decode(body)
        selection = self._lookup.selection(request.service, request.features, principal)
        found = await self._lookup.find(selection, request.entities, trace)
        if selection.computation is not None:
            return _computed(selection.computation, found, request, shape)
        if request.inputs is not None:
            raise RequestError("$.inputs", "none of the features takes any", len(request.inputs))
        if metadata:
            return _described(selection.names, found.with_metadata(), request.entities, by_column)
        if by_column:
            return b'{"features":%b,"columns":%b}' % (
                selection.names_json,
                _encode(found.columns()),
            )
        return b'{"features":%b,"rows":%b}' % (selection.names_json, found.rows_json())


def _computed(
    computation: Computation, found: Found, request: LookupRequest, shape: tuple[bool, bool]
) -> bytes:
    inputs = computation.checked(request.inputs, found.count)
    metadata, by_column = shape
    if metadata:
        described = computation.described(found.with_metadata(), inputs, found.now)
        return _described(computation.names, described, request.entities, by_column)
    columns = computation.columns(found.columns(), inputs, found.now)
    if by_column:
        return b'{"features":%b,"columns":%b}' % (computation.names_json, _encode(columns))
    rows = transposed(columns, found.count)
    return b'{"features":%b,"rows":%b}' % (computation.names_json, _encode(rows))


def _described(
    names: Sequence[str],
    columns: Sequence[Sequence[FeatureValue]],
    entities: Sequence[dict[str, str | int]],
    by_column: bool,
) -> bytes:
    if by_column:
        return _described_columns(names, columns)
    rows = transposed(columns, len(entities))
    return _encode(
        LookupAnswer(
            [
                Row(entity, dict(zip(names, row, strict=True)))
                for entity, row in zip(entities, rows, strict=True)
            ]
        )
    )


def _described_columns(names: Sequence[str], columns: Sequence[Sequence[FeatureValue]]) -> bytes:
    return _encode(
        ColumnsAnswer(
            [
                FeatureColumnDocument(
                    name,
                    [one.value for one in column],
                    [one.event_time for one in column],
                    [one.age_seconds for one in column],
                    [one.status for one in column],
                )
                for name, column in zip(names, columns, strict=True)
            ]
        )
    )


def _shape(query: bytes) -> tuple[bool, bool]:
    """Whether with metadata, and whether by column; RequestError for anything else."""
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    for name, value in given.items():
        if name not in _CHOICES:
            raise RequestError(f"?{name}", "unknown parameter", name, _CHOICES)
        if value not in _CHOICES[name]:
            raise RequestError(f"?{name}", "unknown choice", value, _CHOICES[name])
    return given.get("include") == "metadata", given.get("orient") == "columns"
