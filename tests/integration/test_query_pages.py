"""Sorting, paging, counting and formats on real servers."""

import csv
import io
import itertools
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.stack import Response, Stack

INSERT = """
insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified)
values (:user_id, :first, :last, :birthts, :img_path, 'etag', now())
"""
DAY = 86_400_000


def add(roll: Stack, user_id: str, first: str = "Ada", last: str = "Byron", born: int = 0, photo: bool = False) -> None:
    img_path = f"src/{user_id}.png" if photo else None
    roll.sql(INSERT, user_id=user_id, first=first, last=last, birthts=born * DAY, img_path=img_path)


def mark_changed(roll: Stack) -> None:
    """Mark the data as changed, as process-data does."""
    roll.sql("update outputs set changed = changed + 1 where object = 'output.csv'")


def get(roll: Stack, query: str = "", **headers: str) -> Response:
    return roll.request("GET", f"/function/query-data{query}", b"", **headers)


def ids(response: Response) -> list[str]:
    assert response.status == 200, response.body
    return [person["user_id"] for person in response.json()["result"]]


def pages(roll: Stack, query: str) -> Iterator[list[str]]:
    """Yield the ids of each page, following `next`."""
    url: str | None = query
    while url is not None:
        response = get(roll, url)
        yield ids(response)
        url = response.json()["next"]
        assert response.headers.get("Link") == (url and f'<{url}>; rel="next"')


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("user_id", ["1", "10", "2", "3"]),
        ("-user_id", ["3", "2", "10", "1"]),
        ("birthdate", ["2", "1", "10", "3"]),
        ("-birthdate", ["3", "10", "1", "2"]),
        ("last_name", ["3", "1", "10", "2"]),
        ("-last_name", ["2", "10", "1", "3"]),
    ],
)
@pytest.mark.parametrize("limit", ["", "&limit=1", "&limit=3", "&limit=4", "&limit=1000"])
def test_people_are_sorted_across_pages(roll: Stack, sort: str, expected: list[str], limit: str) -> None:
    for user_id, last, born in (("1", "byron", 5), ("2", "Żak", -9), ("3", "Adams", 7), ("10", "BYRON", 5)):
        add(roll, user_id, last=last, born=born)
    assert list(itertools.chain(*pages(roll, f"?sort={sort}{limit}"))) == expected


@pytest.mark.parametrize("sort", ["last_name", "-last_name", "birthdate", "-birthdate"])
def test_paging_is_stable_among_equal_values_and_concurrent_changes(roll: Stack, sort: str) -> None:
    for n in range(100, 140):
        add(roll, str(n), last="Same" if n % 4 else "Other")
    listed: list[str] = []
    for number, page in enumerate(pages(roll, f"?sort={sort}&limit=3")):
        listed += page
        add(roll, f"{number}", last="Same")  # before or after the cursor
        add(roll, f"9{number}", last="Other")
        roll.sql("delete from users where user_id = :user_id", user_id=page[-1])  # the row that the cursor refers to
    assert len(listed) == len(set(listed))
    assert set(listed) >= {str(n) for n in range(100, 140)}


def test_a_cursor_is_valid_for_its_sort_only(roll: Stack) -> None:
    for n in range(5):
        add(roll, str(n), photo=n % 2 == 0)
    following = get(roll, "?limit=2").json()["next"]
    assert ids(get(roll, f"{following}&is_image_exists=true")) == ["2", "4"]
    error = get(roll, f"{following}&sort=birthdate").json()["error"]
    assert error["message"] == "after belongs to another order than birthdate: keep sort as it was"
    assert error["detail"] == {"parameter": "after"}


@pytest.mark.parametrize(
    "cursor",
    [
        *('["birthdate", "2000-W01-1", "1"]', '["birthdate", "2000-13-01", "1"]', '["birthdate", 1, "1"]'),
        *('["birthdate", "2000-01-01", "1\\u0000"]', '["birthdate", "2000-01-01", "\\ud800"]', "[" * 60_000),
    ],
)
def test_a_forged_cursor_is_an_error(roll: Stack, cursor: str) -> None:
    after = urlsafe_b64encode(cursor.encode()).decode().rstrip("=")
    response = get(roll, f"?sort=birthdate&limit=1&after={after}")
    assert (response.status, response.json()["error"]["detail"]) == (400, {"parameter": "after"})


def test_a_query_too_long_for_a_header_has_no_link(roll: Stack) -> None:
    for n in range(3):
        add(roll, str(n))
    response = get(roll, "?limit=1&" + "&".join(f"user_id={n}" for n in range(2500)))
    assert (ids(response), "Link" in response.headers) == (["0"], False)
    assert ids(get(roll, response.json()["next"])) == ["1"]


