"""A short run of the fuzz targets that need servers, and checks that the fuzz client reports invalid responses."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import keys
from tests.fuzz.client import Client, Request
from tests.fuzz.command import Fuzz, targets_on_stack
from tests.stack import Stack

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SEED = 1
INPUTS = {"keys": 5_000, "queries": 500, "cursors": 500, "headers": 300, "events": 100}

JSON, NOSNIFF = ("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")
LONG_MESSAGE = b'{"error": {"code": "not_found", "message": "%s"}}' % (b"x" * 1001)


@pytest.fixture(scope="module")
def targets(stack: Stack, reset_stack: Callable[[], None]) -> dict[str, Fuzz]:
    reset_stack()
    return targets_on_stack(stack)


@pytest.mark.parametrize("target", INPUTS)
def test_a_short_run_finds_nothing(targets: dict[str, Fuzz], target: str) -> None:
    assert list(targets[target](INPUTS[target], SEED))[:3] == []


@pytest.mark.parametrize("inputs", [1, 150])
def test_the_requested_number_of_keys_is_tested(
    targets: dict[str, Fuzz], monkeypatch: pytest.MonkeyPatch, inputs: int
) -> None:
    tested: list[str] = []

    def no_problems(key: str) -> list[str]:
        tested.append(key)
        return []

    monkeypatch.setattr(keys, "_problems", no_problems)
    assert list(targets["keys"](inputs, SEED)) == []
    assert len(tested) == inputs


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        ("500 Internal Server Error", [JSON, NOSNIFF], b'{"error": {"code": "internal_error", "message": "oops"}}'),
        ("503 Service Unavailable", [JSON, NOSNIFF], b'{"error": {"code": "busy", "message": "later"}}'),
        (
            "400 Bad Request",
            [JSON, NOSNIFF],
            b'{"error": {"code": "not_found", "message": "the code belongs to another status"}}',
        ),
        ("400 Bad Request", [JSON, NOSNIFF], b"not JSON"),
        ("404 Not Found", [JSON, NOSNIFF], LONG_MESSAGE),
        ("404 Not Found", [JSON, NOSNIFF], b'{"error": {"code": "not_found"}}'),
        (
            "404 Not Found",
            [JSON, NOSNIFF],
            b'{"error": {"code": ["not_found"], "message": "the code has the wrong type"}}',
        ),
        ("404 Not Found", [JSON, NOSNIFF], b'{"error": "not_found"}'),
        ("404 Not Found", [JSON, NOSNIFF], b"{}"),
        ("404 Not Found", [("Content-Type", "text/html")], b"<!doctype html><h1>Flask's own</h1>"),
        ("302 Found", [JSON], b"{}"),
        ("200 OK", [JSON], b'{"result": ['),
        ("200 OK", [JSON], b'{"password": "s3cret"}'),
        ("200 OK", [JSON, ("Link", "s3cret")], b"{}"),
        ("200 OK", [JSON, ("Link", "a\nb")], b"{}"),
        ("200 OK", [JSON, ("a b", "")], b"{}"),
    ],
)
def test_an_invalid_response_is_reported(status: str, headers: list[tuple[str, str]], body: bytes) -> None:
    def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response(status, headers)
        return [body]

    assert len(Client(app, ["s3cret"]).problems(Request())) == 1


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable", "302 Found"])
def test_an_unexpected_status_of_a_head_request_is_reported(status: str) -> None:
    def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response(status, [JSON, NOSNIFF])
        return []

    assert len(Client(app, []).problems(Request(method="HEAD"))) == 1


def test_an_exception_is_reported() -> None:
    def fail(_environ: "WSGIEnvironment", _start_response: "StartResponse") -> Iterable[bytes]:
        raise RecursionError

    [finding] = Client(fail, []).problems(Request())
    assert finding.startswith("RecursionError")
