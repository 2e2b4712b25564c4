"""query-data on real servers: results, errors and attempted injections."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from query_data.age import MARCH_DATE, age, age_sql
from query_data.openapi import openapi
from query_data.shared.version import VERSION

from tests.queries import add, add_many, get
from tests.stack import Stack

TODAY = (datetime.now(UTC).date() - date(1970, 1, 1)).days  # days since 1970-01-01

INSERT_BY_AGE = """
insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified)
select days::text, 'First', 'Last', (:today - days) * 86400000::bigint, 'etag', now()
from unnest(cast(:ages_in_days as int[])) days
"""


def query(rollcall: Stack, parameters: str = "") -> list[dict[str, Any]]:
    response = get(rollcall, parameters)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json"), response.body
    document = response.json()
    assert set(document) == {"result", "next"}
    assert document["next"] is None
    people: list[dict[str, Any]] = document["result"]
    return people


def user_ids(people: list[dict[str, Any]]) -> list[str]:
    return [person["user_id"] for person in people]


def test_an_empty_table_gives_an_empty_result(rollcall: Stack) -> None:
    assert get(rollcall).body == b'{"result": [], "next": null}\n'


def test_query_data_returns_what_process_data_ingested(rollcall: Stack) -> None:
    rollcall.bucket.put_person("0001", "Zoë", '"O""Neil, Jr."', -86_400_001)
    rollcall.bucket.put("0001.png", b"png")
    rollcall.process()
    (person,) = query(rollcall)
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


def test_people_are_sorted_by_user_id_as_text(rollcall: Stack) -> None:
    for user_id in ("2", "10", "1", "0001", "100"):
        add(rollcall, user_id)
    assert user_ids(query(rollcall)) == ["0001", "1", "10", "100", "2"]


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


def test_names_are_unchanged_by_sql_copy_and_json(rollcall: Stack) -> None:
    for number, name in enumerate(AWKWARD_NAMES):
        add(rollcall, str(number), first=name, last=name[::-1])
    people = query(rollcall)
    assert [person["first_name"] for person in people] == AWKWARD_NAMES
    assert [person["last_name"][::-1] for person in people] == AWKWARD_NAMES


@pytest.mark.parametrize(("value", "expected"), [("true", ["1"]), ("1", ["1"]), ("FALSE", ["2"]), ("0", ["2"])])
def test_is_image_exists_filters_by_photo(rollcall: Stack, value: str, expected: list[str]) -> None:
    add(rollcall, "1", photo=True)
    add(rollcall, "2")
    assert user_ids(query(rollcall, f"?is_image_exists={value}")) == expected


def test_user_ids_are_compared_as_text(rollcall: Stack) -> None:
    for user_id in ("1", "01", "2", "3", "999999999999999999"):
        add(rollcall, user_id)
    assert user_ids(query(rollcall, "?user_id=01")) == ["01"]
    assert user_ids(query(rollcall, "?user_id=3&user_id=999999999999999999&user_id=3&user_id=4")) == [
        "3",
        "999999999999999999",
    ]


@pytest.mark.parametrize(
    ("text", "expected"), [("a_", ["1"]), ("a%", ["2"]), ("a\\", ["3"]), ("a", ["1", "2", "3", "4"])]
)
def test_a_name_filter_takes_special_characters_literally(rollcall: Stack, text: str, expected: list[str]) -> None:
    for user_id, name in (("1", "A_1"), ("2", "A%1"), ("3", "A\\1"), ("4", "Ab1")):
        add(rollcall, user_id, first=name)
    assert user_ids(query(rollcall, f"?name={quote(text)}")) == expected


def test_a_thousand_user_ids_can_be_requested(rollcall: Stack) -> None:
    expected = add_many(rollcall, 2000)[::2]
    assert user_ids(query(rollcall, "?" + "&".join(f"user_id={user_id}" for user_id in expected))) == expected


def test_filters_are_combined_with_and(rollcall: Stack) -> None:
    for user_id, years, photo in (("1", 20, True), ("2", 40, True), ("3", 40, False), ("4", 60, True)):
        add(rollcall, user_id, born=TODAY - round(years * 365.2425) - 100, photo=photo)
    assert user_ids(query(rollcall, "?min_age=30&max_age=50&is_image_exists=true")) == ["2"]
    assert user_ids(query(rollcall, "?min_age=30&is_image_exists=true&user_id=4&user_id=1")) == ["4"]


def test_age_filters_are_inclusive(rollcall: Stack) -> None:
    rollcall.sql(INSERT_BY_AGE, today=TODAY, ages_in_days=[*range(800), *range(9000, 9400, 7)])
    everyone = query(rollcall)
    ages = sorted({person["age"] for person in everyone})
    for years in (*ages[:3], *ages[360:370], *ages[-2:]):
        text = format(years, ".20f") if years < 1 else repr(years)
        assert user_ids(query(rollcall, f"?min_age={text}")) == [
            person["user_id"] for person in everyone if person["age"] >= years
        ]
        assert user_ids(query(rollcall, f"?max_age={text}")) == [
            person["user_id"] for person in everyone if person["age"] <= years
        ]
        both = query(rollcall, f"?min_age={text}&max_age={text}")
        assert user_ids(both) == [person["user_id"] for person in everyone if person["age"] == years]


@pytest.mark.parametrize(
    "today",
    [
        *(date(2026, 11, 24), date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1), date(2023, 2, 28)),
        *(date(2023, 3, 1), date(2025, 2, 28), date(2000, 2, 29), date(2100, 2, 28), date(2100, 3, 1)),
        *(date(2025, 3, 31), date(2024, 5, 17)),
    ],
    ids=str,
)
def test_sql_and_python_compute_the_same_age_for_every_birthdate(rollcall: Stack, today: date) -> None:
    days = f"select day::date as birthdate from generate_series(date '1850-01-01', date '{today}', '1 day') day"
    dated = f"select birthdate, {MARCH_DATE} from ({days}) as days"
    rows = rollcall.sql(f"select birthdate, {age_sql(today)} from ({dated}) as dated")
    assert len(rows) == (today - date(1850, 1, 1)).days + 1
    assert [row for row in rows if row[1] != age(row[0], today)] == []


def test_the_age_of_a_person_born_today_in_utc_is_zero(rollcall: Stack) -> None:
    today = datetime.now(UTC).date()
    add(rollcall, "1", born=(today - date(1970, 1, 1)).days)
    result = query(rollcall)[0]["age"]
    assert result in (0, age(today, today + timedelta(days=1)))  # the latter if midnight has passed meanwhile


@pytest.mark.parametrize("name", ["is_image_exists", "min_age", "max_age", "user_id"])
@pytest.mark.parametrize(
    "value",
    ["1' or '1'='1", "1'; drop table users; --", "1}','{2", "1\0", "\\", "1)", "$1", ":name", "1\n"],
    ids=repr,
)
def test_sql_injection_is_a_400(rollcall: Stack, name: str, value: str) -> None:
    check_invalid(rollcall, name, value)
    assert rollcall.sql("select to_regclass('users') is not null") == [[True]]


@pytest.mark.parametrize("name", ["is_image_exists", "min_age", "max_age", "user_id"])
@pytest.mark.parametrize("value", ["١", "٣٠", "9" * 5000], ids=["arabic digit", "arabic digits", "long"])
def test_a_non_ascii_digit_or_an_overlong_value_is_a_400(rollcall: Stack, name: str, value: str) -> None:
    check_invalid(rollcall, name, value)


def check_invalid(rollcall: Stack, name: str, value: str) -> None:
    response = get(rollcall, f"?{name}={quote(value)}")
    error = response.json()["error"]
    assert (response.status, error["code"], error["detail"]) == (400, "bad_parameter", {"parameter": name})
    assert error["message"].startswith(f"invalid {name}=")
    assert response.headers["Content-Type"] == "application/json"


def test_an_unknown_path_is_a_404_that_lists_the_known_ones(rollcall: Stack) -> None:
    response = get(rollcall, "/nowhere")
    error = response.json()["error"]
    assert (response.status, error["code"]) == (404, "not_found")
    known = "/, /stats, /changes, /rejected, /runs, /metrics, /openapi.json, /healthz, /photo/<user_id>"
    assert error["message"] == f"unknown path /nowhere; expected one of {known}"
    message = get(rollcall, "/" + "x" * 5000).json()["error"]["message"]
    assert message == f"unknown path /{'x' * 39}…; expected one of {known}"


@pytest.mark.parametrize("path", ["", "/healthz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_disallowed_method_is_a_405_that_lists_the_allowed_ones(rollcall: Stack, method: str, path: str) -> None:
    response = rollcall.request(method, f"/function/query-data{path}", b"body")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_healthz_is_ok_when_the_database_is_available(rollcall: Stack) -> None:
    response = get(rollcall, "/healthz")
    assert (response.status, response.json()) == (200, {"status": "ok", "version": VERSION})


def test_head_has_the_status_and_type_of_get_and_no_body(rollcall: Stack) -> None:
    add(rollcall, "1")
    good, bad = (rollcall.request("HEAD", f"/function/query-data?min_age={text}") for text in ("1", "x"))
    assert (good.status, good.headers["Content-Type"], good.body) == (200, "application/json", b"")
    assert (bad.status, bad.headers["Content-Type"], bad.body) == (400, "application/json", b"")


def test_concurrent_requests_get_their_own_responses(rollcall: Stack) -> None:
    expected = add_many(rollcall, 200)
    with ThreadPoolExecutor(8) as executor:
        results = list(executor.map(lambda user_id: user_ids(query(rollcall, f"?user_id={user_id}")), expected))
    assert results == [[user_id] for user_id in expected]


PARAMETERS = {
    path: [parameter["name"] for parameter in methods["get"]["parameters"]]
    for path, methods in openapi(requires_token=False)["paths"].items()
    if path != "/photo/{user_id}"
}
INJECTIONS = [
    *("1' or '1'='1", "'; drop table users; --", "\\'; drop table users; --", "$$", "\\", "%00", "x\0y", "{}", ":name"),
    *("<script>alert(1)</script>", "\r\nSet-Cookie: a=b", "../../etc/passwd", "%s%n", "\ud7ff\uffff", "☃" * 300),
]


@pytest.mark.parametrize("value", INJECTIONS, ids=ascii)
def test_injection_through_any_parameter_has_no_effect(rollcall: Stack, value: str) -> None:
    add(rollcall, "1")
    for path, parameters in PARAMETERS.items():
        for name in [*parameters, value]:
            response = get(rollcall, f"{path}?{quote(name)}={quote(value)}")
            if name == "name" and response.status == 200:
                document = response.json()
                assert (document.get("result", []), document.get("people", 0)) == ([], 0), path
            else:
                error: dict[str, Any] = response.json()["error"]
                assert (response.status, error["code"]) == (400, "bad_parameter"), (path, name)
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Set-Cookie" not in response.headers
    for path in (f"/{quote(value, safe='')}", f"/photo/{quote(value, safe='')}"):
        response = get(rollcall, path)
        assert (response.status, response.json()["error"]["code"]) == (404, "not_found"), path
    assert rollcall.sql("select count(*) from users") == [[1]]


def test_blank_fields_of_the_form_are_ignored_on_web_pages_only(rollcall: Stack) -> None:
    """From other clients an empty value is an error: a script whose variable is not set must not get all users."""
    url = "/?min_age=&name=&user_id="
    assert get(rollcall, f"{url}&format=html").status == 200
    assert get(rollcall, url).status == 400