def test_a_database_with_the_same_change_count_has_another_etag(roll: Stack) -> None:
    add(roll, "1")
    roll.process()
    before = get(roll).headers["ETag"]
    roll.sql("update outputs set etag = 'of another export'")
    assert get(roll, "", If_None_Match=before).status == 200


@pytest.mark.parametrize("last_page", ["?limit=2", "?limit=3", "?"])
def test_the_last_page_has_no_next(roll: Stack, last_page: str) -> None:
    add(roll, "1")
    add(roll, "2")
    response = get(roll, last_page)
    assert response.json()["next"] is None
    assert "Link" not in response.headers


def test_count_is_independent_of_the_page(roll: Stack) -> None:
    for n in range(10):
        add(roll, str(n), photo=n < 7)
    response = get(roll, "?is_image_exists=1&limit=2&count=1")
    assert (len(response.json()["result"]), response.json()["count"], response.headers["X-Total-Count"]) == (2, 7, "7")
    second = get(roll, response.json()["next"])
    assert second.json()["count"] == 7
    assert get(roll, "?count=1").json()["count"] == 10
    assert get(roll, "?count=1&format=csv").headers["X-Total-Count"] == "10"
    assert roll.request("HEAD", "/function/query-data?count=1&min_age=0").headers["X-Total-Count"] == "10"
    assert "count" not in get(roll, "?count=0&limit=1").json()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ann", ["1", "2", "3"]),
        ("ANN", ["1", "2", "3"]),
        ("anna", ["1", "2"]),
        ("łuk", ["4"]),
        ("ŁUKASZ", ["4"]),
        ("o'n", ["5"]),
        ("100%", ["6"]),
        ("100", ["6", "7"]),
        ("a_", ["8"]),
        ("a\\", ["9"]),
        ("נועה", ["10"]),
        ("%", []),
        ("_", []),
        ("' or true --", []),
        (" Ann ", ["1", "2", "3"]),
    ],
)
def test_name_matches_a_prefix_case_insensitively(roll: Stack, name: str, expected: list[str]) -> None:
    people = [
        *(("1", "Anna", "Zimmer"), ("2", "Bo", "ANNAN"), ("3", "annika", "X"), ("4", "Łukasz", "X")),
        *(("5", "Tim", "O'Neil"), ("6", "100% sure", "X"), ("7", "1000", "X"), ("8", "A_b", "X"), ("9", "a\\b", "X")),
        *(("10", "נועה", "X"), ("11", "Joanna", "van Anna")),
    ]
    for user_id, first, last in people:
        add(roll, user_id, first, last)
    assert sorted(ids(get(roll, f"?name={quote(name)}")), key=int) == expected


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/csv", "text/csv"),
        ("text/*", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/json;q=0.5, text/csv;q=0.8", "text/csv"),
        ("application/json;q=0.5, text/csv;q=0.3, */*;q=0.1", "application/json"),
        ("application/json;q=0, text/csv;q=0.1", "text/csv"),
        ("image/webp, */*;q=0.1", "application/json"),
        ("nonsense, text/csv", "text/csv"),
    ],
)
def test_accept_chooses_the_format(roll: Stack, accept: str, media_type: str) -> None:
    response = get(roll, "", Accept=accept)
    assert response.status == 200
    assert response.headers["Content-Type"].partition(";")[0] == media_type
    assert response.headers["Vary"] == "Accept"


def test_format_overrides_accept_and_an_unsupported_type_is_a_406(roll: Stack) -> None:
    assert get(roll, "?format=csv", Accept="application/json").headers["Content-Type"].startswith("text/csv")
    assert get(roll, "?format=json", Accept="image/png").status == 200
    response = get(roll, "", Accept="image/png, application/json;q=0")
    assert (response.status, response.json()["error"]["code"]) == (406, "not_acceptable")
    assert "application/json, text/csv, application/x-ndjson" in response.json()["error"]["message"]


AWKWARD = [
    'quote " here',
    "comma, here",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "＝1",
    "＋1",
    "－1",
    "＠SUM(A1)",
    "'=1",
    "a=1",
    "Zoë נועה 小明 👩‍👧",
    "\\.",
    "\u2028",
]


@pytest.mark.parametrize("limit", ["", "&limit=1000"])
def test_csv_can_be_opened_in_a_spreadsheet(roll: Stack, limit: str) -> None:
    for number, name in enumerate(AWKWARD):
        add(roll, str(10 + number), first=name, last=name[::-1], photo=number % 2 == 0, born=-1)
    response = get(roll, f"?format=csv{limit}")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert response.headers["Content-Disposition"] == 'attachment; filename="people.csv"'
    assert response.body.startswith("\ufeffid,user_id,".encode())
    text, end = response.body.decode("utf-8-sig").removesuffix("#end\n"), response.body[-6:]
    assert end == b"\n#end\n"
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    people = get(roll).json()["result"]
    assert list(rows[0]) == list(people[0])
    for row, person in zip(rows, people, strict=True):
        for column in ("first_name", "last_name"):
            name = person.pop(column)
            assert row.pop(column) == ("'" + name if name[0] in "=+-@＝＋－＠" else name)
        assert row == {name: "" if value is None else str(value) for name, value in person.items()}


