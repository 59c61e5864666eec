"""Prometheus' recording and alert rules, derived from the declarations.

Two service levels with an error budget over 30 days: 99.9 % of lookups are answered, and 99 % of
them within 10 ms, by whichever door they come. Their alerts fire by burn rate over two windows
each, the long one to be sure and the short one to end soon. Everything else is a symptom with one
runbook each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from observability import queries as q
from schemas import CdcTable, EventStream, Expectation, FeatureView, Repository
from schemas.expectations import of_view

RUNBOOKS = "docs/runbooks"
ANSWERED = 0.999
FAST = 0.99
FAST_SECONDS = 0.01
"""An upper bound of a bucket of the API's histogram of request times."""
MAX_PSI = 0.2
"""A feature whose population stability index is above it has moved."""
ANOTHER_PSI = 3.0
"""Above it a feature has other values altogether, be there too few rows to rule chance out."""
OF_RELEASE = 'namespace="$namespace"'
"""Selects a release's own series on a cluster, once the chart has put its namespace in."""

_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# How fast the budget burns, over which windows, and who hears of it: 2 % of it in an hour, 5 % in
# six, 10 % in a day and in three days (Google's SRE workbook, chapter 5).
_BURNS = (
    (14.4, "1h", "5m", "page"),
    (6.0, "6h", "30m", "page"),
    (3.0, "1d", "2h", "ticket"),
    (1.0, "3d", "6h", "ticket"),
)


@dataclass(frozen=True)
class Alert:
    """One alert; its runbook is the file of its name."""

    name: str
    expression: str
    lasting: str
    """How long it must hold, in Prometheus' notation."""

    severity: str
    """`page` wakes somebody, `ticket` waits for the morning."""

    summary: str
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def runbook(self) -> str:
        """The path of the runbook."""
        return f"{RUNBOOKS}/{runbook_name(self.name)}.md"

    def rule(self) -> dict[str, object]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.lasting,
            "labels": {"severity": self.severity, **dict(self.labels)},
            "annotations": {"summary": self.summary, "runbook_url": self.runbook},
        }


