"""Sorting, paging, counting and the name filter of query-data."""

import itertools
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.queries import add, get, mark_changed, user_ids_in
from tests.stack import Stack


def pages(rollcall: Stack, query: str) -> Iterator[list[str]]:
    """Yield the user_ids of each page, following `next`."""
    url: str | None = query
    while url is not None:
        response = get(rollcall, url)
        yield user_ids_in(response)
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
def test_people_are_sorted_across_pages(rollcall: Stack, sort: str, expected: list[str], limit: str) -> None:
    for user_id, last, born in (("1", "byron", 5), ("2", "Żak", -9), ("3", "Adams", 7), ("10", "BYRON", 5)):
        add(rollcall, user_id, last=last, born=born)
    assert list(itertools.chain(*pages(rollcall, f"?sort={sort}{limit}"))) == expected


def test_csv_pages_continue_after_names_that_look_like_formulas(rollcall: Stack) -> None:
    """CSV has an apostrophe before such a name; the cursor must have the name without it."""
    names = ["''=1", "'=1", "'x", "(x", "+1", ",", "=1", "=2", "a=b", "x"]
    for number, name in enumerate(names):
        add(rollcall, str(number), last=name)
    url, user_ids = "?format=csv&sort=last_name&limit=1", list[str]()
    while url and len(user_ids) < len(names) + 1:
        response = get(rollcall, url)
        user_ids.append(response.body.decode().splitlines()[1].split(",")[1])
        url = response.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert user_ids == [str(number) for number in range(len(names))]


@pytest.mark.parametrize("sort", ["last_name", "-last_name", "birthdate", "-birthdate"])
def test_paging_neither_repeats_nor_skips_users_if_values_are_equal_or_rows_change(rollcall: Stack, sort: str) -> None:
    for n in range(100, 140):
        add(rollcall, str(n), last="Same" if n % 4 else "Other")
    user_ids: list[str] = []
    for number, page in enumerate(pages(rollcall, f"?sort={sort}&limit=3")):
        user_ids += page
        add(rollcall, f"{number}", last="Same")  # before or after the cursor
        add(rollcall, f"9{number}", last="Other")
        last = page[-1]  # the row that the cursor refers to
        rollcall.sql("delete from users where user_id = :user_id", user_id=last)
    assert len(user_ids) == len(set(user_ids))
    assert set(user_ids) >= {str(n) for n in range(100, 140)}


def test_a_cursor_is_valid_for_its_sort_only(rollcall: Stack) -> None:
    for n in range(5):
        add(rollcall, str(n), photo=n % 2 == 0)
    next_url = get(rollcall, "?limit=2").json()["next"]
    assert user_ids_in(get(rollcall, f"{next_url}&is_image_exists=true")) == ["2", "4"]
    error = get(rollcall, f"{next_url}&sort=birthdate").json()["error"]
    assert error["message"] == "invalid after: the cursor belongs to another list or order"
    assert error["detail"] == {"parameter": "after"}


@pytest.mark.parametrize("path", ["/", "/rejected", "/runs"])
def test_an_empty_cursor_is_an_error(rollcall: Stack, path: str) -> None:
    """A script whose variable is not set must not get the first page again."""
    response = get(rollcall, f"{path}?limit=1&after=")
    assert (response.status, response.json()["error"]["detail"]) == (400, {"parameter": "after"})


@pytest.mark.parametrize(
    ("query", "cursor"),
    [
        ("?sort=birthdate", '["birthdate", "2000-W01-1", "1"]'),
        ("?sort=birthdate", '["birthdate", "2000-13-01", "1"]'),
        ("?sort=birthdate", '["birthdate", 1, "1"]'),
        ("?sort=birthdate", '["birthdate", "2000-01-01", "1\\u0000"]'),
        ("?sort=birthdate", '["birthdate", "2000-01-01", "\\ud800"]'),
        ("?sort=birthdate", "[" * 60_000),
        ("/runs?", f'["-id", "{"9" * 19}", "1"]'),  # exceeds bigint
    ],
)
def test_a_forged_cursor_is_an_error(rollcall: Stack, query: str, cursor: str) -> None:
    after = urlsafe_b64encode(cursor.encode()).decode().rstrip("=")
    response = get(rollcall, f"{query}&limit=1&after={after}")
    assert (response.status, response.json()["error"]["detail"]) == (400, {"parameter": "after"})


def test_a_query_too_long_for_a_header_has_no_link(rollcall: Stack) -> None:
    for n in range(3):
        add(rollcall, str(n))
    response = get(rollcall, "?limit=1&" + "&".join(f"user_id={n}" for n in range(2500)))
    assert (user_ids_in(response), "Link" in response.headers) == (["0"], False)
    assert user_ids_in(get(rollcall, response.json()["next"])) == ["1"]


@pytest.mark.parametrize("last_page", ["?limit=2", "?limit=3", "?"])
def test_the_last_page_has_no_next(rollcall: Stack, last_page: str) -> None:
    add(rollcall, "1")
    add(rollcall, "2")
    response = get(rollcall, last_page)
    assert response.json()["next"] is None
    assert "Link" not in response.headers


def test_count_is_independent_of_the_page(rollcall: Stack) -> None:
    for n in range(10):
        add(rollcall, str(n), photo=n < 7)
    response = get(rollcall, "?is_image_exists=1&limit=2&count=1")
    assert (len(response.json()["result"]), response.json()["count"], response.headers["X-Total-Count"]) == (2, 7, "7")
    second = get(rollcall, response.json()["next"])
    assert second.json()["count"] == 7
    assert get(rollcall, "?count=1").json()["count"] == 10
    assert get(rollcall, "?count=1&user_id=99").json() == {"result": [], "count": 0, "next": None}
    assert get(rollcall, "?count=1&format=csv").headers["X-Total-Count"] == "10"
    assert rollcall.request("HEAD", "/function/query-data?count=1&min_age=0").headers["X-Total-Count"] == "10"
    assert "count" not in get(rollcall, "?count=0&limit=1").json()
    add(rollcall, "10")
    mark_changed(rollcall)
    assert get(rollcall, "?count=1").json()["count"] == 11


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
def test_name_matches_a_prefix_case_insensitively(rollcall: Stack, name: str, expected: list[str]) -> None:
    people = [
        *(("1", "Anna", "Zimmer"), ("2", "Bo", "ANNAN"), ("3", "annika", "X"), ("4", "Łukasz", "X")),
        *(("5", "Tim", "O'Neil"), ("6", "100% sure", "X"), ("7", "1000", "X"), ("8", "A_b", "X"), ("9", "a\\b", "X")),
        *(("10", "נועה", "X"), ("11", "Joanna", "van Anna")),
    ]
    for user_id, first, last in people:
        add(rollcall, user_id, first, last)
    assert sorted(user_ids_in(get(rollcall, f"?name={quote(name)}")), key=int) == expected
