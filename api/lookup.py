"""Looks up features: one request, one round trip, each hash once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from api.errors import RequestError
from api.messages import MISSING, FeatureValue, LookupAnswer, LookupRequest, Row
from api.plan import Group, Plan, Selection
from api.store import OnlineStore
from connectors.redis_codec import decode_event_time, decode_value
from observability.metrics import ApiMetrics

MAX_ENTITIES = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Clock = Callable[[], float]  # seconds since 1970 UTC


class FeatureLookup:
    """Answers lookups over one repository."""

    def __init__(
        self, plan: Plan, store: OnlineStore, project: str, clock: Clock, metrics: ApiMetrics
    ) -> None:
        self._plan = plan
        self._store = store
        self._project = project
        self._clock = clock
        self._metrics = metrics

    async def answer(self, request: LookupRequest) -> LookupAnswer:
        """A row for each entity; RequestError, StoreUnavailable or CodecError if it cannot be."""
        selection = self._selection(request)
        if len(request.entities) > MAX_ENTITIES:
            raise RequestError(
                "$.entities", f"at most {MAX_ENTITIES} entities", len(request.entities)
            )
        hashes = [self._hashes(selection, i, row) for i, row in enumerate(request.entities)]
        # Two groups differ in their keys, which are part of the Redis key, so it names one group.
        wanted = {
            key: group for keys in hashes for key, group in zip(keys, selection.groups, strict=True)
        }
        found = await self._store.read([(key, group.fields) for key, group in wanted.items()])
        now = self._clock()
        read = {
            key: self._values(group, values, now)
            for (key, group), values in zip(wanted.items(), found, strict=True)
        }
        rows = []
        for entity, keys in zip(request.entities, hashes, strict=True):
            known = {name: value for key in keys for name, value in read[key].items()}
            rows.append(Row(entity, {name: known[name] for name in selection.names}))
        return LookupAnswer(rows)

    def _selection(self, request: LookupRequest) -> Selection:
        if request.service is not None and request.features is None:
            return self._plan.service(request.service)
        if request.features and request.service is None:
            return self._plan.features(request.features)
        raise RequestError(
            "$",
            "needs one of service and features",
            {"service": request.service, "features": request.features},
            ("service", "features"),
        )

    def _hashes(self, selection: Selection, i: int, row: dict[str, str | int]) -> list[bytes]:
        path = f"$.entities[{i}]"
        selection.check(row, path)
        return [group.redis_key(self._project, row, path) for group in selection.groups]

    def _values(
        self, group: Group, values: list[bytes | None], now: float
    ) -> dict[str, FeatureValue]:
        result = {}
        for column, value_at, time_at in group.slots:
            value = _value(values[value_at], values[time_at], column.ttl_seconds, now)
            self._metrics.values.labels(column.view, value.status).inc()
            result[column.name] = value
        return result


def _value(
    data: bytes | None, time_data: bytes | None, ttl_seconds: int, now: float
) -> FeatureValue:
    if data is None or time_data is None:
        return MISSING
    milliseconds = decode_event_time(time_data)
    age = round(now - milliseconds / 1000, 3)
    return FeatureValue(
        decode_value(data),
        _EPOCH + timedelta(milliseconds=milliseconds),
        age,
        "stale" if age > ttl_seconds else "present",
    )
