"""Features that are computed when they are asked for, as data that becomes Python and SQL alike.

    delay = stored("origin_delays:dep_delay_mean_1h")
    OnDemandView(
        "flight_now",
        inputs=(Column("planned_minutes", Type.INT64),),
        features=(
            Computed("delay_share", delay / given("planned_minutes")),
            Computed("is_late", when(delay > 15, True, False)),
            Computed("idle_seconds", since(stored("aircraft_state:landed_at"))),
        ),
    )

The rules are the same wherever it is computed. Numbers are float64. A null operand makes null, and
so does what is no finite number, such as a division by zero; a null condition takes the other
branch. `since` is in seconds up to the moment of the request, or of the training row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.errors import DeclarationError
from schemas.types import (
    Column,
    Type,
    check_name,
    check_number,
    check_tuple,
    check_type,
    check_unique,
)

Constant = str | float | bool

_CONSTANTS = (str, bool, int, float)
_ARITHMETIC = ("+", "-", "*", "/")
_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")
_INSIDE = {Type.INT64: Type.FLOAT64}


@dataclass(frozen=True, eq=False)
class Expression:
    """What is computed; its operators make larger ones."""

    def __add__(self, other: Expression | Constant) -> Expression:
        return Arithmetic("+", self, _expression(other))

    def __sub__(self, other: Expression | Constant) -> Expression:
        return Arithmetic("-", self, _expression(other))

    def __mul__(self, other: Expression | Constant) -> Expression:
        return Arithmetic("*", self, _expression(other))

    def __truediv__(self, other: Expression | Constant) -> Expression:
        return Arithmetic("/", self, _expression(other))

    def __lt__(self, other: Expression | Constant) -> Expression:
        return Compared("<", self, _expression(other))

    def __le__(self, other: Expression | Constant) -> Expression:
        return Compared("<=", self, _expression(other))

    def __gt__(self, other: Expression | Constant) -> Expression:
        return Compared(">", self, _expression(other))

    def __ge__(self, other: Expression | Constant) -> Expression:
        return Compared(">=", self, _expression(other))

    def equals(self, other: Expression | Constant) -> Expression:
        """Whether both are the same."""
        return Compared("=", self, _expression(other))

    def differs(self, other: Expression | Constant) -> Expression:
        """Whether they are not the same."""
        return Compared("<>", self, _expression(other))

    def __bool__(self) -> bool:
        """Refused: `1 < x < 5` would quietly lose a half."""
        raise DeclarationError("expression", "has no truth value", type(self).__name__)


@dataclass(frozen=True, eq=False)
class Fixed(Expression):
    """A constant: a number, a text or a truth value; there is no null of its own."""

    value: Constant

    def __post_init__(self) -> None:
        if type(self.value) not in _CONSTANTS:
            choices = [kind.__name__ for kind in _CONSTANTS]
            raise DeclarationError("expression", "a constant cannot be this", self.value, choices)
        if not isinstance(self.value, str):
            check_number("expression", self.value)


@dataclass(frozen=True, eq=False)
class Stored(Expression):
    """A feature that the platform keeps, as `view:feature`."""

    feature: str


@dataclass(frozen=True, eq=False)
class Given(Expression):
    """What comes with the request."""

    name: str


@dataclass(frozen=True, eq=False)
class Arithmetic(Expression):
    """Two numbers made one by `+`, `-`, `*` or `/`."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, eq=False)
