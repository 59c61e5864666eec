"""The events made of the flights' files are the ones that really happened."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from feature_repo.flights import history
from feature_repo.flights.repository import repository
from schemas import Type

PYTHON_TYPES = {
    Type.STRING: str,
    Type.INT64: int,
    Type.FLOAT64: float,
    Type.BOOL: bool,
    Type.TIMESTAMP: int,
}


def instant(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(scope="module")
def events():
    return {s.name: getattr(history, s.name)() for s in repository.streams}


def test_every_departure_arrival_and_observation_is_there(events):
    assert {name: len(rows) for name, rows in events.items()} == {
        "departures": 328_521,
        "arrivals": 327_346,
        "weather": 26_115,
    }


def test_every_row_of_the_register_is_there():
    tables = (history.planes(), history.airlines(), history.airports())
    assert [len(list(rows)) for rows in tables] == [3_322, 16, 1_458]


def test_events_come_in_event_time_order(events):
    for rows in events.values():
        times = [row["event_time"] for row in rows]
        assert times == sorted(times)


def test_the_first_departure_left_newark_at_five_seventeen_local_time(events):
    first = next(e for e in events["departures"] if e["flight"] == 1545)
    assert (first["origin"], first["event_time"]) == ("EWR", instant("2013-01-01T10:17:00"))


def test_an_arrival_is_on_the_clock_of_its_destination(events):
    # UA 1545 landed in Houston at 08:30 Central, 14:30 UTC.
    landed = next(e for e in events["arrivals"] if e["flight"] == 1545)
    assert (landed["dest"], landed["event_time"]) == ("IAH", instant("2013-01-01T14:30:00"))


def test_no_flight_is_shorter_than_its_time_in_the_air(events):
    def leg(event):
        return tuple(event[name] for name in ("scheduled", "carrier", "flight", "origin"))

    departed = {leg(event): event["event_time"] for event in events["departures"]}
    for landed in events["arrivals"]:
        minutes = (landed["event_time"] - departed[leg(landed)]) / 60_000
        assert minutes > landed["air_time"], landed


def test_events_fit_their_declarations(events):
    for stream in repository.streams:
        names = {column.name for column in stream.columns}
        for row in events[stream.name]:
            assert row.keys() == names | {"event_time"}
            for column in stream.columns:
                value = row[column.name]
                if value is None:
                    assert not column.required, (stream.name, column.name, row)
                else:
                    assert type(value) is PYTHON_TYPES[column.type], (column.name, value)
