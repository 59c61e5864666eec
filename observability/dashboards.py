"""Grafana's dashboards, derived from the declarations: one overview, one for each feature view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from observability import queries as q
from observability.rules import ANSWERED, FAST, FAST_SECONDS, MAX_PSI
from schemas import EventStream, FeatureView, JoinedStream, Repository, Type

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_OVER = "$__rate_interval"
# On a cluster series say which release's they are; on one machine none does, and all are chosen.
_NAMESPACE = {
    "name": "namespace",
    "type": "query",
    "datasource": _SOURCE,
    "query": 'label_values(up{job="api"}, namespace)',
    "refresh": 2,
    "includeAll": True,
    "allValue": ".*",
    "current": {"text": "All", "value": "$__all"},
}
_CHOSEN = 'namespace=~"$namespace"'
_WIDTH, _HEIGHT, _ALL = 8, 7, 24


@dataclass(frozen=True)
class Panel:
    """One panel: what it asks, each with the text of its legend."""

    title: str
    asks: tuple[tuple[str, str], ...]
    unit: str = "short"
    description: str = ""
    kind: str = "timeseries"
    thresholds: tuple[float, ...] = field(default=())
    """Yellow from the first, red from the second on."""

    each: tuple[str, tuple[str, ...]] | None = None
    """A variable that stands in title and questions, and its values: a panel for each, in rows of
    their own."""


def dashboards(repository: Repository, jobs: Iterable[str]) -> dict[str, object]:
    """Each dashboard by its name."""
    name, names = repository.name, list(jobs)
    found: dict[str, object] = {
        f"{name}-overview": _dashboard(
            f"{name}-overview", f"Headwater: {name}", _overview(repository, names), name
        )
    }
    for view in repository.views:
        title = f"Headwater: {name}: {view.name}"
        found[f"{name}-{view.name}"] = _dashboard(
            f"{name}-{view.name}", title, _view(view, names), name
        )
    return found


def _overview(repository: Repository, jobs: list[str]) -> Iterable[Panel]:
    all_ = q.live(jobs)
    lookups = f"sum(rate({q.REQUESTS}{{{q.LOOKUP}}}[{_OVER}]))"
    yield Panel("Lookups", ((lookups, "a second"),), "reqps")
    yield Panel(
        "Lookup latency",
        tuple(
            (q.quantile(share, q.REQUEST_SECONDS, q.LOOKUP, _OVER), f"p{share * 100:g}")
            for share in (0.5, 0.95, 0.99)
        ),
        "s",
        f"The goal: {FAST:.0%} within {FAST_SECONDS * 1000:.0f} ms",
        thresholds=(FAST_SECONDS, FAST_SECONDS * 10),
    )
    yield Panel(
        "Lookups that fail",
        (("headwater:lookups_failed:ratio_rate5m", "5 minutes"),),
        "percentunit",
        f"The goal: {ANSWERED:.1%} are answered",
        thresholds=(1 - ANSWERED, 10 * (1 - ANSWERED)),
    )
    yield Panel(
        "Round trips to Redis",
        (
            (q.quantile(0.99, q.REDIS_SECONDS, "", _OVER), "p99"),
            (q.quantile(0.5, q.REDIS_SECONDS, "", _OVER), "p50"),
        ),
        "s",
    )
    yield Panel(
        "Lookups at once, and refused",
        (
            (f"sum({q.IN_FLIGHT})", "being answered"),
            (f"sum by (reason) (rate({q.REFUSED}[{_OVER}]))", "refused: {{reason}}"),
        ),
    )
    yield Panel(
        "Served values by status",
        ((f"sum by (status) (rate({q.VALUES}[{_OVER}]))", "{{status}}"),),
        "short",
        "missing: never written, or deleted; stale: older than the view's ttl",
    )
    yield Panel(
        "Freshness: from event to Redis",
        (
            (
                f'max by (operator_name) ({q.FRESHNESS_MS}{{{all_}, quantile="0.99"}})',
                "{{operator_name}}",
            ),
        ),
        "ms",
        "p99 of each writer's newest rows, as they land; a replayed history is as old as it is",
    )
    yield Panel(
        "Records behind Kafka",
        ((f"sum by (job_name) ({q.PENDING}{{{all_}}})", "{{job_name}}"),),
    )
    yield Panel(
        "Records read",
        (
            (
                f'sum by (job_name) (rate({q.RECORDS_IN}{{{all_}, operator_name=~"Source:.*"}}'
                f"[{_OVER}]))",
                "{{job_name}}",
            ),
        ),
        "rowsps",
    )
    yield Panel(
        "Dead letters",
        ((f"{q.of_sources(q.DEAD_LETTERS, jobs, '15m', 'reason')} > 0", "{{source}}: {{reason}}"),),
        "short",
        "Records of 15 minutes that could not be read; empty is well",
    )
    checked = [q.of_sources(q.BROKEN, jobs, "15m", "expectation")]
    if repository.checked:
        checked.append(f"max by (source, expectation) ({q.BROKEN_IN_WINDOW})")
    yield Panel(
        "Expectations broken",
        tuple((f"{asked} > 0", "{{source}}: {{expectation}}") for asked in checked),
        "short",
        "By records of 15 minutes, and in windows summed up since the look before; empty is well",
    )
    if any(isinstance(source, JoinedStream) for source in repository.sources):
        yield Panel(
            "Late versions",
            ((f"sum by (job_name) (increase({q.LATE_VERSIONS}{{{all_}}}[15m]))", "{{job_name}}"),),
            "short",
            "In 15 minutes: rows joined to events that came too late for some of them",
        )
    yield Panel(
        "Time since the last commit to Iceberg",
        ((f"max by (table) ({q.COMMIT_AGE}{{{all_}}})", "{{table}}"),),
        "s",
        thresholds=(900, 1800),
    )
    yield Panel(
        "Iceberg: files that are too small",
        ((f"max by (table) ({q.SMALL_FILES})", "{{table}}"),),
        "short",
        "`headwater tables maintain` puts them together",
    )
    yield Panel(
        "Checkpoints: how long",
        ((f"max by (job_name) ({q.CHECKPOINT_MS}{{{all_}}})", "{{job_name}}"),),
        "ms",
    )
    yield Panel(
        "Checkpoints: how large",
        ((f"max by (job_name) ({q.CHECKPOINT_BYTES}{{{all_}}})", "{{job_name}}"),),
        "bytes",
    )
    yield Panel(
        "Restarts and failed checkpoints",
        (
            (f"sum by (job_name) (increase({q.RESTARTS}{{{all_}}}[15m]))", "restarts {{job_name}}"),
            (
                f"sum by (job_name) (increase({q.FAILED_CHECKPOINTS}{{{all_}}}[15m]))",
                "failed {{job_name}}",
            ),
        ),
        "short",
        "In 15 minutes",
    )
    yield Panel(
        "Busiest task",
        (
            (f"max by (job_name) ({q.BUSY}{{{all_}}}) / 1000", "busy {{job_name}}"),
            (f"max by (job_name) ({q.BACKPRESSURED}{{{all_}}}) / 1000", "waits {{job_name}}"),
        ),
        "percentunit",
    )
    yield Panel(
        "Heap of the task managers",
        ((f"{q.HEAP_USED} / {q.HEAP_MAX}", "{{tm_id}}"),),
        "percentunit",
        thresholds=(0.8, 0.95),
    )
    yield Panel(
        "Alerts that fire",
        (('ALERTS{alertstate="firing"}', "{{alertname}} {{view}}{{flink_job}}"),),
        kind="table",
    )


def _view(view: FeatureView, jobs: list[str]) -> Iterable[Panel]:
    writes = q.writer(view, jobs)
    yield Panel(
        "Age: from event to Redis",
        (
            (f"max({q.WRITE_LAG_MS}{{{writes}}})", "since the last write"),
            *(
                (
                    f'max({q.FRESHNESS_MS}{{{writes}, quantile="{share}"}})',
                    f"as written, p{share * 100:g}",
                )
                for share in (0.5, 0.99)
            ),
        ),
        "ms",
        f"A value older than {view.ttl} is served as stale",
    )
    aged = f'view="{view.name}"'
    yield Panel(
        "Age of served values: their distribution",
        tuple(
            (q.quantile(share, q.VALUE_AGE_SECONDS, aged, _OVER), f"p{share * 100:g}")
            for share in (0.5, 0.95, 0.99)
        ),
        "s",
        "As callers got them",
        thresholds=(view.ttl.seconds, 2 * view.ttl.seconds),
    )
    yield Panel(
        "Rate: values written to Redis",
        (
            (f"sum(rate({q.REDIS_WRITES}{{{writes}}}[{_OVER}]))", "written"),
            (f"sum(rate({q.REDIS_OLDER}{{{writes}}}[{_OVER}]))", "refused as older"),
            (f"sum(rate({q.REDIS_RETRIES}{{{writes}}}[{_OVER}]))", "batches tried again"),
        ),
        "wps",
    )
    yield Panel(
        "Served values that are not there",
        (
            (q.status_share(view, "missing", "5m"), "missing"),
            (q.status_share(view, "stale", "5m"), "stale"),
        ),
        "percentunit",
        thresholds=(0.05, 0.5),
    )
    yield Panel(
        "Values served",
        (
            (
                f'sum(rate({q.UNREADABLE}{{view="{view.name}"}}[{_OVER}]))',
                "unreadable",
            ),
            (
                f'sum by (status) (rate({q.VALUES}{{view="{view.name}"}}[{_OVER}]))',
                "{{status}}",
            ),
        ),
    )
    if isinstance(view.source, EventStream):
        yield Panel(
            "Late share",
            ((q.late_share(view, jobs, "5m"), f"later than {view.source.disorder}"),),
            "percentunit",
            "Not applied to the features; counted, and the rest of the stream goes on",
            thresholds=(0.001, 0.01),
        )
    yield Panel(
        "Time since the last commit to Iceberg",
        ((f"max({q.COMMIT_AGE}{{{q.table(view, jobs)}}})", view.name),),
        "s",
        thresholds=(900, 1800),
    )
    yield Panel(
        "Nulls",
        ((q.by_feature(q.NULLS, view), "{{feature}}"),),
        "percentunit",
        "Of the newest day's values in Iceberg",
    )
    yield Panel(
        "Drift: the newest day against the week before",
        ((q.by_feature(q.PSI, view), "{{feature}}"),),
        "short",
        f"Population stability index; above {MAX_PSI}, and further than by chance, it has moved",
        thresholds=(MAX_PSI / 2, MAX_PSI),
    )
    yield from _distributions(view)


def _distributions(view: FeatureView) -> Iterable[Panel]:
    """Of the newest day's values of each feature, by what can be drawn of its type."""
    for kind, types, asked, legend, unit in (
        ("number", (Type.INT64, Type.FLOAT64), q.QUANTILE, "{{quantile}}", "short"),
        ("age", (Type.TIMESTAMP,), q.QUANTILE, "{{quantile}}", "ms"),
        ("value", (Type.STRING, Type.BOOL), q.FREQUENT, "the most frequent one", "percentunit"),
    ):
        names = tuple(column.name for column in view.schema if column.type in types)
        if names:
            series = f'{asked}{{view="{view.name}", feature="${kind}"}}'
            by = "max by (quantile) " if asked == q.QUANTILE else "max"
            yield Panel(
                f"Distribution: ${kind}",
                ((f"{by}({series})", legend),),
                unit,
                "Of the newest day's rows in Iceberg; of a time, its age",
                each=(kind, names),
            )


