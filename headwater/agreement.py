"""Holds four answers against each other: Redis, Iceberg, the API and a recomputation."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import redis
import requests
from pyiceberg.catalog import Catalog

from connectors.redis_codec import (
    decode_event_time,
    decode_value,
    entity_key,
    feature_field,
    timestamp_field,
)
from headwater.recompute import Scalar, matches, recompute, same
from headwater.temporal import enrich, versions
from iceberg.filters import instant, of_keys
from iceberg.tables import AVAILABLE_AT
from schemas import EVENT_TIME, CdcTable, FeatureView, JoinedStream, Type

Event = Mapping[str, Scalar]
Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Answer:
    """The newest values of one entity in one place."""

    event_time: int
    values: dict[str, Scalar]


@dataclass
class Agreement:
    """What was compared, and every difference found."""

    entities: int = 0
    values: int = 0
    differences: list[str] = field(default_factory=list)


class Places:
    """Where the newest values of a view can be asked for."""

    def __init__(self, project: str, online: redis.Redis, catalog: Catalog, api_url: str) -> None:
        self._project = project
        self._online = online
        self._catalog = catalog
        self._api_url = api_url

    def redis(self, view: FeatureView, key: Key) -> Answer | None:
        """From the hash in Redis."""
        row = dict(zip(view.keys, key, strict=True))
        fields = [timestamp_field(view.name)]
        fields += [feature_field(view.name, column.name) for column in view.schema]
        key_ = entity_key(self._project, view.entities, row)
        found: Any = self._online.execute_command("HMGET", key_, *fields)  # type: ignore[no-untyped-call]
        time, *values = found
        if time is None:
            return None
        names = (column.name for column in view.schema)
        decoded = (None if value is None else decode_value(value) for value in values)
        return Answer(decode_event_time(time), dict(zip(names, decoded, strict=True)))

    def iceberg(self, view: FeatureView, keys: Sequence[Key]) -> dict[Key, Answer]:
        """The newest row of each key by event time, and of those the one available last."""
        table = self._catalog.load_table(f"features.{view.name}")
        batches = table.scan(row_filter=of_keys(view.keys, keys)).to_arrow_batch_reader()
        by = ", ".join(f'"{name}"' for name in view.keys)
        with duckdb.connect() as db:
            db.register("batches", batches)
            newest = db.sql(
                f"SELECT DISTINCT ON ({by}) * FROM batches "
                f"ORDER BY {by}, {EVENT_TIME} DESC, {AVAILABLE_AT} DESC"
            ).to_arrow_table()
        return {
            tuple(row[name] for name in view.keys): Answer(
                _milliseconds(row[EVENT_TIME]),
                {
                    c.name: _milliseconds(row[c.name]) if c.type is Type.TIMESTAMP else row[c.name]
                    for c in view.schema
                },
            )
            for row in newest.to_pylist()
        }

    def api(self, view: FeatureView, key: Key) -> Answer | None:
        """From `POST /v1/features`, with what it knows of each value."""
        request = {
            "features": [f"{view.name}:{column.name}" for column in view.schema],
            "entities": [dict(zip(view.keys, key, strict=True))],
        }
        url = f"{self._api_url}/v1/features?include=metadata"
        reply = requests.post(url, json=request, timeout=5)
        reply.raise_for_status()
        found = {k.partition(":")[2]: v for k, v in reply.json()["rows"][0]["features"].items()}
        times = {value["event_time"] for value in found.values()}
        if times == {None}:
            return None
        (time,) = times  # the values of one view are written together
        values = {name: value["value"] for name, value in found.items()}
        return Answer(_milliseconds(datetime.fromisoformat(time)), values)


def agree(
    views: Iterable[FeatureView],
    recorded: Mapping[str, Sequence[Event]],
    places: Places,
    sample: int,
    seed: int = 1,
) -> Agreement:
    """Compare a sample of each view's entities.

    `recorded` are events and rows by the name of their source; rows of a table that is joined need
    the column that says since when they are true.
    """
    result = Agreement()
    for view in views:
        groups: dict[Key, list[Event]] = defaultdict(list)
        for event in _recorded(view, recorded):
            if all(event.get(name) is not None for name in view.optional_keys):
                groups[tuple(_key(event[name]) for name in view.keys)].append(event)
        chosen = random.Random(seed).sample(sorted(groups), min(sample, len(groups)))
        offline = places.iceberg(view, chosen)
        for key in chosen:
            _compare(view, key, groups[key], places, offline.get(key), result)
    return result


def _recorded(view: FeatureView, recorded: Mapping[str, Sequence[Event]]) -> Sequence[Event]:
    if not isinstance(view.source, JoinedStream):
        return recorded[view.source.name]
    joined = view.source
    known = {source.name: versions(source, recorded[source.name]) for source in joined.others}
    return enrich(joined, recorded[joined.stream.name], known)


def _compare(
    view: FeatureView,
    key: Key,
    events: Sequence[Event],
    places: Places,
    offline: Answer | None,
    result: Agreement,
) -> None:
    answers = {
        "Redis": places.redis(view, key),
        "Iceberg": offline,
        "the API": places.api(view, key),
    }
    what = f"{view.name} of {', '.join(map(str, key))}"
    first = answers["Redis"]
    if first is None:
        result.differences.append(f"{what}: not in Redis")
        return
    if isinstance(view.source, CdcTable):
        expected = {f.name: events[-1].get(f.aggregation.column or "") for f in view.features}
    else:
        expected = recompute(view, events, first.event_time)
    answers["the recomputation"] = Answer(first.event_time, expected)
    result.entities += 1
    for place, answer in answers.items():
        if answer is None:
            result.differences.append(f"{what}: not in {place}")
        elif answer.event_time != first.event_time:
            result.differences.append(
                f"{what}: event time {instant(first.event_time)} in Redis,"
                f" {instant(answer.event_time)} in {place}"
            )
        else:
            for feature in view.features:
                name = feature.name
                value, other = first.values[name], answer.values[name]
                if not (
                    matches(feature, value, other, events)
                    if place == "the recomputation"
                    else same(value, other)
                ):
                    result.differences.append(
                        f"{what}: {name} is {value!r} in Redis and {other!r} in {place}"
                    )
    result.values += len(first.values)


def _key(value: Scalar) -> str | int:
    assert isinstance(value, str | int)
    return value


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
