"""What dashboards and alert rules ask Prometheus: one expression a question, by view and job.

The names of the API's metrics are those of `observability.metrics`; Flink's and the kernel's are
below, as Flink's Prometheus reporter writes them. It replaces whatever is no letter, digit or
colon in a label by an underscore.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from schemas import FeatureView

REQUESTS = "headwater_api_requests_total"
REQUEST_SECONDS = "headwater_api_request_seconds"
REDIS_SECONDS = "headwater_api_redis_seconds"
REDIS_ERRORS = "headwater_api_redis_errors_total"
REDIS_ANSWERS = "headwater_api_redis_answers"
VALUES = "headwater_api_values_total"
VALUE_AGE_SECONDS = "headwater_api_value_age_seconds"
UNREADABLE = "headwater_api_unreadable_values_total"
REFUSED = "headwater_api_refused_requests_total"
IN_FLIGHT = "headwater_api_requests_in_flight"

_JOB = "flink_jobmanager_job"
_OPERATOR = "flink_taskmanager_job_task_operator"
UPTIME = f"{_JOB}_uptime"
RESTARTS = f"{_JOB}_numRestarts"
CHECKPOINTS = f"{_JOB}_numberOfCompletedCheckpoints"
FAILED_CHECKPOINTS = f"{_JOB}_numberOfFailedCheckpoints"
CHECKPOINT_MS = f"{_JOB}_lastCheckpointDuration"
CHECKPOINT_BYTES = f"{_JOB}_lastCheckpointSize"
PENDING = f"{_OPERATOR}_pendingRecords"
RECORDS_IN = f"{_OPERATOR}_numRecordsIn"
DEAD_LETTERS = f"{_OPERATOR}_deserializer_reason_deadLetters"
"""By `reason`; every job that reads a source counts, the one that writes them away among them."""
BROKEN = f"{_OPERATOR}_deserializer_expectation_brokenExpectations"
"""By `expectation`, of records; likewise."""
LATE_ROWS = f"{_OPERATOR}_lateRows"
LATE_VERSIONS = f"{_OPERATOR}_lateVersions"
REDIS_WRITES = f"{_OPERATOR}_redisWrites"
REDIS_OLDER = f"{_OPERATOR}_redisOlder"
REDIS_RETRIES = f"{_OPERATOR}_redisRetries"
WRITE_LAG_MS = f"{_OPERATOR}_lagMs"
FRESHNESS_MS = f"{_OPERATOR}_freshnessMs"
"""Quantiles, from event time to the online store, of each writer's newest ten thousand rows."""
COMMIT_AGE = f"{_OPERATOR}_IcebergFilesCommitter_table_elapsedSecondsSinceLastSuccessfulCommit"
BUSY = "flink_taskmanager_job_task_busyTimeMsPerSecond"
BACKPRESSURED = "flink_taskmanager_job_task_backPressuredTimeMsPerSecond"
HEAP_USED = "flink_taskmanager_Status_JVM_Memory_Heap_Used"
HEAP_MAX = "flink_taskmanager_Status_JVM_Memory_Heap_Max"

FLINK_METRICS = (
    *(UPTIME, RESTARTS, CHECKPOINTS, FAILED_CHECKPOINTS, CHECKPOINT_MS, CHECKPOINT_BYTES),
    *(PENDING, RECORDS_IN, DEAD_LETTERS, BROKEN, LATE_ROWS, LATE_VERSIONS),
    *(REDIS_WRITES, REDIS_OLDER, REDIS_RETRIES, WRITE_LAG_MS, FRESHNESS_MS, COMMIT_AGE),
    *(BUSY, BACKPRESSURED, HEAP_USED, HEAP_MAX),
)
"""All of Flink's that are asked for; a test finds each in a running platform."""

BROKEN_IN_WINDOW = "headwater_expectation_broken"
"""By `source` and `expectation`, in the windows that came since the exporter's look before."""

DUE = "headwater_exporter_due_seconds"
"""By `measure`: when `headwater exporter` is to measure it next; past where it cannot, 0 where it
never did since it was started."""
SMALL_FILES = "headwater_table_small_files"
"""By `table`: as the exporter saw it last."""
NULLS = "headwater_feature_null_ratio"
"""By `view` and `feature`, of the view's newest rows in Iceberg, as the exporter saw them last."""
FREQUENT = "headwater_feature_frequent_ratio"
"""Likewise: the share of the most frequent value."""
QUANTILE = "headwater_feature_quantile"
"""Likewise, by `quantile` too."""
PSI = "headwater_drift_psi"
"""Likewise: how far those rows are from the days before."""
CHANCE = "headwater_drift_chance"
"""Likewise: how far chance alone would bring them, once in a thousand times."""

DOORS = ("/v1/features", "/get-online-features", "/headwater.v1.Features/LookUp")
"""The routes of lookups, those in Feast's protocol and over gRPC among them."""

LOOKUP = f'route=~"{"|".join(DOORS)}"'
FAILED = 'status=~"5..|UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED"'
"""Of the answers of any door, those that are our fault; a late one is no answer."""


