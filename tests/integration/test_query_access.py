"""Access to query-data with an API token."""

from base64 import b64encode
from typing import Any

import pytest
from query_data.handler import _ENDPOINTS

from tests.queries import get
from tests.replica import query_replica
from tests.stack import Stack

TOKEN = "correct horse: battery"


def basic(password: str) -> str:
    return "Basic " + b64encode(f"anyone:{password}".encode()).decode()


WRONG_CREDENTIALS = [
    *("Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", f"Digest {TOKEN}", TOKEN, "Basic !"),
    *(basic(""), basic("wrong"), "Basic " + b64encode(TOKEN.encode()).decode(), "Bearer \xe9"),
]


@pytest.mark.parametrize(
    "path", [*(path for path in _ENDPOINTS if path != "/healthz"), "/?format=csv", "/photo/1", "/x"]
)
def test_with_an_api_token_every_endpoint_except_healthz_requires_it(
    rollcall: Stack, token_replica: Any, path: str
) -> None:
    for credentials in WRONG_CREDENTIALS:
        response = token_replica.request("GET", path, Authorization=credentials)
        assert (response.status, response.json()["error"]["code"]) == (401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == 'Basic realm="Rollcall", Bearer'
    assert token_replica.request("GET", path).status == 401
    for credentials in (f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)):
        assert token_replica.request("GET", path, Authorization=credentials).status in (200, 404)
    assert token_replica.request("GET", "/healthz").status == 200


@pytest.mark.parametrize("auth", ["token", "none"])
def test_the_openapi_document_says_whether_a_token_is_required(rollcall: Stack, token_replica: Any, auth: str) -> None:
    if auth == "token":
        document = token_replica.request("GET", "/openapi.json", Authorization=f"Bearer {TOKEN}").json()
    else:
        document = get(rollcall, "/openapi.json").json()
    assert document["security"] == {"token": [{"bearer": []}, {"basic": []}], "none": [{}]}[auth]
    assert [operation["security"] for operation in document["paths"]["/healthz"].values()] == [[{}], [{}]]


@pytest.fixture(scope="module")
def token_replica(reset_stack: Any, stack: Stack) -> Any:
    reset_stack()
    with query_replica(stack, auth="token", api_token=TOKEN) as replica:
        yield replica
        assert TOKEN not in "\n".join(replica.lines())
