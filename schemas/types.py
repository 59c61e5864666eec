"""Column types, durations and names: the words every declaration is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import isfinite
from types import NoneType

from schemas.errors import DeclarationError

INT64 = range(-(2**63), 2**63)
"""The whole numbers that columns, and literals of Flink SQL, can be."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,244}\Z")


class Type(Enum):
    """The types of a column or feature; the value is the name used in derived plans."""

    STRING = "string"
    INT64 = "int64"
    FLOAT64 = "float64"
    BOOL = "bool"
    TIMESTAMP = "timestamp"  # an instant, milliseconds since 1970 UTC on the wire

    @property
    def is_numeric(self) -> bool:
        """True for the types that can be added up."""
        return self in (Type.INT64, Type.FLOAT64)


@dataclass(frozen=True, order=True)
class Duration:
    """A length of event time in whole, positive seconds."""

    seconds: int

    def __post_init__(self) -> None:
        if type(self.seconds) is not int:
            raise DeclarationError("duration", "must be whole seconds", self.seconds)
        if self.seconds <= 0:
            raise DeclarationError("duration", "must be positive, in seconds", self.seconds)

    def __str__(self) -> str:
        for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
            if self.seconds % size == 0:
                return f"{self.seconds // size}{unit}"
        return f"{self.seconds}s"


def seconds(count: float) -> Duration:
    """`count` seconds."""
    return _whole(count, 1)


def minutes(count: float) -> Duration:
    """`count` minutes: whole seconds, as 1.5 minutes are."""
    return _whole(count, 60)


def hours(count: float) -> Duration:
    """`count` hours: whole seconds, as half an hour is."""
    return _whole(count, 3_600)


def days(count: float) -> Duration:
    """`count` days of 24 hours: whole seconds, as half a day is."""
    return _whole(count, 86_400)


def _whole(count: float, unit: int) -> Duration:
    check_number("duration", count)
    # Of its decimals: 1.1 hours are 3960 seconds, and a float times 3600 is a little more.
    exact = Fraction(str(count)) * unit
    if exact.denominator != 1:
        raise DeclarationError("duration", "must come to whole seconds", count)
    return Duration(int(exact))


@dataclass(frozen=True)
class Column:
    """One column of a source."""

    name: str
    type: Type
    required: bool = True
    description: str = ""

    def __post_init__(self) -> None:
        check_name("column", self.name)
        check_column_type(f"column.{self.name}.type", self.type)


def check_type(path: str, kind: type | tuple[type, ...], value: object) -> None:
    """Raise DeclarationError for a value that is no `kind`, or none of those."""
    if isinstance(value, kind):
        return
    kinds = [one for one in (kind if isinstance(kind, tuple) else (kind,)) if one is not NoneType]
    problem = f"must be {' or '.join(_with_article(one.__name__) for one in kinds)}"
    if Duration in kinds:
        problem += ", such as hours(24)"
    elif isinstance(value, tuple) and value and all(isinstance(one, kind) for one in value):
        problem += ": several, as they are made by a function, take a * before it"
    raise DeclarationError(path, problem, value)


def check_tuple(path: str, kind: type | tuple[type, ...], values: object) -> None:
    """Raise DeclarationError for what is no tuple of `kind`, naming the first that is wrong."""
    if not isinstance(values, tuple):
        raise DeclarationError(path, "must be a tuple: (one,) has a comma behind it", values)
    for place, value in enumerate(values):
        check_type(f"{path}[{place}]", kind, value)


def check_column_type(path: str, type_: object) -> None:
    """Raise DeclarationError, with the types there are, for what is none of them."""
    if not isinstance(type_, Type):
        raise DeclarationError(path, "must be a Type", type_, (f"Type.{one.name}" for one in Type))


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


def check_name(path: str, name: str) -> None:
    """Raise DeclarationError unless `name` is lower snake case of at most 63 characters.

    63 is PostgreSQL's identifier limit, the shortest of the systems a name ends up in.
    """
    if not isinstance(name, str) or not _NAME.match(name):
        raise DeclarationError(f"{path}.name", "must be lower_snake_case, 1 to 63 characters", name)


def check_topic(path: str, topic: str) -> None:
    """Raise DeclarationError unless Kafka has topics of that name, and of it with what is added.

    249 characters at most, of which `.dead` and `.late` take five.
    """
    if not isinstance(topic, str) or topic in (".", "..") or not _TOPIC.match(topic):
        raise DeclarationError(
            path, "must be 1 to 244 of the characters a-z A-Z 0-9 . _ - and not . or ..", topic
        )


def check_apart(path: str, problem: str, made: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Raise DeclarationError for the first name that is made of two declarations.

    `made` are declared names, each with the names that are made of it.
    """
    owners: dict[str, str] = {}
    for owner, names in made:
        for name in names:
            if name in owners:
                raise DeclarationError(
                    path, f"{problem} of that name for {owners[name]} and for {owner}", name
                )
            owners[name] = owner


def check_free(path: str, names: Iterable[str], taken: Iterable[str]) -> None:
    """Raise DeclarationError for the first name that a job or a table has a column of already."""
    for name in names:
        if name in taken:
            raise DeclarationError(
                path, "a column of the platform's own: choose another name", name
            )


def check_text(path: str, text: str) -> None:
    """Raise DeclarationError for a text that would have a meaning of its own in a job's script."""
    if "${" in text or (text and not text.isprintable()):
        raise DeclarationError(path, "must be printable, without `${`", text)


def check_number(path: str, number: float) -> None:
    """Raise DeclarationError for a number that SQL does not take: not finite, or beyond int64.

    A whole one beyond int64 is refused where float64 is meant, too: with a point it is one.
    """
    if isinstance(number, int):
        if number not in INT64:
            raise DeclarationError(
                path, "a whole number is from -2^63 to 2^63 - 1; a float64 may be larger", number
            )
    elif not isfinite(number):
        raise DeclarationError(path, "needs a finite number", number)


def check_unique(path: str, names: Iterable[str]) -> None:
    """Raise DeclarationError for the first name that stands twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DeclarationError(path, "two declarations have the same name", name)
        seen.add(name)


def check_column(path: str, columns: Iterable[Column], name: str) -> Column:
    """The column called `name`, or a DeclarationError that lists the columns there are."""
    by_name = {column.name: column for column in columns}
    if name not in by_name:
        raise DeclarationError(path, "unknown column", name, by_name)
    return by_name[name]
