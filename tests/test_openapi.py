"""Whatever the OpenAPI document allows, and what it does not, is answered as the document says."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.served import served
from tests.test_api import BADGE, NOW, ROW, SPEND, VISITS, RedisServer


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.write(SPEND, ROW, NOW, count_1h=3, price_mean_1h=12.5)
    server.write(BADGE, ROW, NOW, member=True)
    server.write(VISITS, ROW, NOW, count_1h=2)
    with served(tmp_path_factory.mktemp("api"), server.url) as running:
        yield schemathesis.openapi.from_url(f"{running.url}/docs/openapi.json")
    server.client.close()
    server.stop()


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_one_the_document_tells_of(document, mode):
    asked = []
    for found in document.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=60, suppress_health_check=list(HealthCheck))
        def ask(case):
            case.call_and_validate(checks=CHECKS, timeout=10)

        try:
            ask()
        except Unsatisfiable:  # nothing can be wrong about a question without parameters
            continue
        asked.append(operation.path)
    assert {"/v1/features", "/get-online-features"} <= set(asked)
