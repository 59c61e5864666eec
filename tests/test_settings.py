"""The command's settings: a wrong one is named, with what would be right."""

from __future__ import annotations

import pytest

from headwater.settings import Settings
from schemas import SettingsError


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HEADWATER_TRACED_EVENTS", "2", "expected 0 to 1, got '2'"),
        ("HEADWATER_TRACED_EVENTS", "-0.1", "expected 0 to 1"),
        ("HEADWATER_POSTGRES", "postgres", "expected host:port, got 'postgres'"),
        ("HEADWATER_SOURCE", "crm.example.com", "expected host:port"),
        ("HEADWATER_REDIS_REPLICAS", "-1", "expected 0 to 99"),
        ("HEADWATER_FEATURE_LOG", "all", "expected 0 to 1, got 'all'"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "expected http:// or https://"),
        ("HEADWATER_IDLE_SECONDS", "0", "expected whole seconds"),
        ("HEADWATER_CHECKPOINT_SECONDS", "1.5", "expected whole seconds"),
        ("HEADWATER_TASKMANAGER_MEMORY", "3", "expected a size such as 3000m"),
        ("HEADWATER_TASKMANAGER_JAVA_OPTIONS", "UseParallelGC", "expected options such as -XX:"),
        ("HEADWATER_KAFKA_JAVA_OPTIONS", "-XX:+A B", "expected options such as -XX:"),
    ],
)
def test_a_wrong_setting_is_named(name, value, said):
    with pytest.raises(SettingsError, match=f"{name}: .*{said}"):
        Settings.read({name: value})


def test_a_share_of_events_and_a_collector_are_read():
    given = {"HEADWATER_TRACED_EVENTS": "0.25", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://here:4318"}
    settings = Settings.read(given)
    assert (settings.traced_events, settings.otlp_endpoint) == (0.25, "http://here:4318")
    assert Settings.read({}).otlp_endpoint == ""
