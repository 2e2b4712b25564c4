"""Responses to backend and configuration errors, with and without the API token."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import process_data.handler
import pytest
import query_data.handler
from flask import Response
from process_data.shared.storage.errors import SettingError
from query_data.shared.storage.errors import SettingError as QuerySettingError

from tests.event import Event
from tests.stack import Stack

TOKEN_SETTINGS = {"auth": "token", "api_token": "s3cret"}
VALID, WRONG = "Bearer s3cret", "Bearer wrong"
CONCEALED_MESSAGE = "the details are in the function's log; with the API token, they are in the response, too"


@pytest.fixture
def process(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Response]]:
    """Return a function that calls process-data's handler with some of the stack's settings replaced."""
    lazy_application = process_data.handler._application
    lazy_application.clear()

    def call(authorization: str = "", **overrides: str) -> Response:
        for name, value in {**stack.process_settings, **overrides}.items():
            monkeypatch.setenv(name, value)
        return process_data.handler.handle(Event(headers={"Authorization": authorization}), None)

    yield call
    with suppress(SettingError):
        lazy_application.get().close()
    lazy_application.clear()


@pytest.fixture
def query(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Response]]:
    """Return a function that calls query-data's handler in the same way."""
    lazy_application = query_data.handler._application
    lazy_application.clear()

    def call(path: str, authorization: str = "", **overrides: str) -> Response:
        for name, value in {**stack.query_settings, **overrides}.items():
            monkeypatch.setenv(name, value)
        return query_data.handler.handle(Event(path, "GET", headers={"Authorization": authorization}), None)

    yield call
    with suppress(QuerySettingError):
        lazy_application.get().close()
    lazy_application.clear()


def error(response: Response) -> tuple[int, Any, str]:
    """Return the status, code and message of an error."""
    document: Any = response.get_json()
    assert set(document) == {"error"}
    assert "Traceback" not in document["error"]["message"]
    return response.status_code, document["error"]["code"], document["error"]["message"]


BACKEND_ERRORS = pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        ({"s3_endpoint": "127.0.0.1:1"}, "s3_unavailable", "127.0.0.1:1 cannot be reached"),
        ({"s3_secret_key": "hidden-wrong-key"}, "s3_access_denied", "returned 403"),
        ({"source_bucket": "nowhere"}, "s3_access_denied", "bucket nowhere"),
        ({"postgres_port": "1"}, "postgresql_unavailable", "127.0.0.1:1 cannot be reached"),
        ({"postgres_password": "hidden-wrong-password"}, "postgresql_access_denied", "password authentication failed"),
        ({"postgres_database": "nowhere"}, "postgresql_access_denied", "nowhere"),
    ],
)


@BACKEND_ERRORS
def test_process_data_reports_backend_errors_without_secrets(
    process: Callable[..., Response], overrides: dict[str, str], code: str, message: str
) -> None:
    response = process(**overrides)
    status, actual, text = error(response)
    assert (status, actual) == (503, code)
    assert message in text
    assert "hidden" not in text
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_query_data_reports_an_unavailable_database(query: Callable[..., Response], path: str) -> None:
    response = query(path, postgres_port="1")
    status, code, _ = error(response)
    assert (status, code) == (503, "postgresql_unavailable")
    assert "Retry-After" in response.headers


def test_the_error_for_a_missing_table_mentions_the_setup_script(
    rollcall: Stack, query: Callable[..., Response]
) -> None:
    rollcall.sql("alter table users rename to users_moved")
    try:
        status, code, message = error(query("/"))
    finally:
        rollcall.sql("alter table users_moved rename to users")
    assert (status, code) == (503, "schema_missing")
    assert "infra/postgres/setup.sh" in message


@pytest.mark.parametrize("name", ["s3_endpoint", "postgres_password"])
def test_a_missing_setting_is_named(process: Callable[..., Response], name: str) -> None:
    status, code, message = error(process(**{name: ""}))
    assert (status, code) == (500, "bad_setting")
    assert message.startswith(f"{name} is required")


@pytest.mark.parametrize(("name", "value"), [("s3_endpoint", "127.0.0.1:99999"), ("s3_region", "no region")])
def test_an_endpoint_or_region_that_the_s3_client_rejects_is_named(
    process: Callable[..., Response], name: str, value: str
) -> None:
    status, code, message = error(process(**{name: value}))
    assert (status, code) == (500, "bad_setting")
    assert f"{name}='{value}'" in message


def test_a_failed_run_is_recorded_and_the_next_one_succeeds(rollcall: Stack, process: Callable[..., Response]) -> None:
    rollcall.bucket.put_person("1")
    assert process(s3_endpoint="127.0.0.1:1").status_code == 503
    assert rollcall.sql("select status, error ~ '127.0.0.1:1' from runs") == [["failed", True]]
    assert rollcall.process()["added"] == 1


@BACKEND_ERRORS
def test_errors_without_the_token_do_not_expose_the_deployment(
    process: Callable[..., Response],
    capsys: pytest.CaptureFixture[str],
    overrides: dict[str, str],
    code: str,
    message: str,
) -> None:
    for authorization in ("", WRONG):
        response = process(authorization, **TOKEN_SETTINGS, **overrides)
        assert error(response) == (503, code, CONCEALED_MESSAGE)
        assert int(response.headers["Retry-After"]) > 0
        assert message in capsys.readouterr().err
    assert message in error(process(VALID, **TOKEN_SETTINGS, **overrides))[2]


def test_health_checks_without_the_token_do_not_expose_addresses(query: Callable[..., Response]) -> None:
    status, code, message = error(query("/healthz", **TOKEN_SETTINGS, postgres_port="1"))
    assert (status, code) == (503, "postgresql_unavailable")
    assert "127.0.0.1" not in message
    assert "127.0.0.1:1" in error(query("/healthz", VALID, **TOKEN_SETTINGS, postgres_port="1"))[2]


def test_runs_without_the_token_return_only_status_and_id(rollcall: Stack, process: Callable[..., Response]) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("2.csv", b"first_name,last_name,birthts\nAda,Secret,soon\n")
    for number, authorization in enumerate(("", WRONG), start=1):
        assert process(authorization, **TOKEN_SETTINGS).get_json() == {"status": "done", "run_id": number}
    assert rollcall.sql("select user_id from users") == [["1"]], "the run must still process the bucket"
    summary: Any = process(VALID, **TOKEN_SETTINGS).get_json()
    assert (summary["run_id"], summary["listed"], summary["rejections"][0]["object"]) == (3, 2, "2.csv")
    rollcall.bucket.clear()
    assert error(process(**TOKEN_SETTINGS)) == (503, "source_empty", CONCEALED_MESSAGE)
    assert rollcall.bucket.source in error(process(VALID, **TOKEN_SETTINGS))[2]


def test_functions_without_a_configured_token_serve_nothing(
    process: Callable[..., Response], query: Callable[..., Response]
) -> None:
    no_token = {"auth": "", "api_token": ""}
    for response in (process(**no_token), query("/", **no_token), query("/healthz", **no_token)):
        status, code, message = error(response)
        assert (status, code) == (500, "bad_setting")
        assert message.startswith("api_token is required with auth=token")
