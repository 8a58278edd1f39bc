"""The API keeps what its description says, whatever is sent: fuzzed from that description."""

import json
from contextlib import suppress
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CheckFunction
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.models

_EXAMPLES = {schemathesis.GenerationMode.POSITIVE: 3, schemathesis.GenerationMode.NEGATIVE: 15}
"""Of what is wrong more, since the model has not to answer it."""

_ENDLESS = "/events"

CHECKS: list[CheckFunction] = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def described(http: httpx.Client) -> dict[str, Any]:
    """The API's description of itself."""
    found: dict[str, Any] = http.get("/openapi.json").json()
    return found


def test_the_description_is_complete(described: dict[str, Any]) -> None:
    house = {"/announce", "/rooms", "/status", "/runs", "/models", "/events"}
    speech = {"/chat", "/stt", "/tts", "/converse"}
    openai = {"/v1/chat/completions", "/v1/audio/transcriptions", "/v1/audio/speech", "/v1/models"}
    assert house | speech | openai <= described["paths"].keys()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], path
            assert operation["description"], path
            assert "application/problem+json" in operation["responses"]["503"]["content"], path
            assert method == "get" or operation["requestBody"], path
    examples = [name for name, schema in described["components"]["schemas"].items() if "examples" in str(schema)]
    assert len(examples) > 10


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
def test_nothing_breaks_it(described: dict[str, Any], http: httpx.Client, mode: schemathesis.GenerationMode) -> None:
    # A pattern that repeats a million times takes schemathesis seconds to compile.
    shortened = json.loads(json.dumps(described).replace('"maxLength": 1000000', '"maxLength": 1000'))
    schema = schemathesis.openapi.from_dict(shortened)
    seen: set[tuple[str, int]] = set()

    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        if operation.path == _ENDLESS:
            continue

        @hypothesis.settings(
            max_examples=_EXAMPLES[mode],
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def fuzz(case: schemathesis.Case[Any]) -> None:
            response = case.call(base_url=str(http.base_url), timeout=PATIENCE_SECONDS)
            assert response.status_code != 500, response.text
            case.validate_response(response, checks=CHECKS)
            seen.add((case.operation.path, response.status_code))

        with suppress(Unsatisfiable):  # an operation without parameters cannot be called wrongly
            fuzz()
    assert (("/status", 200) in seen) is (mode is schemathesis.GenerationMode.POSITIVE)
    assert (("/chat", 422) in seen) is (mode is schemathesis.GenerationMode.NEGATIVE)
    assert http.get("/healthz").status_code == 200
