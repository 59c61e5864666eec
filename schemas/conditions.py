"""Which rows count: columns compared with literals, as data that can become SQL, text or a test.

    col("dep_delay") > 15
    (col("carrier") == "AA") & col("tailnum").is_not_null()

As in SQL, a comparison with a null is not true; `!=` neither.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from schemas.errors import DeclarationError
from schemas.types import Column, Type, check_column, check_name, check_number, check_text

Literal = str | int | float | bool


class Operator(Enum):
    """How a column is compared; the value is that of SQL."""

    EQ = "="
    NE = "<>"
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    IS_NULL = "IS NULL"
    IS_NOT_NULL = "IS NOT NULL"

    @property
    def is_unary(self) -> bool:
        """True for the operators that take no literal."""
        return self in (Operator.IS_NULL, Operator.IS_NOT_NULL)


_LITERALS: dict[Type, tuple[type, ...]] = {
    Type.STRING: (str,),
    Type.INT64: (int,),
    Type.FLOAT64: (int, float),
    Type.BOOL: (bool,),
    Type.TIMESTAMP: (int,),
}
_WORDS = {Operator.EQ: "is", Operator.NE: "not"}


@dataclass(frozen=True)
class Comparison:
    """One column compared with one literal; `literal` is None for the unary operators."""

    column: str
    operator: Operator
    literal: Literal | None = None

    def __post_init__(self) -> None:
        path = f"condition.{self.column}"
        if (self.literal is None) != self.operator.is_unary:
            raise DeclarationError(
                path, f"{self.operator.value} needs a literal, or must have none", self.literal
            )
        if isinstance(self.literal, str):
            check_text(path, self.literal)
        elif isinstance(self.literal, int | float):
            check_number(path, self.literal)

    @property
    def label(self) -> str:
        """`dep_delay_gt_15`, `carrier_is_aa`, `tailnum_is_null`; part of a feature's name."""
        if self.literal is None:
            return f"{self.column}_{self.operator.name.lower()}"
        text = str(self.literal)
        word = re.sub(r"[^a-z0-9]+", "_", text.lower().replace("-", "minus_", 1)).strip("_")
        if isinstance(self.literal, str) and text.upper() != word.upper():
            # Two texts may come to the same word: their digests tell them apart.
            word = f"{word}_{hashlib.sha256(text.encode()).hexdigest()[:4]}".strip("_")
        return f"{self.column}_{_WORDS.get(self.operator, self.operator.name.lower())}_{word}"

    def check(self, path: str, columns: Iterable[Column]) -> None:
        """DeclarationError unless the column exists and its type suits operator and literal."""
        column = check_column(path, columns, self.column)
        if self.literal is None:
            return
        if type(self.literal) not in _LITERALS[column.type]:
            raise DeclarationError(
                f"{path}.{self.column}", f"a {column.type.value} compares with", self.literal
            )
        if column.type is Type.BOOL and self.operator not in _WORDS:
            raise DeclarationError(
                f"{path}.{self.column}", "a bool has no order", self.operator.value, ("=", "<>")
            )


@dataclass(frozen=True)
class Condition:
    """Comparisons that must all hold; `name` takes the place of the derived label."""

    comparisons: tuple[Comparison, ...]
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.comparisons:
            raise DeclarationError("condition.comparisons", "needs at least one", ())
        if self.name is not None:
            check_name("condition", self.name)

    def __and__(self, other: Condition) -> Condition:
        """Both; the name, if either had one, is dropped."""
        return Condition(self.comparisons + other.comparisons)

    def __bool__(self) -> bool:
        """Refused: `1 < col("x") < 5` and `a and b` would quietly lose a half."""
        raise DeclarationError("condition", "has no truth value; join with &", self.label)

    def called(self, name: str) -> Condition:
        """The same under a name of its own, for features whose names would be long."""
        return replace(self, name=name)

    @property
    def label(self) -> str:
        """Part of a feature's name."""
        return self.name or "_and_".join(comparison.label for comparison in self.comparisons)

    def check(self, path: str, columns: Iterable[Column]) -> None:
        """DeclarationError unless every comparison suits the columns."""
        for comparison in self.comparisons:
            comparison.check(path, columns)


class col:
    """A column, to be compared: `col("dep_delay") > 15`."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, column: str) -> None:
        self._column = column

    def _with(self, operator: Operator, literal: Literal | None = None) -> Condition:
        return Condition((Comparison(self._column, operator, literal),))

    def __eq__(self, literal: Literal) -> Condition:  # type: ignore[override]
        return self._with(Operator.EQ, literal)

    def __ne__(self, literal: Literal) -> Condition:  # type: ignore[override]
        return self._with(Operator.NE, literal)

    def __lt__(self, literal: Literal) -> Condition:
        return self._with(Operator.LT, literal)

    def __le__(self, literal: Literal) -> Condition:
        return self._with(Operator.LE, literal)

    def __gt__(self, literal: Literal) -> Condition:
        return self._with(Operator.GT, literal)

    def __ge__(self, literal: Literal) -> Condition:
        return self._with(Operator.GE, literal)

    def is_null(self) -> Condition:
        """Rows without a value in the column."""
        return self._with(Operator.IS_NULL)

    def is_not_null(self) -> Condition:
        """Rows with a value in the column."""
        return self._with(Operator.IS_NOT_NULL)