class Compared(Expression):
    """Two values of one type compared."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, eq=False)
class Chosen(Expression):
    """One of two values of one type, by a condition."""

    condition: Expression
    then: Expression
    otherwise: Expression


@dataclass(frozen=True, eq=False)
class Since(Expression):
    """Seconds from a timestamp to the moment of the request."""

    moment: Expression


def stored(feature: str) -> Expression:
    """The feature `view:feature`."""
    return Stored(feature)


def given(name: str) -> Expression:
    """The input `name` of the request."""
    return Given(name)


def when(
    condition: Expression, then: Expression | Constant, otherwise: Expression | Constant
) -> Expression:
    """`then` where the condition holds; `otherwise` where it does not or is null."""
    return Chosen(condition, _expression(then), _expression(otherwise))


def since(moment: Expression) -> Expression:
    """Seconds since a timestamp."""
    return Since(moment)


def _expression(value: Expression | Constant) -> Expression:
    return value if isinstance(value, Expression) else Fixed(value)


@dataclass(frozen=True)
class Computed:
    """A feature of an on-demand view."""

    name: str
    expression: Expression

    def __post_init__(self) -> None:
        check_name("feature", self.name)
        check_type(f"feature.{self.name}.expression", Expression, self.expression)


@dataclass(frozen=True)
class OnDemandView:
    """Features computed at request time from stored ones and from what the request gives."""

    name: str
    features: tuple[Computed, ...]
    inputs: tuple[Column, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        check_name("view", self.name)
        path = f"view.{self.name}"
        check_tuple(f"{path}.features", Computed, self.features)
        check_tuple(f"{path}.inputs", Column, self.inputs)
        if not self.features:
            raise DeclarationError(f"{path}.features", "needs at least one feature", ())
        check_unique(f"{path}.features", (feature.name for feature in self.features))
        check_unique(f"{path}.inputs", (column.name for column in self.inputs))

    def schema(self, known: Mapping[str, Type]) -> tuple[Column, ...]:
        """The features' types; DeclarationError if one does not hold together.

        `known` are the types of all stored features, by `view:feature`.
        """
        given = {column.name: column.type for column in self.inputs}
        return tuple(
            Column(
                feature.name,
                result_type(
                    f"view.{self.name}.features.{feature.name}", feature.expression, known, given
                ),
                required=False,
            )
            for feature in self.features
        )

    @property
    def reads(self) -> tuple[str, ...]:
        """The stored features it is computed from, each once."""
        found = (name for feature in self.features for name in stored_of(feature.expression))
        return tuple(dict.fromkeys(found))


def stored_of(expression: Expression) -> Iterable[str]:
    """Every stored feature in an expression."""
    if isinstance(expression, Stored):
        yield expression.feature
    for part in parts(expression):
        yield from stored_of(part)


def given_of(expression: Expression) -> Iterable[str]:
    """Every input in an expression."""
    if isinstance(expression, Given):
        yield expression.name
    for part in parts(expression):
        yield from given_of(part)


def parts(expression: Expression) -> tuple[Expression, ...]:
    """What an expression is made of."""
    match expression:
        case Arithmetic(_, left, right) | Compared(_, left, right):
            return left, right
        case Chosen(condition, then, otherwise):
            return condition, then, otherwise
        case Since(moment):
            return (moment,)
    return ()


def result_type(
    path: str, expression: Expression, known: Mapping[str, Type], given: Mapping[str, Type]
) -> Type:
    """The type of what is computed: float64, string, bool or timestamp."""
    match expression:
        case Fixed(value):
            if isinstance(value, bool):
                return Type.BOOL
            return Type.STRING if isinstance(value, str) else Type.FLOAT64
        case Stored(name):
            return _known(path, name, known, "unknown feature")
        case Given(name):
            return _known(path, name, given, "unknown input")
        case Arithmetic(operator, left, right):
            _choice(path, operator, _ARITHMETIC)
            for side in (left, right):
                _expect(path, result_type(path, side, known, given), Type.FLOAT64)
            return Type.FLOAT64
        case Compared(operator, left, right):
            _choice(path, operator, _COMPARISONS)
            type_ = result_type(path, left, known, given)
            _expect(path, result_type(path, right, known, given), type_)
            return Type.BOOL
        case Chosen(condition, then, otherwise):
            _expect(path, result_type(path, condition, known, given), Type.BOOL)
            type_ = result_type(path, then, known, given)
            _expect(path, result_type(path, otherwise, known, given), type_)
            return type_
        case Since(moment):
            _expect(path, result_type(path, moment, known, given), Type.TIMESTAMP)
            return Type.FLOAT64
    raise DeclarationError(path, "unknown expression", type(expression).__name__)


def _known(path: str, name: str, known: Mapping[str, Type], problem: str) -> Type:
    if name not in known:
        raise DeclarationError(path, problem, name, tuple(known))
    return _INSIDE.get(known[name], known[name])


def _choice(path: str, operator: str, choices: tuple[str, ...]) -> None:
    if operator not in choices:
        raise DeclarationError(path, "unknown operator", operator, choices)


def _expect(path: str, found: Type, wanted: Type) -> None:
    if found is not wanted:
        raise DeclarationError(path, f"needs {wanted.value} here", found.value, (wanted.value,))


def document(expression: Expression) -> list[object]:
    """The expression as plain data; `read` is the way back."""
    match expression:
        case Fixed(value):
            return ["fixed", value]
        case Stored(name):
            return ["stored", name]
        case Given(name):
            return ["given", name]
        case Arithmetic(operator, left, right) | Compared(operator, left, right):
            return [operator, document(left), document(right)]
        case Chosen(condition, then, otherwise):
            return ["when", document(condition), document(then), document(otherwise)]
        case Since(moment):
            return ["since", document(moment)]
    raise DeclarationError("expression", "unknown expression", type(expression).__name__)


def read(data: object) -> Expression:
    """What `document` wrote; DeclarationError for anything else."""
    match data:
        case ["fixed", str() | bool() | int() | float() as value]:
            return Fixed(value)
        case ["stored", str() as name]:
            return Stored(name)
        case ["given", str() as name]:
            return Given(name)
        case [str() as operator, left, right] if operator in _ARITHMETIC:
            return Arithmetic(operator, read(left), read(right))
        case [str() as operator, left, right] if operator in _COMPARISONS:
            return Compared(operator, read(left), read(right))
        case ["when", condition, then, otherwise]:
            return Chosen(read(condition), read(then), read(otherwise))
        case ["since", moment]:
            return Since(read(moment))
    raise DeclarationError("expression", "unknown expression", repr(data)[:80])
