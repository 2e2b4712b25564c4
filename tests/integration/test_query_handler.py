"""query-data's handler, called directly: with other settings, on other dates, and during failures."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from functools import partial

import pytest
from flask import Response
from query_data import application, endpoints, handler
from query_data.shared.storage.connection import Connection
from query_data.shared.storage.errors import SettingError, Unavailable
from query_data.shared.storage.settings import PostgresSettings, load
from query_data.web import page as web_page

from tests.event import Event
from tests.queries import add, add_many, get, user_ids_in
from tests.stack import Stack, connected

Call = Callable[..., Response]
MANY = 100_000


@pytest.fixture
def call(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Yield a function that calls the handler with query-data's settings, some of them replaced."""

    def call(path: str = "/", method: str = "GET", **settings: str) -> Response:
        for name, value in (rollcall.query_settings | settings).items():
            monkeypatch.setenv(name, value)
        responses.append(handler.handle(Event(path, method), None))
        return responses[-1]

    responses: list[Response] = []
    handler._application.clear()
    yield call
    for response in responses:
        response.close()  # as a server does
    with suppress(SettingError):
        handler._application.get().close()
    handler._application.clear()


def error_of(response: Response) -> tuple[int, str, str]:
    error = json.loads(response.get_data())["error"]
    return response.status_code, error["code"], error["message"]


def count_copy_sessions(rollcall: Stack) -> int:
    """Return how many sessions of query-data's role run a COPY."""
    with Connection(load(PostgresSettings, rollcall.query_settings)) as connection:
        activity = "from pg_stat_activity where usename = current_user and state = 'active' and query like 'copy%'"
        return int(connection.run(f"select count(*) {activity}")[0][0])


@pytest.mark.parametrize(("path", "method"), [("/", "GET"), ("/", "HEAD"), ("/healthz", "GET")])
def test_an_unavailable_database_is_a_503(call: Call, path: str, method: str) -> None:
    response = call(path, method, postgres_port="1")
    status, code, message = error_of(response)
    assert (status, code, response.headers["Retry-After"]) == (503, "postgresql_unavailable", "5")
    assert "127.0.0.1:1 cannot be reached" in message


def test_a_session_that_ended_after_a_request_is_replaced(rollcall: Stack, call: Call) -> None:
    # The second request pings the session. The third comes within a second of that, so it pings only because the server
    # has sent a message: that it ended the session.
    statuses = [call("/?limit=1").status_code for _ in range(2)]
    with Connection(load(PostgresSettings, rollcall.query_settings)) as connection:
        others = "from pg_stat_activity where usename = current_user and pid <> pg_backend_pid()"
        assert connection.run(f"select pg_terminate_backend(pid, 5000) {others}")
    assert [*statuses, call("/?limit=1").status_code] == [200, 200, 200]