def runbook_name(alert: str) -> str:
    """`api-down` of `ApiDown`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert).lower()


def rule_groups(
    repository: Repository, jobs: Iterable[str], of: str = ""
) -> list[dict[str, object]]:
    """The groups of a repository whose jobs have these names, of the series that `of` selects."""
    names = list(jobs)
    groups: dict[str, Sequence[dict[str, object]]] = {
        "headwater-slo": [*_recorded(), *(a.rule() for a in slo_alerts())],
        "headwater-api": [a.rule() for a in api_alerts()],
        "headwater-jobs": [a.rule() for name in names for a in job_alerts(name)],
        "headwater-sources": [a.rule() for s in repository.read for a in source_alerts(s, names)],
        "headwater-exporter": [a.rule() for a in exporter_alerts()],
        "headwater-views": [
            a.rule() for view in repository.views for a in view_alerts(view, names)
        ],
    }
    if of:
        for rule in (rule for rules in groups.values() for rule in rules):
            rule["expr"] = q.within(str(rule["expr"]), of)
    return [{"name": name, "rules": list(rules)} for name, rules in groups.items()]


def alerts(repository: Repository, jobs: Iterable[str]) -> list[Alert]:
    """Every alert of a repository."""
    names = list(jobs)
    return [
        *slo_alerts(),
        *api_alerts(),
        *(alert for name in names for alert in job_alerts(name)),
        *(alert for source in repository.read for alert in source_alerts(source, names)),
        *exporter_alerts(),
        *(alert for view in repository.views for alert in view_alerts(view, names)),
    ]


def _recorded() -> Iterable[dict[str, object]]:
    for over in _WINDOWS:
        total = f"sum(rate({q.REQUESTS}{{{q.LOOKUP}}}[{over}]))"
        failed = f"sum(rate({q.REQUESTS}{{{q.LOOKUP}, {q.FAILED}}}[{over}]))"
        yield {
            "record": f"headwater:lookups_failed:ratio_rate{over}",
            # No failure has a series until there is one.
            "expr": f"({failed} or vector(0)) / ({total} > 0)",
        }
        # The histogram's own count, so that one scrape says both.
        timed = f"sum(rate({q.REQUEST_SECONDS}_count{{{q.LOOKUP}}}[{over}]))"
        fast = f'sum(rate({q.REQUEST_SECONDS}_bucket{{{q.LOOKUP}, le="{FAST_SECONDS}"}}[{over}]))'
        yield {
            "record": f"headwater:lookups_slow:ratio_rate{over}",
            "expr": f"1 - {fast} / ({timed} > 0)",
        }


def slo_alerts() -> Iterable[Alert]:
    """The burn rates of both error budgets."""
    for name, kind, goal, what in (
        ("LookupErrorBudget", "failed", ANSWERED, "fail"),
        ("LookupLatencyBudget", "slow", FAST, f"take longer than {FAST_SECONDS * 1000:.0f} ms"),
    ):
        for rate, long, short, severity in _BURNS:
            bound = round(rate * (1 - goal), 6)
            recorded = f"headwater:lookups_{kind}:ratio_rate"
            yield Alert(
                name,
                f"{recorded}{long} > {bound} and {recorded}{short} > {bound}",
                "2m",
                severity,
                f"{{{{ $value | humanizePercentage }}}} of lookups {what}: the budget of 30 days"
                f" burns {rate:g} times as fast as it may, over {long}",
                (("window", long),),
            )


def api_alerts() -> Iterable[Alert]:
    """Of the API and the store it reads."""
    yield Alert(
        "ApiDown",
        # Not `absent`, whose labels would make it another alert than that of a scrape that fails.
        '(sum(up{job="api"}) or vector(0)) == 0',
        "1m",
        "page",
        "No API answers Prometheus: nobody can look features up",
    )
    # Lookups themselves say little of it: pods that have no Redis are asked for none.
    for name, least, lasting, severity, of in (
        ("all", "max", "1m", "page", "No instance of the API has"),
        ("some", "min", "10m", "ticket", "An instance of the API does not have"),
    ):
        yield Alert(
            "RedisDown",
            f"{least}({q.REDIS_ANSWERS}) < 1",
            lasting,
            severity,
            f"{of} a Redis that answers and may be read",
            (("instances", name),),
        )
    yield Alert(
        "RedisErrors",
        f"sum(rate({q.REDIS_ERRORS}[5m])) > 0.1",
        "2m",
        "page",
        "{{ $value | humanize }} round trips a second to Redis fail",
    )


def job_alerts(name: str) -> Iterable[Alert]:
    """Of one Flink job."""
    selector = q.job(name)
    labels = (("flink_job", name),)
    yield Alert(
        "JobNotRunning",
        # Not 0: one that fails as soon as it runs is up for moments, again and again.
        f"(max({q.UPTIME}{{{selector}}}) or vector(0)) < 60000",
        "4m",
        "page",
        f"{name} does not run: its views get no new values",
        labels,
    )
    yield Alert(
        "JobRestarts",
        f"max(increase({q.RESTARTS}{{{selector}}}[15m])) > 3",
        "1m",
        "ticket",
        f"{name} has restarted {{{{ $value | humanize }}}} times in 15 minutes",
        labels,
    )
    yield Alert(
        "CheckpointsStopped",
        f"max(increase({q.CHECKPOINTS}{{{selector}}}[10m])) < 1",
        "5m",
        "page",
        f"{name} has completed no checkpoint for 10 minutes: nothing reaches Iceberg",
        labels,
    )
    yield Alert(
        "JobLagging",
        f"sum({q.PENDING}{{{selector}}}) > 100000"
        f" and sum(deriv({q.PENDING}{{{selector}}}[10m])) >= 0",
        "10m",
        "ticket",
        f"{name} is {{{{ $value | humanize }}}} records behind Kafka and does not catch up",
        labels,
    )


def source_alerts(source: EventStream | CdcTable, jobs: Iterable[str]) -> Iterable[Alert]:
    """Of what these jobs read of one stream or captured table."""
    names = list(jobs)
    labels = (("source", source.name),)
    yield Alert(
        "DeadLetters",
        f"{q.of_source(q.DEAD_LETTERS, source.name, names, '15m')} > 0",
        "1m",
        "ticket",
        f"{source.name}: {{{{ $value | humanize }}}} records in 15 minutes could not be read",
        labels,
    )
    broken = []
    if any(isinstance(one, Expectation) for one in source.expectations):
        broken.append(f"{q.of_source(q.BROKEN, source.name, names, '15m', 'expectation')} > 0")
    if isinstance(source, EventStream) and source.checked:
        broken.append(f"{q.broken_in_window(source.name)} > 0")
    if broken:
        yield _broken(" or ".join(broken), source.name, labels)


def _broken(expression: str, name: str, labels: tuple[tuple[str, str], ...]) -> Alert:
    return Alert(
        "ExpectationsBroken",
        expression,
        "1m",
        "ticket",
        f"{name}: {{{{ $labels.expectation }}}} broken {{{{ $value | humanize }}}} times lately",
        labels,
    )


def exporter_alerts() -> Iterable[Alert]:
    """Of who measures tables, expectations and features."""
    yield Alert(
        "ExporterStopped",
        # What was not measured since the start was always due, and so is all while there is none:
        # one that is killed at it again and again is late throughout. An hour is for beginning.
        f"time() - (min(max by (measure) ({q.DUE})) or vector(0)) > 3600",
        "60m",
        "ticket",
        "What tables, expectations or features are like should have been measured two hours ago",
    )


def view_alerts(view: FeatureView, jobs: Iterable[str]) -> Iterable[Alert]:
    """Of one feature view, which one of these jobs computes."""
    names = list(jobs)
    labels = (("view", view.name),)
    if view.checked:
        yield _broken(f"{q.broken_in_window(of_view(view.name))} > 0", view.name, labels)
    yield Alert(
        "CommitsStopped",
        f"max({q.COMMIT_AGE}{{{q.table(view, names)}}}) > 1800",
        "5m",
        "page",
        f"{view.name}: no commit to its Iceberg table for {{{{ $value | humanizeDuration }}}}",
        labels,
    )
    yield Alert(
        "RedisWritesRetried",
        f"sum(rate({q.REDIS_RETRIES}{{{q.writer(view, names)}}}[5m])) > 0.1",
        "5m",
        "ticket",
        f"{view.name}: {{{{ $value | humanize }}}} batches a second are written to Redis again",
        labels,
    )
    yield Alert(
        "ValuesStale",
        f"{q.status_share(view, 'stale', '30m')} > 0.05",
        "10m",
        "ticket",
        f"{view.name}: {{{{ $value | humanizePercentage }}}} of served values are older than"
        f" {view.ttl}",
        labels,
    )
    yield Alert(
        "ValuesMissing",
        f"{q.status_share(view, 'missing', '30m')} > 0.5",
        "30m",
        "ticket",
        f"{view.name}: {{{{ $value | humanizePercentage }}}} of served values are not there",
        labels,
    )
    if isinstance(view.source, EventStream):
        yield Alert(
            "RowsLate",
            f"{q.late_share(view, names, '30m')} > 0.01",
            "15m",
            "ticket",
            f"{view.name}: {{{{ $value | humanizePercentage }}}} of records come later than the"
            f" {view.source.disorder} that {view.source.name} allows",
            labels,
        )
    yield Alert(
        "FeatureMoved",
        q.moved(view, MAX_PSI, ANOTHER_PSI),
        "1h",
        "ticket",
        f"{view.name}: {{{{ $labels.feature }}}} has moved further than in the week before:"
        " index {{ $value | humanize }}",
        labels,
    )
