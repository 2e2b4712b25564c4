"""The API is what /openapi.json says: every answer's status, type and schema, to whatever is asked."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from query_data.filters import FILTERS
from query_data.listings import PARAMETERS as LISTING
from query_data.openapi import openapi
from query_data.query import PARAMETERS
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.stack import Stack

EXAMPLES = 40
TOO_STRICT = [positive_data_acceptance, negative_data_rejection]
"""A schema can't say all: a cursor is any text to it, and an empty list in a query is nothing at all."""


@pytest.fixture(scope="module")
def filled(stack: Stack, fresh: Any) -> Stack:
    fresh()
    for number in range(30):
        stack.bucket.put_person(str(number), birthts=number * 10**10)
    stack.bucket.put("1.png", b"png")
    stack.bucket.put("bad.csv", b"")
    stack.process()
    stack.process("/erase?user_id=2&user_id=31")
    return stack


@pytest.fixture(scope="module")
def api(filled: Stack) -> Any:
    url = f"{filled.url}/function/query-data"
    loaded = schemathesis.openapi.from_url(f"{url}/openapi.json")
    loaded.config.update(base_url=url)
    return loaded


OPERATIONS = [(path, method) for path, methods in openapi(requires_token=False)["paths"].items() for method in methods]


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_one_that_is_described(api: Any, path: str, method: str, mode: GenerationMode) -> None:
    operation = api[path][method]
    if mode is GenerationMode.NEGATIVE and not (operation.query or operation.path_parameters):
        return  # nothing can be wrong with it

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def ask(case: Any) -> None:
        case.call_and_validate(timeout=30, excluded_checks=TOO_STRICT)

    ask()


def test_the_parameters_are_described_as_they_are_checked(filled: Stack) -> None:
    paths = filled.request("GET", "/function/query-data/openapi.json").json()["paths"]
    for path, table in (("/", PARAMETERS), ("/stats", FILTERS), ("/runs", LISTING), ("/rejected", LISTING)):
        described = {one["name"]: one for one in paths[path]["get"]["parameters"]}
        assert described.keys() == table.keys()
        for name, parameter in table.items():
            assert described[name]["description"] == f"{parameter.description}; expected {parameter.expected}"
