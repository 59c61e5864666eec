"""Records of `shop.purchases` as they should never come, and what must become of each.

A case is the payload and either the reason it is a dead letter for, or the values of the features
of its customer. Good cases have customers of their own, so that their values stand side by side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NOON = 1_700_000_000_000
"""The event time of every case that says no other."""

LARGEST = 1_048_576 - 200
"""Bytes of payload that the broker takes by default, with the record around it."""


@dataclass(frozen=True)
class Case:
    """One record: `reason` of its dead letter, or the `values` of `customer`."""

    name: str
    payload: bytes | None
    reason: str | None = None
    customer: str | None = None
    values: tuple[tuple[str, Any], ...] = ()


def cases() -> list[Case]:
    """All of them; names are unique."""
    found = [
        *_bytes(),
        *_structure(),
        *_types(),
        *_numbers(),
        *_times(),
        *_texts(),
        *_sizes(),
        *_missing(),
        *_unexpected(),
    ]
    assert len({case.name for case in found}) == len(found)
    return found


def _dead(name: str, payload: bytes | str | None, reason: str) -> Case:
    return Case(name, payload.encode() if isinstance(payload, str) else payload, reason)


def _event(**fields: Any) -> str:
    return json.dumps({"event_time": NOON, "customer": "nobody", **fields}, ensure_ascii=False)


def _raw(field: str, text: str) -> str:
    """A whole event but for one field, whose text is no Python value."""
    return f'{{"event_time": {NOON}, "customer": "nobody", "{field}": {text}}}'


def _good(name: str, text: str, customer: str, **values: Any) -> Case:
    return Case(name, text.encode(), None, customer, tuple(values.items()))


def _bytes() -> Iterator[Case]:
    good = _event()
    yield _dead("no payload", None, "empty")
    yield _dead("no bytes", b"", "empty")
    for byte in (0, 1, 9, 10, 32, 34, 91, 93, 123, 125, 127, 128, 192, 237, 255):
        yield _dead(f"the byte {byte}", bytes([byte]), "malformed")
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        yield _dead(f"encoded in {encoding}", good.encode(encoding), "malformed")
    yield _dead("latin-1", _event(item="é").encode("latin-1"), "malformed")
    yield _dead("cp1252 quotes", good.encode().replace(b'"', b"\x93"), "malformed")
    for name, text in (
        ("overlong slash", b"\xc0\xaf"),
        ("overlong nul", b"\xc0\x80"),
        ("overlong of three bytes", b"\xe0\x80\xaf"),
        ("surrogate in utf-8", b"\xed\xa0\x80"),
        ("pair of surrogates in utf-8", b"\xed\xa0\xbd\xed\xb8\x80"),
        ("beyond unicode", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("a lone continuation", b"\x80"),
        ("a cut sequence", b"\xe2\x82"),
        ("byte fe", b"\xfe"),
    ):
        payload = _event(item="@").encode().replace(b"@", text)
        yield _dead(f"ill-formed utf-8: {name}", payload, "malformed")
    for name, payload in (
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00"),
        ("a schema id of three bytes", b"\x00\x00\x00\x01" + good.encode()),
        ("a schema id and nothing", b"\x00\x00\x00\x00\x01"),
        ("avro", b"Obj\x01\x04\x14avro.codec"),
        ("protobuf", b"\x08\x96\x01"),
        ("java serialization", b"\xac\xed\x00\x05sr\x00"),
        ("python pickle", b"\x80\x04\x95"),
        ("png", b"\x89PNG\r\n\x1a\n"),
        ("random bytes", bytes((i * 197 + 31) % 256 for i in range(500))),
        ("a nul before", b"\x00" + good.encode()),
        ("a nul after", good.encode() + b"\x00"),
        ("nuls only", b"\x00" * 64),
    ):
        yield _dead(name, payload, "malformed")
    yield _good(
        "a byte order mark", "\ufeff" + _event(customer="bom", quantity=1), "bom", quantity=1
    )


def _structure() -> Iterator[Case]:
    good = _event()
    for name, text in (
        ("an array", "[]"),
        ("an array of events", f"[{good}]"),
        ("a string", '"text"'),
        ("a number", "5"),
        ("true", "true"),
        ("null", "null"),
        ("nothing but space", "  \n\t "),
        ("xml", "<event/>"),
        ("yaml", "event_time: 5\ncustomer: a"),
        ("csv", "1700000000000,a,b"),
        ("sql", "DROP TABLE purchases; --"),
        ("two events", good + good),
        ("two lines", good + "\n" + good),
        ("an event and a comma", good + ","),
        ("an event and text", good + " x"),
        ("a comment", good[:-1] + "/* */}"),
        ("a line comment", good + "// end"),
        ("single quotes", good.replace('"', "'")),
        ("names without quotes", '{event_time: 5, customer: "a"}'),
        ("a comma too many", good[:-1] + ",}"),
        ("a comma too few", '{"event_time": 5 "customer": "a"}'),
        ("no colon", '{"event_time" 5}'),
        ("a colon too many", '{"event_time":: 5}'),
        ("a name without value", '{"event_time":}'),
        ("a value without name", "{:5}"),
        ("unclosed object", good[:-1]),
        ("unclosed string", good[:-2]),
        ("unclosed array", _raw("more", "[1, 2")),
        ("closed twice", good + "}"),
        ("closed wrongly", good[:-1] + "]"),
        ("a tab in a string", _raw("item", '"a\tb"')),
        ("a newline in a string", _raw("item", '"a\nb"')),
        ("a nul in a string", _raw("item", '"a\0b"')),
        ("an unknown escape", _raw("item", '"\\x41"')),
        ("a cut escape", _raw("item", '"\\u00"')),
        ("a backslash at the end", _raw("item", '"\\"')),
        ("capital TRUE", _raw("gift", "TRUE")),
        ("python None", _raw("gift", "None")),
        ("undefined", _raw("gift", "undefined")),
        ("the same field twice", _event(item="a")[:-1] + ', "item": "b"}'),
        ("the event time twice", good[:-1] + ', "event_time": 5}'),
        ("the customer twice, by escape", good[:-1] + ', "c\\u0075stomer": "b"}'),
        ("nested too deeply", _raw("more", "[" * 5000 + "]" * 5000)),
        ("objects nested too deeply", _raw("more", '{"a":' * 5000 + "1" + "}" * 5000)),
    ):
        yield _dead(name, text, "malformed")
    yield _good(
        "fields of a newer producer",
        _event(customer="newer", more={"a": [1, {"customer": "x", "event_time": "y"}]}, quantity=2),
        "newer",
        quantity=2,
        count_1d=1,
    )
    yield _good(
        "space everywhere",
        json.dumps({"event_time": NOON, "customer": "space", "quantity": 3}, indent=7) + " \r\n\t",
        "space",
        quantity=3,
    )
    yield _good(
        "fields in another order",
        json.dumps({"wanted_by": 5, "quantity": 4, "customer": "order", "event_time": NOON}),
        "order",
        quantity=4,
        wanted_by=5,
    )
    yield _good(
        "escapes in names",
        f'{{"\\u0065vent_time": {NOON}, "customer": "escaped", "q\\u0075antity": 5}}',
        "escaped",
        quantity=5,
    )
    yield _good(
        "nested, but not too deeply",
        f'{{"more": {"[" * 500}{"]" * 500}, "event_time": {NOON}, "customer": "deep",'
        ' "quantity": 6}',
        "deep",
        quantity=6,
    )


def _types() -> Iterator[Case]:
    wrong = {
        "event_time": ('"1700000000000"', "1700000000000.5", "true", "[]", "{}", "1.7e12", '""'),
        "customer": ("5", "1.5", "true", "false", "[]", '["a"]', "{}"),
        "item": ("5", "0", "-1.5", "true", "[]", '{"a": "b"}'),
        "quantity": ('"5"', "5.0", "5e0", "true", "[]", "{}", '""', '"five"'),
        "price": ('"5"', "true", "[]", "{}", '""', '"NaN"', '"Infinity"'),
        "gift": ("0", "1", '"true"', '"false"', '""', "[]", "{}"),
        "wanted_by": ('"2023-11-14"', '"1700000000000"', "1.5", "true", "[]", "{}"),
    }
    for field, texts in wrong.items():
        for text in texts:
            event = {"event_time": str(NOON), "customer": '"nobody"'} | {field: text}
            body = ", ".join(f'"{name}": {value}' for name, value in event.items())
            yield _dead(f"{field} is {text}", f"{{{body}}}", "type")


def _numbers() -> Iterator[Case]:
    for text in ("9223372036854775808", "-9223372036854775809", "1" + "0" * 30):
        yield _dead(f"quantity is {text}", _raw("quantity", text), "range")
    for text in ("1e309", "-1e309", "1e99999", "9" * 400):
        yield _dead(f"price is {text[:12]}", _raw("price", text), "range")
    for text in ("NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x10", "1e", "1_000"):
        yield _dead(f"price is {text}", _raw("price", text), "malformed")
    yield _dead("a number of 1,001 digits", _raw("price", "1" * 1001), "malformed")
    for text in ("-", "--1", "1-", "1,000", "1 000", "0b1", "1f", "1L"):
        yield _dead(f"quantity is {text}", _raw("quantity", text), "malformed")
    for number in (0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)):
        name = f"whole number {number}"
        yield _good(name, _event(customer=name, quantity=number), name, quantity=number)
    for text in (
        "0",
        "-0.0",
        "5",
        "0.1",
        "5e-324",
        "1e-400",
        "1.7976931348623157e308",
        "123456789012345678901",
    ):
        name = f"number {text}"
        yield _good(name, _raw("price", text).replace("nobody", name), name, price=float(text))


def _times() -> Iterator[Case]:
    for time in (-1, -(2**63), -62_135_596_800_000):
        yield _dead(f"event time {time}", _event(event_time=time), "range")
    for time in (253_402_300_800_000, 2**63 - 1, -62_135_596_800_001, 10**17):
        yield _dead(f"event time out of range {time}", _event(event_time=time), "range")
        yield _dead(f"wanted by {time}", _event(wanted_by=time), "range")
    yield _dead("event time beyond int64", _event(event_time=2**63), "range")
    for name, time in (("3000", 32_503_680_000_000), ("9999", 253_402_300_799_999)):
        yield _dead(f"event time in the year {name}", _event(event_time=time), "future")
    yield _dead("event time in microseconds", _event(event_time=NOON * 1000), "range")
    for time in (0, 1, -1, -62_135_596_800_000, 253_402_300_799_999, NOON):
        name = f"wanted by the time {time}"
        yield _good(name, _event(customer=name, wanted_by=time), name, wanted_by=time)
    yield _good(
        "an event time to the millisecond",
        _event(customer="ms", event_time=NOON + 1, quantity=7),
        "ms",
        quantity=7,
    )


_TEXTS = (
    "'; DROP TABLE features; --",
    "' OR '1'='1",
    '" OR ""="',
    "`; SELECT 1; `",
    "${kafka}",
    "{{7*7}}",
    "$(reboot)",
    "`reboot`",
    "%s%n%x",
    "%00",
    "a\x00b",
    "\x01\x02\x1b[31m",
    "\r\nSET key value\r\n",
    "*1\r\n$8\r\nFLUSHALL\r\n",
    "EVAL 'return 1' 0",
    "redis:key:*?[a]",
    "{tag}",
    "_ts:last_purchase",
    "shop",
    "../../etc/passwd",
    "C:\\windows\\",
    "<script>alert(1)</script>",
    "&lt;&amp;",
    "null",
    "NULL",
    "true",
    "0",
    "-1",
    "NaN",
    "",
    " ",
    "  leading and trailing  ",
    "\t",
    "\u00a0",
    "\u200b",
    "\ufeff",
    "\u202e",
    "\u2028",
    "\uffff",
    "é",
    "e\u0301",
    "日本語",
    "العربية",
    "😀",
    "👩‍👩‍👧‍👦",
    "\U0010ffff",
    "__debezium_unavailable_value",
    "=1+1",
    "a,b;c|d",
    "a" * 10_000,
)


def _texts() -> Iterator[Case]:
    for number, text in enumerate(_TEXTS):
        # As a name and as a value, straight and escaped.
        yield _good(
            f"text {number} as a value",
            _event(customer=f"text {number}", item=text),
            f"text {number}",
            item=text,
        )
        escaped = json.dumps({"event_time": NOON, "customer": text, "item": text})
        yield _good(f"text {number} as a name", escaped, text, item=text, count_1d=1)
    for name, text in (
        ("high", "\\ud83d"),
        ("low", "\\ude00"),
        ("the wrong way round", "\\ude00\\ud83d"),
        ("high and a letter", "\\ud83da"),
        ("two high", "\\ud83d\\ud83d"),
    ):
        yield _dead(f"half a surrogate: {name}", _raw("item", f'"{text}"'), "malformed")
        yield _dead(
            f"half a surrogate in the name: {name}",
            f'{{"event_time": {NOON}, "customer": "{text}"}}',
            "malformed",
        )


def _sizes() -> Iterator[Case]:
    for name, reason, text in (
        ("not JSON", "malformed", "x" * LARGEST),
        ("half an event", "malformed", _event(item="x" * LARGEST)[:LARGEST]),
        ("a wrong type", "type", _raw("quantity", '"' + "1" * (LARGEST - 200) + '"')),
        ("many fields", "missing", json.dumps({f"f{i}": i for i in range(60_000)})[:-1] + "}"),
    ):
        assert len(text) <= LARGEST
        yield _dead(f"as large as the broker takes: {name}", text, reason)
    large = "y" * (LARGEST - 200)
    yield _good("a large value", _event(customer="large", item=large), "large", item=large)


def _missing() -> Iterator[Case]:
    yield _dead("an empty object", "{}", "missing")
    yield _dead("no event time", json.dumps({"customer": "a"}), "missing")
    yield _dead("no customer", json.dumps({"event_time": NOON}), "missing")
    yield _dead("event time is null", _event(event_time=None), "missing")
    yield _dead("customer is null", _event(customer=None), "missing")
    yield _dead("the event inside another", json.dumps({"payload": {"customer": "a"}}), "missing")
    yield _dead("names in capitals", json.dumps({"EVENT_TIME": NOON, "CUSTOMER": "a"}), "missing")
    yield _dead(
        "names with a space", json.dumps({"event_time ": NOON, " customer": "a"}), "missing"
    )
    yield _dead("an empty name", json.dumps({"": NOON}), "missing")
    yield _good(
        "nulls where they may be",
        _event(customer="nulls", item=None, quantity=None, price=None, gift=None, wanted_by=None),
        "nulls",
        item=None,
        quantity=None,
        price=None,
        gift=None,
        wanted_by=None,
        count_1d=1,
    )
    yield _good(
        "all there",
        _event(customer="all", item="i", quantity=1, price=1.5, gift=True, wanted_by=9),
        "all",
        item="i",
        quantity=1,
        price=1.5,
        gift=True,
        wanted_by=9,
        count_1d=1,
    )


def _unexpected() -> Iterator[Case]:
    for channel in ("Web", "", " shop", "phone", "web\u200b"):
        yield _dead(f"the channel {channel!r}", _event(channel=channel), "expectation")
    for discount in (-0.001, 1.0000001, -1e308, 1e308):
        yield _dead(f"the discount {discount}", _event(discount=discount), "expectation")
    for channel, discount in (("web", 0), ("shop", 1), (None, 0.5), ("web", -0.0)):
        name = f"{channel} with {discount}"
        yield _good(
            name, _event(customer=name, channel=channel, discount=discount), name, count_1d=1
        )


def equal(found: Any, wanted: Any) -> bool:
    """Exactly the same value; -0.0 is not 0.0, and True is not 1."""
    if isinstance(wanted, float):
        return (
            isinstance(found, float)
            and found == wanted
            and math.copysign(1, found) == math.copysign(1, wanted)
        )
    return type(found) is type(wanted) and found == wanted