# Texts in quotes and labels to group by are passed over: they may be called like a metric.
_SERIES = re.compile(
    r'"[^"]*"|\bby \([^)]*\)|(?<![\w:])((?:headwater|flink)[\w:]*|up|ALERTS)\b(\{\}|\{)?'
)


def within(expression: str, selector: str) -> str:
    """The same of those series alone that `selector` chooses, such as `namespace="features"`."""

    def chosen(match: re.Match[str]) -> str:
        name, more = match.groups()
        return f"{name}{{{selector}{', ' if more == '{' else '}'}" if name else match[0]

    return _SERIES.sub(chosen, expression)


def label(text: str) -> str:
    """A name as Flink's reporter writes it in a label."""
    return re.sub(r"[^A-Za-z0-9:_]", "_", text)


def writer(view: FeatureView, jobs: Iterable[str]) -> str:
    """Selects the series of the operator of these jobs that writes a view to Redis."""
    return f'{live(jobs)}, operator_name="redis_{label(view.name)}:_Writer"'


def task(view: FeatureView, jobs: Iterable[str]) -> str:
    """Selects the series of the task of these jobs that computes a view and ends in its writers."""
    return f'{live(jobs)}, task_name=~".*redis_{label(view.name)}:_Writer.*"'


def table(view: FeatureView, jobs: Iterable[str]) -> str:
    """Selects the series of a view's Iceberg table, of these jobs."""
    return f'{live(jobs)}, table="headwater_features_{label(view.name)}"'


def job(name: str) -> str:
    """Selects the series of a job."""
    return f'job_name="{label(name)}"'


def live(jobs: Iterable[str]) -> str:
    """Selects the series of jobs, and none of a replay's, which reads what was counted before."""
    return f'job_name=~"{"|".join(label(name) for name in jobs)}"'


def of_source(counter: str, name: str, jobs: Iterable[str], over: str, *by: str) -> str:
    """How much a counter of a source grew in `over`; several jobs may read it, and each counts."""
    read = f'{live(jobs)}, operator_name=~"Source:_{label(name)}_[0-9]+_"'
    each = f"sum by ({', '.join(('job_name', *by))}) (increase({counter}{{{read}}}[{over}]))"
    return f"max by ({', '.join(by)}) ({each})" if by else f"max({each})"


def of_sources(counter: str, jobs: Iterable[str], over: str, by: str) -> str:
    """The same of each source that there is, by `source` and another label."""
    read = f'{live(jobs)}, operator_name=~"Source:.*"'
    grown = (
        f'label_replace(increase({counter}{{{read}}}[{over}]), "source", "$1",'
        ' "operator_name", "Source:_(.*)_[0-9]+_")'
    )
    return f"max by (source, {by}) (sum by (job_name, source, {by}) ({grown}))"


def broken_in_window(name: str) -> str:
    """How often each expectation of a stream, or `view.NAME`, was broken in its newest windows."""
    return f'max by (expectation) ({BROKEN_IN_WINDOW}{{source="{name}"}})'


def by_feature(gauge: str, view: FeatureView) -> str:
    """A gauge of each feature of a view."""
    return f'max by (feature) ({gauge}{{view="{view.name}"}})'


def moved(view: FeatureView, bound: float, another: float) -> str:
    """The index of each feature of a view that has moved that far, and further than it does.

    That is further than by chance, of which no more than `another` is believed, and half as far
    again as on any day of the week before: a mean over seven days differs from one day to the next,
    and so does the weather. So none is told of in its first day.
    """
    named = f'{PSI}{{view="{view.name}"}}'
    before = f"max by (feature) (max_over_time({named}[7d] offset 1d))"
    index = by_feature(PSI, view)
    chance = f"clamp_max({by_feature(CHANCE, view)}, {another})"
    return f"{index} > {bound} and {index} > {chance} and {index} > 1.5 * {before}"


def late_share(view: FeatureView, jobs: Iterable[str], over: str) -> str:
    """The part of a view's records that came too late for these jobs, 0 to 1."""
    read = task(view, jobs)
    late = f"sum(rate({LATE_ROWS}{{{read}}}[{over}]))"
    seen = f'sum(rate({RECORDS_IN}{{{read}, operator_name=~"ProcessTableFunction.*"}}[{over}]))'
    return f"{late} / ({seen} > 0)"


def status_share(view: FeatureView, status: str, over: str) -> str:
    """The part of a view's served values that were `status`, 0 to 1."""
    named = f'view="{view.name}"'
    part = f'sum(rate({VALUES}{{{named}, status="{status}"}}[{over}]))'
    return f"{part} / (sum(rate({VALUES}{{{named}}}[{over}])) > 0)"


def quantile(share: float, histogram: str, selector: str, over: str) -> str:
    """A quantile of a histogram in its own unit."""
    return (
        f"histogram_quantile({share}, sum by (le) (rate({histogram}_bucket{{{selector}}}[{over}])))"
    )
