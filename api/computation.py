"""Features computed when they are asked for, from what was read and what the request gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from api.errors import RequestError
from api.messages import FeatureValue, Status
from connectors.computed import Evaluate, Row, Scalar, evaluator
from connectors.registered import ServedOnDemand
from schemas import Column, Type
from schemas.expressions import given_of, read, stored_of

_WORST: tuple[Status, ...] = ("unreadable", "missing", "replaying", "stale", "present")
_TYPES: dict[Type, tuple[type, ...]] = {
    Type.STRING: (str,),
    Type.INT64: (int,),
    Type.FLOAT64: (int, float),
    Type.BOOL: (bool,),
    Type.TIMESTAMP: (int,),
}
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class ComputedColumn:
    """One computed feature; `reads` and `takes` are what it is computed from."""

    name: str  # view:feature
    view: str
    evaluate: Evaluate
    reads: tuple[str, ...]
    takes: tuple[Column, ...]


def computed(view: ServedOnDemand, stored: Mapping[str, Type]) -> Iterable[ComputedColumn]:
    """The features of a view; DeclarationError or KeyError if one does not hold together."""
    inputs = {column.name: column for column in view.inputs}
    types = {name: column.type for name, column in inputs.items()}
    for feature in view.features:
        expression = read(feature.expression)
        yield ComputedColumn(
            f"{view.name}:{feature.name}",
            view.name,
            evaluator(expression, stored, types),
            tuple(dict.fromkeys(stored_of(expression))),
            tuple(inputs[name] for name in dict.fromkeys(given_of(expression))),
        )


@dataclass(frozen=True)
class Computation:
    """What is answered, in order, of what was read: a column of it, or one computed from it."""

    names: tuple[str, ...]
    names_json: bytes
    first: str
    read: tuple[str, ...]
    outputs: tuple[int | ComputedColumn, ...]
    inputs: tuple[Column, ...]

    @classmethod
    def of(
        cls, names: Sequence[str], read: Sequence[str], known: Mapping[str, ComputedColumn]
    ) -> Computation:
        """The columns `names`, where the stored ones `read` are there."""
        place = {name: at for at, name in enumerate(read)}
        wanted = [known[name] for name in names if name in known]
        inputs = {column.name: column for one in wanted for column in one.takes}
        for one in wanted:
            for column in one.takes:
                if inputs[column.name].type is not column.type:
                    types = {column.type.value, inputs[column.name].type.value}
                    raise RequestError(
                        "$.features",
                        "two views take inputs of one name and other types",
                        column.name,
                        sorted(types),
                    )
        return cls(
            tuple(names),
            msgspec.json.encode(tuple(names)),
            wanted[0].name,
            tuple(read),
            tuple(known[name] if name in known else place[name] for name in names),
            tuple(inputs.values()),
        )

    def checked(self, inputs: Sequence[Row] | None, count: int) -> Sequence[Row]:
        """The inputs of `count` rows; RequestError for the first that does not fit."""
        if inputs is None:
            if self.inputs and count:
                names = [column.name for column in self.inputs]
                raise RequestError("$.inputs", "missing", None, names)
            return [{}] * count
        if len(inputs) != count:
            raise RequestError("$.inputs", f"needs one for each of {count} entities", len(inputs))
        known = {column.name: column for column in self.inputs}
        for at, row in enumerate(inputs):
            for name in known:
                if name not in row:
                    raise RequestError(f"$.inputs[{at}].{name}", "missing input", None, known)
            for name, value in row.items():
                path = f"$.inputs[{at}].{name}"
                if name not in known:
                    raise RequestError(path, "unknown input", name, known)
                type_ = known[name].type
                if value is not None and (
                    type(value) not in _TYPES[type_]
                    or (isinstance(value, int) and value not in _INT64)
                ):
                    raise RequestError(path, f"expected `{type_.value}`", value)
        return inputs

    def columns(
        self, found: Sequence[Sequence[Scalar]], inputs: Sequence[Row], now: float
    ) -> list[Sequence[Scalar]]:
        """The values of each of `names`."""
        moment = round(now * 1000)
        if any(not isinstance(one, int) for one in self.outputs):
            rows = [dict(zip(self.read, row, strict=True)) for row in zip(*found, strict=True)]
            rows = rows or [{} for _ in inputs]
        return [
            found[one]
            if isinstance(one, int)
            else [one.evaluate(row, given, moment) for row, given in zip(rows, inputs, strict=True)]
            for one in self.outputs
        ]

    def described(
        self, found: Sequence[Sequence[FeatureValue]], inputs: Sequence[Row], now: float
    ) -> list[Sequence[FeatureValue]]:
        """The same, each as old as the oldest and as good as the worst of what it is made of."""
        values = self.columns([[one.value for one in column] for column in found], inputs, now)
        place = {name: at for at, name in enumerate(self.read)}
        result: list[Sequence[FeatureValue]] = []
        for output, column in zip(self.outputs, values, strict=True):
            if isinstance(output, int):
                result.append(found[output])
                continue
            made_of = [found[place[name]] for name in output.reads]
            result.append(
                [_described(value, [one[at] for one in made_of]) for at, value in enumerate(column)]
            )
        return result


def _described(value: Scalar, made_of: Sequence[FeatureValue]) -> FeatureValue:
    statuses = {one.status for one in made_of}
    status: Status = next((one for one in _WORST if one in statuses), "present")
    oldest = min(
        (one for one in made_of if one.event_time is not None),
        key=lambda one: one.event_time or datetime.now(UTC),
        default=None,
    )
    if oldest is None:
        return FeatureValue(value, None, None, status)
    return FeatureValue(value, oldest.event_time, oldest.age_seconds, status)