def test_a_wrong_password_is_a_503_that_shows_no_secret(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    status, code, message = error_of(call("/healthz", postgres_password="hunter2"))
    assert (status, code) == (503, "postgresql_access_denied")
    assert "hunter2" not in message + "".join(capsys.readouterr())


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_a_database_without_tables_is_a_503_that_names_the_setup_script(call: Call, path: str) -> None:
    status, code, message = error_of(call(path, postgres_database="postgres"))
    assert (status, code) == (503, "schema_missing")
    assert "infra/postgres/setup.sh" in message


@pytest.mark.parametrize(
    ("change", "undo"),
    [("users rename to moved", "moved rename to users"), ("users rename img_path to a", "users rename a to img_path")],
    ids=["table", "column"],
)
def test_a_missing_table_or_column_is_a_503_for_every_method_and_the_health_check(
    rollcall: Stack, call: Call, change: str, undo: str
) -> None:
    rollcall.sql(f"alter table {change}")
    try:
        responses = [call("/", "GET"), call("/", "HEAD"), call("/healthz", "GET")]
    finally:
        rollcall.sql(f"alter table {undo}")
    assert [error_of(response)[:2] for response in responses] == [(503, "schema_missing")] * 3


@pytest.mark.parametrize(
    "path", ["/?", "/?format=csv&", "/?limit=5&", "/?limit=5&count=1&sort=birthdate&", "/?format=html&", "/stats?"]
)
def test_at_midnight_every_response_that_depends_on_the_date_changes(
    rollcall: Stack, call: Call, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    add(rollcall, "1", born=(date(1990, 6, 15) - date(1970, 1, 1)).days)
    results = []
    for today in (date(2020, 6, 14), date(2020, 6, 15)):
        monkeypatch.setattr(endpoints, "_today", partial(date, today.year, today.month, today.day))
        response = call(f"{path}min_age=30")
        results.append((response.headers["ETag"], response.headers.get("X-Total-Count"), response.get_data()))
    (etag, count, body), (next_etag, next_count, next_body) = results
    assert etag != next_etag
    assert body != next_body
    assert (count, next_count) in ((None, None), ("0", "1"))


def test_an_invalid_setting_is_named_in_the_error(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    status, code, message = error_of(call(postgres_port="http"))
    assert (status, code) == (500, "bad_setting")
    assert message == "invalid postgres_port='http': expected a whole number from 1 to 65535"
    assert json.loads(capsys.readouterr().err)["message"] == message


def test_closing_a_response_stops_its_query(rollcall: Stack, call: Call) -> None:
    add_many(rollcall, MANY)
    response = call()
    assert next(iter(response.response)) == b'{"result": ['
    assert count_copy_sessions(rollcall) == 1
    response.close()
    deadline = time.monotonic() + 10
    while count_copy_sessions(rollcall) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count_copy_sessions(rollcall) == 0


def test_a_failure_during_a_stream_ends_it_with_an_exception(rollcall: Stack, call: Call) -> None:
    add_many(rollcall, MANY)
    chunks = iter(call().response)
    next(chunks)
    rollcall.sql("select pg_cancel_backend(pid) from pg_stat_activity where query like 'copy%'")
    with pytest.raises(Unavailable, match="canceling statement"):
        list(chunks)
    assert count_copy_sessions(rollcall) == 0


def test_a_stream_without_a_row_before_its_deadline_is_an_error(rollcall: Stack, call: Call) -> None:
    """Otherwise the response would look like an empty result."""
    with connected(rollcall.settings) as locking:
        locking.run("begin")
        locking.run("lock table users in access exclusive mode")
        status, code, message = error_of(call(stream_deadline="1"))
    assert (status, code) == (503, "postgresql_unavailable")
    assert "did not respond within 1 s" in message


def test_a_stream_ends_at_its_deadline_although_more_could_be_read(rollcall: Stack, call: Call) -> None:
    """The client is slower than the database, so the next chunk is always ready."""
    add_many(rollcall, 30_000)
    stream = call("/?format=ndjson", stream_deadline="3").iter_encoded()
    chunks = [next(stream)]
    time.sleep(3.1)
    for chunk in stream:
        chunks.append(chunk)
        time.sleep(0.05)
    *people, last = b"".join(chunks).splitlines()
    assert 0 < len(people) < 30_000
    assert json.loads(last)["next"]


def test_a_stream_ends_at_its_deadline_if_the_database_session_is_frozen(rollcall: Stack, call: Call) -> None:
    user_ids = add_many(rollcall, 300)
    rollcall.sql("update users set img_path = repeat('x', 100000)")  # each row fills a chunk, so none waits for others
    stream = call("/?format=ndjson", stream_deadline="2").iter_encoded()
    chunks = [next(stream)]
    [[pid]] = rollcall.sql("select pid from pg_stat_activity where state = 'active' and query like 'copy%'")
    os.kill(pid, signal.SIGSTOP)
    try:
        chunks += stream
    finally:
        os.kill(pid, signal.SIGCONT)
    *people, last = map(json.loads, b"".join(chunks).splitlines())
    assert 0 < len(people) < len(user_ids)
    assert [person["user_id"] for person in people] == user_ids[: len(people)]
    rest = get(rollcall, f"{last['next']}&limit=1".replace("ndjson", "json"))
    assert user_ids_in(rest) == [user_ids[len(people)]]


def test_the_error_page_at_a_path_that_repeats_the_function_name_has_the_filter_form(call: Call) -> None:
    """Links on the page /function/query-data/ lead to such paths: see `query_data.paths`."""
    page = call("/query-data/?min_age=x&format=html")
    assert (page.status_code, b'name="min_age"' in page.get_data()) == (400, True)


def test_pages_at_different_paths_have_their_own_links(call: Call) -> None:
    for path, link in (("/", "query-data/runs"), ("/query-data/", "../runs"), ("/", "query-data/runs")):
        assert f'href="{link}"' in call(f"{path}?format=html").get_data(as_text=True)


@pytest.mark.parametrize("path", ["/", "/rejected", "/runs"])
def test_a_change_to_the_templates_changes_the_etag(call: Call, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    before = call(f"{path}?format=html").headers["ETag"]
    monkeypatch.setattr(web_page, "TEMPLATES_VERSION", "next")
    assert call(f"{path}?format=html").headers["ETag"] != before


def test_the_statements_of_a_request_share_one_time_limit(
    rollcall: Stack, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "TIMEOUT_MARGIN", 0)
    call("/healthz", postgres_timeout="3", stream_deadline="1")  # stream_deadline must be less than postgres_timeout
    with handler._application.get().connection() as connection:
        connection.run("select pg_sleep(1.2)")
        with pytest.raises(Unavailable, match="did not respond in time"):
            connection.run("select pg_sleep(2.7)")


def test_a_long_stream_is_complete(rollcall: Stack, call: Call) -> None:
    user_ids = add_many(rollcall, MANY)
    response = get(rollcall)
    assert (response.headers["Content-Type"], set(response.json())) == ("application/json", {"result", "next"})
    assert response.json()["next"] is None
    assert user_ids_in(response) == user_ids
    assert call().get_data() == response.body
