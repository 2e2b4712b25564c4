"""The API description, /openapi.json, matches the responses and the parameters."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from query_data.changes import PARAMETERS as CHANGES
from query_data.filters import FILTERS
from query_data.openapi import openapi
from query_data.query import PARAMETERS
from query_data.tables import PARAMETERS as TABLE
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.stack import Stack

EXAMPLES = 40
TOO_STRICT = [positive_data_acceptance, negative_data_rejection]
"""Excluded checks. They require that the schema describes exactly the valid requests, but it allows any text as a
cursor. Also, Schemathesis sends an empty list, an invalid value, as a valid request without the parameter."""


@pytest.fixture(scope="module")
def filled(stack: Stack, fresh: Any) -> Stack:
    fresh()
    for number in range(30):
        stack.bucket.put_person(str(number), birthts=number * 10**10)
    stack.bucket.put("1.png", b"png")
    for name in ("bad", "worse"):
        stack.bucket.put(f"{name}.csv", b"")
    stack.process()
    stack.process("/erase?user_id=2&user_id=31")
    stack.sql("insert into runs (trigger, scope, status) values ('cron', 'bucket', 'running')")
    return stack


@pytest.fixture(scope="module")
def api(filled: Stack) -> Any:
    url = f"{filled.url}/function/query-data"
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    schema.config.update(base_url=url)
    return schema


OPERATIONS = [(path, method) for path, methods in openapi(requires_token=False)["paths"].items() for method in methods]


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_generated_requests_get_described_responses(api: Any, path: str, method: str, mode: GenerationMode) -> None:
    operation = api[path][method]
    if mode is GenerationMode.NEGATIVE and not (operation.query or operation.path_parameters):
        return  # without parameters there are no invalid ones

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def send(case: Any) -> None:
        case.call_and_validate(timeout=30, excluded_checks=TOO_STRICT)

    send()


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_404_matches_the_description_as_json_and_as_a_page(api: Any, accept: str) -> None:
    case = api["/photo/{user_id}"]["GET"].Case(path_parameters={"user_id": "9"}, headers={"Accept": accept})
    response = case.call()
    assert response.status_code == 404
    assert response.headers["content-type"][0].startswith(accept)
    case.validate_response(response)


def test_every_operation_except_the_health_check_may_return_401(filled: Stack) -> None:
    paths = filled.request("GET", "/function/query-data/openapi.json").json()["paths"]
    operations = [(path, operation) for path, methods in paths.items() for operation in methods.values()]
    assert {path for path, operation in operations if "401" not in operation["responses"]} == {"/healthz"}
    assert all("401" not in operation["responses"] for operation in paths["/healthz"].values())


def test_the_described_parameters_match_the_code(filled: Stack) -> None:
    paths = filled.request("GET", "/function/query-data/openapi.json").json()["paths"]
    tables = {"/": PARAMETERS, "/stats": FILTERS, "/changes": CHANGES, "/rejected": TABLE, "/runs": TABLE}
    for path, methods in paths.items():
        described = {item["name"]: item for item in methods["get"]["parameters"] if item["in"] == "query"}
        table = tables.get(path, {})
        assert described.keys() == table.keys()
        for name, parameter in table.items():
            assert described[name]["description"] == f"{parameter.description}; expected {parameter.expected}"


def test_the_described_headers_are_those_of_the_responses(filled: Stack) -> None:
    paths = filled.request("GET", "/function/query-data/openapi.json").json()["paths"]
    for path, query in (("/", "?limit=1&count=1"), ("/stats", ""), ("/changes", ""), ("/rejected", "?limit=1"),
                        ("/runs", "?limit=1"), ("/photo/1", ""), ("/metrics", ""), ("/healthz", "")):  # fmt: skip
        for method, operation in paths[path.replace("/1", "/{user_id}")].items():
            headers = filled.request(method.upper(), f"/function/query-data{path}{query}").headers
            described = operation["responses"]["200"]["headers"].keys()
            assert described == {"ETag", "Link", "X-Total-Count"} & headers.keys(), (method, path)
            assert list(operation["responses"]) == sorted(operation["responses"])
