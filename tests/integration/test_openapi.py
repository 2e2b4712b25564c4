"""The API description, /openapi.json, matches the responses and the parameters."""

from typing import Any
from urllib.parse import urljoin

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
cursor. Also, Schemathesis generates an empty list as an invalid value, but sends it as a request without the parameter,
which is valid."""


@pytest.fixture(scope="module")
def filled(stack: Stack, reset_stack: Any) -> Stack:
    reset_stack()
    for number in range(30):
        stack.bucket.put_person(str(number), birthts=number * 10**10)
    stack.bucket.put("1.png", b"png")
    stack.bucket.put("40.csv", b"first_name,last_name,birthts\nAda,Byron,soon\n")
    for name in ("bad", "worse"):
        stack.bucket.put(f"{name}.csv", b"")
    stack.process()
    stack.process("/erase?user_id=2&user_id=31")
    stack.sql("insert into runs (trigger, scope, status) values ('cron', 'bucket', 'running')")
    stack.sql("insert into runs (trigger, status, finished_at, error) values ('cron', 'failed', now(), 'no S3')")
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


TYPES = {"integer": int, "boolean": bool, "string": str, "object": dict}


def check(schema: dict[str, Any], value: Any) -> None:
    """Check, recursively, that a value has the type of a schema and exactly its members."""
    assert type(value) is TYPES[schema["type"]], schema
    if isinstance(value, dict) and "properties" in schema:
        assert value.keys() == schema["properties"].keys() == set(schema["required"])
        for name, member in schema["properties"].items():
            check(member, value[name])


def test_a_summary_has_all_described_members(filled: Stack) -> None:
    schemas = filled.request("GET", "/function/query-data/openapi.json").json()["components"]["schemas"]
    run_schema, erasure_schema, _ = schemas["Run"]["properties"]["summary"]["anyOf"][0]["anyOf"]
    runs = filled.request("GET", "/function/query-data/runs").json()["result"]
    summaries = [run["summary"] for run in reversed(runs) if run["summary"]]
    for schema, summary in zip((run_schema, erasure_schema), summaries, strict=True):
        check(schema, summary)


def test_the_values_that_may_be_null_are_described_as_nullable() -> None:
    schemas = openapi(requires_token=True)["components"]["schemas"]
    null = {"type": "null"}
    nullable = {
        f"{name}.{property_name}"
        for name, schema in schemas.items()
        for property_name, value in schema.get("properties", {}).items()
        if null in value.get("anyOf", [])
    }
    assert nullable == {
        *("Person.img_path", "Rejected.line", "Stats.last_run"),
        *("Run.call_id", "Run.finished_at", "Run.summary", "Run.error"),
    }


def test_each_path_describes_its_own_errors_and_those_that_browsers_get_as_a_page() -> None:
    expected: dict[str, tuple[set[str], bool]] = {
        "/": ({"304", "406"}, True),
        "/stats": ({"304"}, False),
        "/changes": ({"406", "410"}, False),
        "/rejected": ({"304", "406"}, True),
        "/runs": ({"304", "406"}, True),
        "/photo/{user_id}": ({"304", "404"}, False),
        "/metrics": (set(), False),
        "/openapi.json": (set(), False),
        "/healthz": (set(), False),
    }
    paths = openapi(requires_token=True)["paths"]
    assert paths.keys() == expected.keys()
    ids = [operation["operationId"] for operations in paths.values() for operation in operations.values()]
    assert len(ids) == len(set(ids)) == 2 * len(paths)
    for path, (own, has_page) in expected.items():
        common = {"200", "400", "405", "500", "503"} | ({"401"} if path != "/healthz" else set())
        for method in ("get", "head"):
            responses = paths[path][method]["responses"]
            assert responses.keys() == common | own, (method, path)
        for status, response in paths[path]["get"]["responses"].items():
            if status >= "400":
                types = {"application/json"} | ({"text/html"} if has_page or status == "404" else set())
                assert response["content"].keys() == types, (path, status)


def test_the_described_server_and_security_schemes_are_those_of_the_function() -> None:
    document = openapi(requires_token=True)
    url = urljoin("http://gateway/function/query-data/openapi.json", document["servers"][0]["url"])
    assert url == "http://gateway/function/query-data/"
    schemes = document["components"]["securitySchemes"]
    assert schemes == {name: {"type": "http", "scheme": name} for name in ("bearer", "basic")}


def test_every_operation_except_the_health_check_may_return_401(filled: Stack) -> None:
    paths = filled.request("GET", "/function/query-data/openapi.json").json()["paths"]
    operations = [(path, operation) for path, methods in paths.items() for operation in methods.values()]
    assert {path for path, operation in operations if "401" not in operation["responses"]} == {"/healthz"}
    assert all("401" not in operation["responses"] for operation in paths["/healthz"].values())


def test_the_described_parameters_match_the_code(filled: Stack) -> None:
    paths = filled.request("GET", "/function/query-data/openapi.json").json()["paths"]
    parameter_tables = {"/": PARAMETERS, "/stats": FILTERS, "/changes": CHANGES, "/rejected": TABLE, "/runs": TABLE}
    for path, methods in paths.items():
        described = {item["name"]: item for item in methods["get"]["parameters"] if item["in"] == "query"}
        parameters = parameter_tables.get(path, {})
        assert described.keys() == parameters.keys()
        for name, parameter in parameters.items():
            assert described[name]["description"] == f"{parameter.description}; expected {parameter.expected}"
            schema = {"type": "array", "items": parameter.schema} if parameter.repeatable else parameter.schema
            assert described[name]["schema"] == schema


def test_the_described_headers_are_those_of_the_responses(filled: Stack) -> None:
    paths = filled.request("GET", "/function/query-data/openapi.json").json()["paths"]
    for path, query in (("/", "?limit=1&count=1"), ("/stats", ""), ("/changes", ""), ("/rejected", "?limit=1"),
                        ("/runs", "?limit=1"), ("/photo/1", ""), ("/metrics", ""), ("/healthz", "")):  # fmt: skip
        for method, operation in paths[path.replace("/1", "/{user_id}")].items():
            headers = filled.request(method.upper(), f"/function/query-data{path}{query}").headers
            described = operation["responses"]["200"]["headers"].keys()
            assert described == {"ETag", "Link", "X-Total-Count"} & headers.keys(), (method, path)
            assert headers.get("Vary") == ("Accept" if "406" in operation["responses"] else None), (method, path)
            assert path == "/healthz" or headers["Cache-Control"] == "private, no-cache", (method, path)
            assert list(operation["responses"]) == sorted(operation["responses"])
