"""query-data on real servers: results, errors and resources."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from flask import Response as FlaskResponse
from query_data import endpoints, handler
from query_data.age import MARCH_DATE, age, age_sql
from query_data.shared.storage.errors import SettingError, Unavailable
from query_data.shared.storage.records import Connection
from query_data.shared.storage.settings import RecordsSettings, load
from query_data.shared.version import VERSION
from werkzeug.test import EnvironBuilder

from tests.stack import Response, Stack

TODAY = datetime.now(UTC).date()
EPOCH = date(1970, 1, 1)
DAY = timedelta(days=1)

INSERT = """
insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified)
values (:user_id, :first, :last, :birthts, :img_path, 'etag', now())
"""

INSERT_MANY = """
insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified)
select lpad(n::text, 9, '0'), 'First ' || n, 'Last', n, 'etag', now() from generate_series(1, :count) n
"""

INSERT_BORN = """
insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified)
select days::text, 'First', 'Last', (:today - days) * 86400000::bigint, 'etag', now()
from unnest(cast(:ages as int[])) days
"""  # ages in days


def get(roll: Stack, query: str = "") -> Response:
    return roll.request("GET", f"/function/query-data{query}")


def get_people(roll: Stack, query: str = "") -> list[dict[str, Any]]:
    response = get(roll, query)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json"), response.body
    document = response.json()
    assert set(document) == {"result", "next"}
    assert document["next"] is None
    people: list[dict[str, Any]] = document["result"]
    return people


def ids(people: list[dict[str, Any]]) -> list[str]:
    return [person["user_id"] for person in people]


def add(
    roll: Stack, user_id: str, born: date = EPOCH, first: str = "Ada", last: str = "Byron", photo: bool = False
) -> None:
    birthts = (born - EPOCH).days * 86_400_000
    img_path = f"src/{user_id}.png" if photo else None
    roll.sql(INSERT, user_id=user_id, first=first, last=last, birthts=birthts, img_path=img_path)


def test_an_empty_table_is_an_empty_result(roll: Stack) -> None:
    assert get(roll).body == b'{"result": [], "next": null}\n'


def test_query_data_returns_what_process_data_ingested(roll: Stack) -> None:
    roll.bucket.put_person("0001", "Zoë", '"O""Neil, Jr."', -86_400_001)
    roll.bucket.put("0001.png", b"png")
    roll.process()
    (person,) = get_people(roll)
    assert isinstance(person.pop("id"), int)
    assert person == {
        "user_id": "0001",
        "first_name": "Zoë",
        "last_name": 'O"Neil, Jr.',
        "birthdate": "1969-12-30",
        "birthts": -86_400_001,
        "img_path": "src/0001.png",
        "age": age(date(1969, 12, 30), datetime.now(UTC).date()),
    }


def test_people_are_sorted_by_the_bytes_of_their_ids(roll: Stack) -> None:
    for user_id in ("2", "10", "1", "0001", "100"):
        add(roll, user_id)
    assert ids(get_people(roll)) == ["0001", "1", "10", "100", "2"]


AWKWARD_NAMES = [
    'quote " and backslash \\ and \\" both',
    "\\n \\u0041 \\x01",
    "line\nfeed, tab\t, return\r, \x01 and \x02 and \x7f",
    "separators \u2028 \u2029",
    "</script><b>&amp;",
    "emoji 👩‍👩‍👧 and ☃",
    "נועה אברהמי محمد 小明 สมชาย",
    '], "next": null}',
    "{} :name %s $1 \\.",
]


def test_names_are_unchanged_by_sql_copy_and_json(roll: Stack) -> None:
    for number, name in enumerate(AWKWARD_NAMES):
        add(roll, str(number), first=name, last=name[::-1])
    people = get_people(roll)
    assert [person["first_name"] for person in people] == AWKWARD_NAMES
    assert [person["last_name"][::-1] for person in people] == AWKWARD_NAMES


@pytest.mark.parametrize(("value", "expected"), [("true", ["1"]), ("1", ["1"]), ("FALSE", ["2"]), ("0", ["2"])])
def test_is_image_exists_filters_by_photo(roll: Stack, value: str, expected: list[str]) -> None:
    add(roll, "1", photo=True)
    add(roll, "2")
    assert ids(get_people(roll, f"?is_image_exists={value}")) == expected


def test_user_ids_are_compared_as_text(roll: Stack) -> None:
    for user_id in ("1", "01", "2", "3", "999999999999999999"):
        add(roll, user_id)
    assert ids(get_people(roll, "?user_id=01")) == ["01"]
    assert ids(get_people(roll, "?user_id=3&user_id=999999999999999999&user_id=3&user_id=4")) == [
        "3",
        "999999999999999999",
    ]


def test_a_thousand_user_ids_can_be_requested(roll: Stack) -> None:
    roll.sql(INSERT_MANY, count=2000)
    expected = [f"{n:09}" for n in range(1, 2001, 2)]
    assert ids(get_people(roll, "?" + "&".join(f"user_id={user_id}" for user_id in expected))) == expected


def test_filters_are_combined_with_and(roll: Stack) -> None:
    for user_id, years, photo in (("1", 20, True), ("2", 40, True), ("3", 40, False), ("4", 60, True)):
        add(roll, user_id, TODAY - timedelta(days=round(years * 365.2425) + 100), photo=photo)
    assert ids(get_people(roll, "?min_age=30&max_age=50&is_image_exists=true")) == ["2"]
    assert ids(get_people(roll, "?min_age=30&is_image_exists=true&user_id=4&user_id=1")) == ["4"]


def test_age_filters_include_the_exact_age(roll: Stack) -> None:
    today = (datetime.now(UTC).date() - EPOCH).days
    roll.sql(INSERT_BORN, today=today, ages=[*range(800), *range(9000, 9400, 7)])
    everyone = get_people(roll)
    ages = sorted({person["age"] for person in everyone})
    for years in (*ages[:3], *ages[360:370], *ages[-2:]):
        text = format(years, ".20f") if years < 1 else repr(years)
        assert ids(get_people(roll, f"?min_age={text}")) == [
            person["user_id"] for person in everyone if person["age"] >= years
        ]
        assert ids(get_people(roll, f"?max_age={text}")) == [
            person["user_id"] for person in everyone if person["age"] <= years
        ]
        both = get_people(roll, f"?min_age={text}&max_age={text}")
        assert ids(both) == [person["user_id"] for person in everyone if person["age"] == years]


@pytest.mark.parametrize(
    "today",
    [
        *(date(2026, 11, 24), date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1), date(2023, 2, 28)),
        *(date(2023, 3, 1), date(2025, 2, 28), date(2000, 2, 29), date(2100, 2, 28), date(2100, 3, 1)),
    ],
    ids=str,
)
def test_sql_and_python_compute_the_same_age_for_every_birthdate(roll: Stack, today: date) -> None:
    days = f"select day::date as birthdate from generate_series(date '1850-01-01', date '{today}', '1 day') day"
    dated = f"select birthdate, {MARCH_DATE} from ({days}) as days"
    rows = roll.sql(f"select birthdate, {age_sql(today)} from ({dated}) as dated")
    assert len(rows) == (today - date(1850, 1, 1)).days + 1
    assert [row for row in rows if row[1] != age(row[0], today)] == []


def test_today_is_in_utc(roll: Stack) -> None:
    add(roll, "1", born=(today := datetime.now(UTC).date()))
    result = get_people(roll)[0]["age"]
    assert result in (age(today, today), age(today, today + DAY))


@pytest.mark.parametrize(
    "value",
    [
        "1' or '1'='1",
        "1'; drop table users; --",
        "1}','{2",
        "1\0",
        "\\",
        "1)",
        "$1",
        ":name",
        "1\n",
        "١",
        "٣٠",
        "9" * 5000,
    ],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize("name", ["is_image_exists", "min_age", "max_age", "user_id"])
def test_sql_injection_is_a_400(roll: Stack, name: str, value: str) -> None:
    response = get(roll, f"?{name}={quote(value)}")
    error = response.json()["error"]
    assert (response.status, error["code"], error["detail"]) == (400, "bad_parameter", {"parameter": name})
    assert error["message"].startswith(f"{name}=")
    assert response.headers["Content-Type"] == "application/json"
    assert roll.sql("select to_regclass('users') is not null") == [[True]]


def test_an_unknown_path_is_a_404_that_lists_the_known_ones(roll: Stack) -> None:
    response = get(roll, "/nowhere")
    error = response.json()["error"]
    assert (response.status, error["code"]) == (404, "not_found")
    known = "/, /stats, /changes, /rejected, /runs, /metrics, /openapi.json, /healthz and /photo/<user_id>"
    assert error["message"] == f"unknown path /nowhere; expected one of {known}"
    message = get(roll, "/" + "x" * 5000).json()["error"]["message"]
    assert message == f"unknown path /{'x' * 39}…; expected one of {known}"


@pytest.mark.parametrize("path", ["", "/healthz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_another_method_is_a_405_that_lists_the_allowed_ones(roll: Stack, method: str, path: str) -> None:
    response = roll.request(method, f"/function/query-data{path}", b"body")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_healthz_is_ok_when_the_database_is_available(roll: Stack) -> None:
    response = get(roll, "/healthz")
    assert (response.status, response.json()) == (200, {"status": "ok", "version": VERSION})


def test_head_responds_like_get_without_a_body(roll: Stack) -> None:
    add(roll, "1")
    good, bad = (roll.request("HEAD", f"/function/query-data{query}") for query in ("?min_age=1", "?min_age=x"))
    assert (good.status, good.headers["Content-Type"], good.body) == (200, "application/json", b"")
    assert (bad.status, bad.headers["Content-Type"], bad.body) == (400, "application/json", b"")


def test_concurrent_requests_get_their_own_responses(roll: Stack) -> None:
    roll.sql(INSERT_MANY, count=200)
    expected = [f"{n:09}" for n in range(1, 201)]
    with ThreadPoolExecutor(8) as executor:
        results = list(executor.map(lambda user_id: ids(get_people(roll, f"?user_id={user_id}")), expected))
    assert results == [[user_id] for user_id in expected]


# The tests below call the handler directly, with other settings or a misbehaving client.

Call = Callable[..., FlaskResponse]
MANY = 100_000


class Event:
    """A request as the OpenFaaS template passes it."""

    def __init__(self, path: str, method: str) -> None:
        request = EnvironBuilder(path, method=method).get_request()
        self.body, self.headers, self.method = request.get_data(), request.headers, request.method
        self.query, self.path = request.args, request.path


@pytest.fixture
def call(roll: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Call the handler with query-data's settings, some of them replaced."""

    def call(path: str = "/", method: str = "GET", **settings: str) -> FlaskResponse:
        for name, value in (roll.query_settings | settings).items():
            monkeypatch.setenv(name, value)
        responses.append(handler.handle(Event(path, method), None))
        return responses[-1]

    responses: list[FlaskResponse] = []
    handler._application.clear()
    yield call
    for response in responses:
        response.close()  # as a server does
    with suppress(SettingError):
        handler._application.get().close()
    handler._application.clear()


