"""The flights' entities, event streams and captured tables."""

from __future__ import annotations

from schemas import (
    CdcTable,
    Column,
    Entity,
    EventStream,
    JoinedStream,
    TemporalJoin,
    Type,
    among,
    hours,
    minutes,
    present,
    within,
)

origin = Entity("origin", "origin", description="Airport of departure, IATA code")
dest = Entity("dest", "dest", description="Airport of destination, IATA code")
carrier = Entity("carrier", "carrier", description="Airline, two-character IATA code")
aircraft = Entity("aircraft", "tailnum", description="Aircraft, by its tail number")
airport = Entity("airport", "faa", description="Any airport, FAA code")

_FLIGHT = (
    Column("carrier", Type.STRING),
    Column("flight", Type.INT64, description="Flight number"),
    Column("tailnum", Type.STRING),
    Column("origin", Type.STRING),
    Column("dest", Type.STRING),
    Column("scheduled", Type.TIMESTAMP, description="Scheduled time of departure"),
)

departures = EventStream(
    name="departures",
    topic="flights.departures",
    columns=(
        *_FLIGHT,
        Column("dep_delay", Type.FLOAT64, description="Minutes; negative when early"),
        Column("distance", Type.FLOAT64, description="Miles"),
    ),
    partition_by="origin",
    disorder=minutes(5),
    expectations=(
        among("origin", "EWR", "JFK", "LGA", reject=True),
        within("dep_delay", -180, 2880),
        within("distance", 0, 6000),
    ),
    description="An aircraft has left the gate; the event time is the actual departure",
)

arrivals = EventStream(
    name="arrivals",
    topic="flights.arrivals",
    columns=(
        *_FLIGHT,
        Column("arr_delay", Type.FLOAT64, description="Minutes; negative when early"),
        Column("air_time", Type.FLOAT64, description="Minutes"),
    ),
    partition_by="tailnum",
    disorder=minutes(5),
    description="An aircraft has reached the gate; the event time is the actual arrival",
)

weather = EventStream(
    name="weather",
    topic="flights.weather",
    columns=(
        Column("origin", Type.STRING),
        Column("temp", Type.FLOAT64, required=False, description="Degrees Fahrenheit"),
        Column("dewp", Type.FLOAT64, required=False, description="Degrees Fahrenheit"),
        Column("humid", Type.FLOAT64, required=False, description="Per cent"),
        Column("wind_dir", Type.FLOAT64, required=False, description="Degrees"),
        Column("wind_speed", Type.FLOAT64, required=False, description="Miles per hour"),
        Column("wind_gust", Type.FLOAT64, required=False, description="Miles per hour"),
        Column("precip", Type.FLOAT64, required=False, description="Inches in the hour"),
        Column("pressure", Type.FLOAT64, required=False, description="Millibar at sea level"),
        Column("visib", Type.FLOAT64, required=False, description="Miles"),
    ),
    partition_by="origin",
    disorder=minutes(5),
    expectations=(within("temp", -40, 130), within("dewp", -60, 100), present("temp")),
    description="Hourly observation at an airport of departure",
)

_SINCE = Column("updated_at", Type.TIMESTAMP, description="Since when the row is true")

planes = CdcTable(
    name="planes",
    table="planes",
    columns=(
        Column("tailnum", Type.STRING),
        Column("year", Type.INT64, required=False, description="Year of manufacture"),
        Column("type", Type.STRING, required=False),
        Column("manufacturer", Type.STRING, required=False),
        Column("model", Type.STRING, required=False),
        Column("engines", Type.INT64, required=False),
        Column("seats", Type.INT64, required=False),
        Column("engine", Type.STRING, required=False),
        Column(
            "age_years",
            Type.INT64,
            required=False,
            description="Set by a trigger: year of updated_at less year of manufacture",
        ),
        _SINCE,
    ),
    primary_key="tailnum",
)

airlines = CdcTable(
    name="airlines",
    table="airlines",
    columns=(Column("carrier", Type.STRING), Column("name", Type.STRING), _SINCE),
    primary_key="carrier",
)

airports = CdcTable(
    name="airports",
    table="airports",
    columns=(
        Column("faa", Type.STRING),
        Column("name", Type.STRING),
        Column("lat", Type.FLOAT64, description="Degrees north"),
        Column("lon", Type.FLOAT64, description="Degrees east"),
        Column("alt", Type.INT64, description="Feet"),
        Column("tzone", Type.STRING, required=False, description="IANA time zone"),
        _SINCE,
    ),
    primary_key="faa",
)

departures_in_context = JoinedStream(
    name="departures_in_context",
    stream=departures,
    joins=(
        TemporalJoin(planes, on="tailnum", columns=("seats", "age_years", "manufacturer")),
        TemporalJoin(
            weather, on="origin", columns=("wind_speed", "visib", "precip"), within=hours(3)
        ),
    ),
    description="Departures with the aircraft as it was registered, and the weather at the origin",
)
