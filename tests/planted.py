"""The flights repository with a bug in one view: its delays are compared in the wrong unit."""

from __future__ import annotations

from dataclasses import replace

from feature_repo.flights.repository import repository as right
from feature_repo.flights.views.origin_delays import origin_delays
from schemas import col, days, hours, over, share

_SECONDS = 15 * 60  # the column holds minutes
_wrong = {
    feature.name: feature
    for feature in over([hours(1), days(1)], share((col("dep_delay") > _SECONDS).called("late")))
}
_planted = replace(
    origin_delays,
    features=tuple(_wrong.get(feature.name, feature) for feature in origin_delays.features),
)
_services = tuple(
    replace(
        service,
        views=tuple(_planted if view == origin_delays else view for view in service.views),
    )
    for service in right.services
)
repository = replace(
    right,
    views=tuple(_planted if view == origin_delays else view for view in right.views),
    services=_services,
)
