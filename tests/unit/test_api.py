"""An exception in a handler becomes an error response, and is logged unless it is the client's error."""

import json

import pytest
from flask import Response
from process_data.shared.api import ApiError, handle_errors
from process_data.shared.quoting import quote
from process_data.shared.storage.errors import AccessDenied, SchemaMissing, Unavailable

from tests.event import Event


def render(error: Exception) -> Response:
    def fail(_event: object, _context: object) -> Response:
        raise error

    return handle_errors(fail)(Event(headers={"X-Call-Id": "7"}), None)


def test_the_details_of_an_unexpected_exception_are_only_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    response = render(ValueError("Secretly"))
    assert response.status_code == 500
    assert response.get_json()["error"]["code"] == "internal_error"
    assert "Secretly" not in response.get_data(as_text=True)
    logged = json.loads(capfd.readouterr().err)
    assert (logged["level"], logged["event"]) == ("error", "failure")
    assert (logged["code"], logged["call_id"]) == ("internal_error", "7")
    assert logged["message"] == "ValueError: Secretly"
    assert logged["at"].startswith("test_api.py:")


def test_an_invalid_request_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    assert render(ApiError(400, "bad_parameter", "invalid x")).status_code == 400
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [Unavailable("s3", "x"), AccessDenied("postgresql", "x"), SchemaMissing("x")])
def test_a_backend_error_is_logged_and_is_a_503_with_retry_after(
    error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    response = render(error)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert json.loads(capfd.readouterr().err)["message"] == "x"


def test_an_error_has_its_code_message_and_detail(capfd: pytest.CaptureFixture[str]) -> None:
    response = render(ApiError(503, "busy", "try again", headers={"Retry-After": "1"}, slots=2))
    assert response.get_json() == {"error": {"code": "busy", "message": "try again", "detail": {"slots": 2}}}
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert json.loads(capfd.readouterr().err)["message"] == "try again"


def test_a_quoted_value_is_truncated_before_it_is_escaped() -> None:
    assert quote("x" * 40) == f"'{'x' * 40}'"
    assert quote("\n" * 41) == repr("\n" * 40 + "…")