def _dashboard(uid: str, title: str, panels: Iterable[Panel], tag: str) -> dict[str, object]:
    placed = list(panels)
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "hide": 2}
    each = [_variable(*panel.each) for panel in placed if panel.each]
    return {
        "uid": uid[:40],
        "title": title,
        "tags": ["headwater", tag],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": [source, _NAMESPACE, *each]},
        "panels": [
            _panel(panel, number, place)
            for number, (panel, place) in enumerate(zip(placed, _places(placed), strict=True), 1)
        ],
    }


def _variable(name: str, values: tuple[str, ...]) -> dict[str, object]:
    """All of its values, unless somebody chooses some."""
    return {
        "name": name,
        "type": "custom",
        "query": ",".join(values),
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _places(panels: Sequence[Panel]) -> Iterator[dict[str, int]]:
    """Three in a row; what is repeated begins a row, which grows by as many as it takes."""
    x = y = 0
    for panel in panels:
        if panel.each and x:
            x, y = 0, y + _HEIGHT
        width = _ALL if panel.each else _WIDTH
        yield {"x": x, "y": y, "w": width, "h": _HEIGHT}
        x += width
        if x == _ALL:
            x, y = 0, y + _HEIGHT


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, object]:
    repeated: dict[str, object] = {}
    if panel.each:
        repeated = {"repeat": panel.each[0], "repeatDirection": "h", "maxPerRow": _ALL // _WIDTH}
    instant = panel.kind == "table"
    steps = [
        {"color": colour, "value": bound}
        for colour, bound in zip(
            ("green", "yellow", "red"), (None, *panel.thresholds), strict=False
        )
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        **repeated,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": q.within(expression, _CHOSEN),
                "legendFormat": legend,
                "instant": instant,
                "range": not instant,
            }
            for number, (expression, legend) in enumerate(panel.asks)
        ],
    }