def error_of(response: FlaskResponse) -> tuple[int, str, str]:
    error = json.loads(response.get_data())["error"]
    return response.status_code, error["code"], error["message"]


def copies(roll: Stack) -> int:
    """Return the number of sessions of query-data's role that run a COPY."""
    with Connection(load(RecordsSettings, roll.query_settings)) as connection:
        activity = "from pg_stat_activity where usename = current_user and state = 'active' and query like 'copy%'"
        return int(connection.run(f"select count(*) {activity}")[0][0])


@pytest.mark.parametrize(("path", "method"), [("/", "GET"), ("/", "HEAD"), ("/healthz", "GET")])
def test_an_unavailable_database_is_a_503(call: Call, path: str, method: str) -> None:
    response = call(path, method, postgres_port="1")
    status, code, message = error_of(response)
    assert (status, code, response.headers["Retry-After"]) == (503, "postgresql_unavailable", "5")
    assert "127.0.0.1:1 can't be reached" in message


def test_a_session_that_ended_after_a_request_is_replaced(roll: Stack, call: Call) -> None:
    statuses = [
        call("/?limit=1").status_code for _ in range(2)
    ]  # the second request found the session alive, so it is trusted now
    with Connection(load(RecordsSettings, roll.query_settings)) as connection:
        others = "from pg_stat_activity where usename = current_user and pid <> pg_backend_pid()"
        assert connection.run(f"select pg_terminate_backend(pid, 5000) {others}")
    assert [*statuses, call("/?limit=1").status_code] == [200, 200, 200]


