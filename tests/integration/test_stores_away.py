"""A backend that is unavailable, or denies access, is named in a 503 with Retry-After; nothing leaks."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import process_data.handler
import pytest
import query_data.handler
from flask import Response
from process_data.shared.storage.errors import SettingError
from werkzeug.datastructures import Headers, MultiDict

from tests.stack import Stack


class Event:
    """A request as the template hands it over."""

    def __init__(self, method: str, path: str = "/") -> None:
        self.method, self.path, self.body = method, path, b""
        self.headers, self.query = Headers(), MultiDict[str, str]()


@pytest.fixture
def process(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Response]]:
    """process-data with some of the stack's settings replaced."""
    made = process_data.handler._application
    made.clear()

    def call(**replaced: str) -> Response:
        for name, value in {**stack.process_settings, **replaced}.items():
            monkeypatch.setenv(name, value)
        return process_data.handler.handle(Event("POST"), None)

    yield call
    with suppress(SettingError):
        made.get().close()
    made.clear()


@pytest.fixture
def query(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Response]]:
    _forget()

    def call(path: str, **replaced: str) -> Response:
        for name, value in {**stack.query_settings, **replaced}.items():
            monkeypatch.setenv(name, value)
        return query_data.handler.handle(Event("GET", path), None)

    yield call
    query_data.handler._application.get().close()
    _forget()


def _forget() -> None:
    query_data.handler._application.clear()


def error(response: Response) -> tuple[int, Any, str]:
    answer: Any = response.get_json()
    assert set(answer) == {"error"}
    assert "Traceback" not in answer["error"]["message"]
    return response.status_code, answer["error"]["code"], answer["error"]["message"]


@pytest.mark.parametrize(
    ("replaced", "code", "message"),
    [
        ({"s3_endpoint": "127.0.0.1:1"}, "s3_unavailable", "127.0.0.1:1 can't be reached"),
        ({"s3_secret_key": "hidden-wrong-key"}, "s3_refused", "answered 403"),
        ({"source_bucket": "nowhere"}, "s3_refused", "bucket nowhere"),
        ({"postgres_port": "1"}, "postgresql_unavailable", "127.0.0.1:1 can't be reached"),
        ({"postgres_password": "hidden-wrong-password"}, "postgresql_refused", "password authentication failed"),
        ({"postgres_database": "nowhere"}, "postgresql_refused", "nowhere"),
    ],
)
def test_process_data_says_which_backend_is_unavailable(
    process: Callable[..., Response], replaced: dict[str, str], code: str, message: str
) -> None:
    response = process(**replaced)
    status, got, text = error(response)
    assert (status, got) == (503, code)
    assert message in text
    assert "hidden" not in text
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_query_data_says_that_the_database_is_unavailable(query: Callable[..., Response], path: str) -> None:
    response = query(path, postgres_port="1")
    status, code, _ = error(response)
    assert (status, code) == (503, "postgresql_unavailable")
    assert "Retry-After" in response.headers


def test_without_tables_query_data_says_what_to_run(roll: Stack, query: Callable[..., Response]) -> None:
    roll.sql("alter table users rename to users_moved")
    try:
        status, code, message = error(query("/"))
    finally:
        roll.sql("alter table users_moved rename to users")
    assert (status, code) == (503, "schema_missing")
    assert "run process-data" in message


@pytest.mark.parametrize("name", ["s3_endpoint", "postgres_password"])
def test_a_missing_setting_is_named(process: Callable[..., Response], name: str) -> None:
    status, code, message = error(process(**{name: ""}))
    assert (status, code) == (500, "bad_setting")
    assert message.startswith(f"{name} is not set")


def test_a_run_that_failed_is_recorded_and_the_next_one_continues(
    roll: Stack, process: Callable[..., Response]
) -> None:
    roll.bucket.put_person("1")
    assert process(s3_endpoint="127.0.0.1:1").status_code == 503
    assert roll.sql("select status, error ~ '127.0.0.1:1' from runs") == [["failed", True]]
    assert roll.process()["added"] == 1