@pytest.mark.parametrize("limit", ["", "&limit=1000"])
def test_ndjson_has_the_same_people_one_per_line(roll: Stack, limit: str) -> None:
    for number, name in enumerate([*AWKWARD, "line\nfeed \x01 \x02"]):
        add(roll, str(10 + number), first=name)
    lines = get(roll, f"?format=ndjson{limit}").body.decode().split("\n")
    assert [lines.pop(), lines.pop()] == ["", '{"next": null}']
    assert [json.loads(line) for line in lines] == get(roll).json()["result"]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("json", b'{"result": [], "next": null}\n'),
        ("csv", b"\xef\xbb\xbfid,user_id,first_name,last_name,birthdate,birthts,img_path,age\n#end\n"),
        ("ndjson", b'{"next": null}\n'),
    ],
)
@pytest.mark.parametrize("limit", ["", "&limit=5"])
def test_an_empty_result_in_every_format(roll: Stack, form: str, expected: bytes, limit: str) -> None:
    assert get(roll, f"?format={form}{limit}").body == expected


def test_the_etag_depends_on_the_data_the_query_and_the_format(roll: Stack) -> None:
    add(roll, "1")
    first = get(roll, "?limit=5")
    etag = first.headers["ETag"]
    assert get(roll, "?limit=5").headers["ETag"] == etag
    others = [
        get(roll, query).headers["ETag"] for query in ("?limit=6", "?limit=5&min_age=1", "?limit=5&format=csv", "")
    ]
    assert len({etag, *others}) == 5
    unchanged = get(roll, "?limit=5", If_None_Match=f'"other", W/{etag}')  # as if a proxy compressed it
    assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", etag)
    assert (unchanged.headers["Vary"], unchanged.headers["Cache-Control"]) == ("Accept", "private, no-cache")
    mark_changed(roll)
    again = get(roll, "?limit=5", If_None_Match=etag)
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["ETag"] != etag


@pytest.mark.parametrize("query", ["?limit=1", "?limit=1&format=csv", "", "?format=csv", "?format=ndjson", "?count=1"])
def test_head_has_the_headers_of_get(roll: Stack, query: str) -> None:
    add(roll, "1")
    add(roll, "2")
    full, head = get(roll, query), roll.request("HEAD", f"/function/query-data{query}")
    own = {"Date", "X-Call-Id", "X-Start-Time", "Transfer-Encoding", "Connection"}
    assert (head.status, head.body) == (200, b"")
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in full.headers.items() if k not in own
    }


def test_the_etag_changes_only_with_a_run_that_changes_data(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    etag = get(roll).headers["ETag"]
    roll.process()
    assert get(roll, "", If_None_Match=etag).status == 304
    roll.bucket.put("1.png", b"png")
    roll.process()
    response = get(roll, "", If_None_Match=etag)
    assert (response.status, response.json()["result"][0]["img_path"]) == (200, "src/1.png")


INJECTIONS = [
    *("1' or '1'='1", "'; drop table users; --", "\\'; drop table users; --", "$$", "\\", "%00", "x\0y", "{}", ":name"),
    *("<script>alert(1)</script>", "\r\nSet-Cookie: a=b", "../../etc/passwd", "%s%n", "\ud7ff\uffff", "☃" * 300),
]


@pytest.mark.parametrize("value", INJECTIONS, ids=ascii)
def test_injection_through_any_parameter_has_no_effect(roll: Stack, value: str) -> None:
    add(roll, "1")
    parameters: dict[str, list[str]] = {
        "": ["is_image_exists", "min_age", "max_age", "user_id", "name", "sort", "limit", "after", "count", "format"],
        "/stats": ["name", "min_age"],
        "/rejected": ["limit", "after", "format"],
        "/runs": ["limit", "after", "format"],
        "/openapi.json": [],
        "/healthz": [],
    }
    for path, names in parameters.items():
        for name in [*names, value]:
            response = get(roll, f"{path}?{quote(name)}={quote(value)}")
            if name == "name" and response.status == 200:
                assert response.json().get("result", []) == []
            else:
                error: dict[str, Any] = response.json()["error"]
                assert (response.status, error["code"]) == (400, "bad_parameter"), (path, name)
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Set-Cookie" not in response.headers
    for path in (f"/{quote(value, safe='')}", f"/photo/{quote(value, safe='')}"):
        response = get(roll, path)
        assert (response.status, response.json()["error"]["code"]) == (404, "not_found"), path
    assert roll.sql("select count(*) from users") == [[1]]