def test_a_wrong_password_is_a_503_that_shows_no_secret(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    status, code, message = error_of(call("/healthz", postgres_password="hunter2"))
    assert (status, code) == (503, "postgresql_refused")
    assert "hunter2" not in message + "".join(capsys.readouterr())


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_a_database_without_tables_is_a_503_that_names_the_setup_script(call: Call, path: str) -> None:
    status, code, message = error_of(call(path, postgres_database="postgres"))
    assert (status, code) == (503, "schema_missing")
    assert "infra/postgres/setup.sh" in message


@pytest.mark.parametrize(
    "path", ["/?", "/?format=csv&", "/?limit=5&", "/?limit=5&count=1&sort=birthdate&", "/?format=html&", "/stats?"]
)
def test_at_midnight_every_response_that_depends_on_the_date_changes(
    roll: Stack, call: Call, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    add(roll, "1", born=date(1990, 6, 15))
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
    assert message == "postgres_port='http' is not allowed: a whole number from 1 to 65535"
    assert json.loads(capsys.readouterr().err)["message"] == message


def test_a_disconnected_client_stops_the_query(roll: Stack, call: Call) -> None:
    roll.sql(INSERT_MANY, count=MANY)
    response = call()
    assert next(iter(response.response)) == b'{"result": ['
    assert copies(roll) == 1
    response.close()
    deadline = time.monotonic() + 10
    while copies(roll) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert copies(roll) == 0


def test_a_failure_during_a_stream_truncates_the_response(roll: Stack, call: Call) -> None:
    roll.sql(INSERT_MANY, count=MANY)
    chunks = iter(call(postgres_timeout="1").response)
    next(chunks)
    time.sleep(1.5)  # the statement times out with most rows unsent
    with pytest.raises(Unavailable, match="statement timeout"):
        list(chunks)
    assert copies(roll) == 0


def test_a_long_stream_is_complete(roll: Stack, call: Call) -> None:
    roll.sql(INSERT_MANY, count=MANY)
    people = get_people(roll)
    assert ids(people) == [f"{n:09}" for n in range(1, MANY + 1)]
    assert call().get_data() == get(roll).body
