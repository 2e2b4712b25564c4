"""Web pages for browsers and JSON for other clients: /, /rejected, /runs and errors."""

import re
from collections.abc import Iterator

import pytest

from tests.integration.test_query_runs import insert
from tests.queries import add, get, mark_changed
from tests.replica import query_replica
from tests.stack import Stack

PATHS = ("/rejected", "/runs")
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
HTML, JSON = "text/html; charset=utf-8", "application/json"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("accept", "query", "content_type"),
    [
        ("", "", JSON),
        ("*/*", "", JSON),
        ("application/json", "", JSON),
        ("text/html;q=0.5, application/json", "", JSON),
        (BROWSER, "", HTML),
        ("text/*", "", HTML),
        ("text/csv, text/html;q=0.1", "", HTML),
        (BROWSER, "?format=json", JSON),
        ("application/json", "?format=html", HTML),
        ("image/png", "?format=json", JSON),
    ],
)
def test_browsers_get_a_page_and_other_clients_json(
    rollcall: Stack, path: str, accept: str, query: str, content_type: str
) -> None:
    for method in ("GET", "HEAD"):
        response = rollcall.request(method, f"/function/query-data{path}{query}", Accept=accept)
        assert (response.status, response.headers["Content-Type"]) == (200, content_type)
        assert response.headers["Vary"] == "Accept"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("accept", ["text/csv", "image/png, application/json;q=0, text/html;q=0"])
def test_an_accept_header_without_a_supported_type_is_a_406(rollcall: Stack, path: str, accept: str) -> None:
    response = get(rollcall, path, Accept=accept)
    assert (response.status, response.json()["error"]["code"]) == (406, "not_acceptable")
    assert response.json()["error"]["message"].endswith("expected one of application/json, text/html")


def test_the_people_page_lists_the_most_frequent_reasons_first(rollcall: Stack) -> None:
    rollcall.sql(
        "insert into rejected (object, etag, code, message) select n || '.csv', 'etag', code, 'message'"
        " from string_to_table('ddaaabbcccce', null) with ordinality as r (code, n)"
    )
    body = get(rollcall, "/", Accept=BROWSER).body.decode()
    reasons = body[body.index('class="reasons"') :]
    assert re.findall(r"<li><b>(\d)</b> (\w)</li>", reasons) == [
        ("4", "c"), ("3", "a"), ("2", "b"), ("2", "d"), ("1", "e"),
    ]  # fmt: skip
    rollcall.sql("delete from rejected where code <> 'e'")
    rollcall.sql("update outputs set changed = changed + 1 where object = 'rejected.csv'")
    body = get(rollcall, "/", Accept=BROWSER).body.decode()
    assert re.findall(r"<li><b>(\d)</b> (\w)</li>", body) == [("1", "e")]


def test_the_people_page_lists_the_first_twenty_rejected_files(rollcall: Stack) -> None:
    rollcall.sql(
        "insert into rejected (object, etag, code, message) select lpad(n::text, 2, '0'), 'etag', 'empty', 'message'"
        " from generate_series(1, 21) n"
    )
    body = get(rollcall, "/", Accept=BROWSER).body.decode()
    assert re.findall(r'<th scope="row"><bdi>(\d+)</bdi>', body) == [f"{n:02}" for n in range(1, 21)]
    assert "The first 20 of 21." in body


@pytest.mark.parametrize("path", PATHS)
def test_a_page_has_its_own_etag_that_changes_with_the_data(rollcall: Stack, path: str) -> None:
    rollcall.bucket.put("bad.csv", b"")
    rollcall.process()
    page, response = get(rollcall, path, Accept=BROWSER), get(rollcall, path)
    etag = page.headers["ETag"]
    assert etag not in (response.headers["ETag"], get(rollcall, f"{path}?limit=5", Accept=BROWSER).headers["ETag"])
    unchanged = get(rollcall, path, Accept=BROWSER, If_None_Match=etag)
    assert (unchanged.status, unchanged.body, unchanged.headers["ETag"], unchanged.headers["Vary"]) == (
        304,
        b"",
        etag,
        "Accept",
    )
    assert get(rollcall, path, Accept=BROWSER, If_None_Match=response.headers["ETag"]).status == 200
    assert get(rollcall, path, If_None_Match=etag).status == 200
    rollcall.bucket.put("worse.csv", b"")
    rollcall.process()
    assert get(rollcall, path, Accept=BROWSER, If_None_Match=etag).status == 200


@pytest.fixture
def without_tables(rollcall: Stack) -> Iterator[None]:
    for table in ("users", "rejected", "runs"):
        rollcall.sql(f"alter table {table} rename to {table}_moved")
    yield
    for table in ("users", "rejected", "runs"):
        rollcall.sql(f"alter table {table}_moved rename to {table}")


@pytest.mark.parametrize("path", ["/", *PATHS, "/query-data/runs"])
def test_only_browsers_get_error_pages(rollcall: Stack, without_tables: None, path: str) -> None:
    for query, method, status, code in (
        ("?limit=0", "GET", 400, "bad_parameter"),
        ("?after=x", "GET", 400, "bad_parameter"),
        ("?%3Cb%3E=1", "GET", 400, "bad_parameter"),
        ("", "DELETE", 405, "method_not_allowed"),
        ("", "GET", 503, "schema_missing"),
    ):
        url = f"/function/query-data{path}{query}"
        page, response = rollcall.request(method, url, Accept=BROWSER), rollcall.request(method, url)
        assert (page.status, page.headers["Content-Type"]) == (status, HTML), url
        assert (response.status, response.json()["error"]["code"]) == (status, code), url
        assert page.headers.get("Retry-After") == response.headers.get("Retry-After")
        assert page.headers.get("Allow") == response.headers.get("Allow")
        assert b'aria-current="page"' in page.body
        assert b"<b>" not in page.body


@pytest.mark.parametrize("path", ["/", *PATHS])
def test_a_browser_without_the_token_gets_a_401_page(rollcall: Stack, path: str) -> None:
    with query_replica(rollcall, auth="token", api_token="correct horse") as replica:
        response = replica.request("GET", path, Accept=BROWSER)
    assert (response.status, response.headers["Content-Type"]) == (401, HTML)
    assert response.headers["WWW-Authenticate"].startswith("Basic")
    assert b"Authentication required" in response.body


@pytest.mark.parametrize("path", ["/nowhere", "/no/where", "/photo/1", "/photo/x"])
def test_browsers_get_a_404_as_a_page_and_other_clients_as_json(rollcall: Stack, path: str) -> None:
    page = get(rollcall, path, Accept=BROWSER)
    assert (page.status, page.headers["Content-Type"]) == (404, HTML)
    assert b"<h1>Not found</h1>" in page.body
    root = "../" * (path.count("/") - 1) or "./"
    assert f'<p><a href="{root}">Show everyone</a></p>'.encode() in page.body
    for accept in ("", "*/*", "image/avif,image/webp,*/*;q=0.8", JSON):
        assert get(rollcall, path, Accept=accept).headers["Content-Type"] == JSON


@pytest.mark.parametrize("url", ["/stats?x=1", "/?format=csv&x=1", "/?format=ndjson&x=1"])
def test_browsers_get_json_errors_from_stats_and_downloads(rollcall: Stack, url: str) -> None:
    assert get(rollcall, url, Accept=BROWSER).headers["Content-Type"] == JSON


@pytest.mark.parametrize("path", ["/", *PATHS])
def test_a_blank_parameter_is_ignored_on_a_page_and_an_error_in_json(rollcall: Stack, path: str) -> None:
    page = get(rollcall, f"{path}?limit=&after=&format=", Accept=BROWSER)
    assert (page.status, page.headers["Content-Type"]) == (200, HTML)
    assert get(rollcall, f"{path}?limit=&format=html").status == 200
    response = get(rollcall, f"{path}?limit=")
    assert (response.status, response.json()["error"]["detail"]) == (400, {"parameter": "limit"})


@pytest.mark.parametrize("path", ["/", *PATHS])
@pytest.mark.parametrize("query", ["", "?limit=0"])
def test_every_page_has_the_security_headers(rollcall: Stack, path: str, query: str) -> None:
    rollcall.process()
    response = get(rollcall, path + query, Accept=BROWSER)
    policy = response.headers["Content-Security-Policy"]
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert re.fullmatch(r"'sha256-[\w+/]+='", directives.pop("style-src"))
    assert directives == {
        "default-src": "'none'",
        "img-src": "'self' data:",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    if not query:
        assert (response.headers["Cache-Control"], response.headers["Vary"]) == ("private, no-cache", "Accept")
        etag = response.headers["ETag"]
        assert get(rollcall, path, Accept=BROWSER, If_None_Match=etag).headers["Content-Security-Policy"] == policy


def test_the_runs_page_shows_the_known_counts_of_any_summary(rollcall: Stack) -> None:
    for summary in (None, {}, {"added": 1}, {"added": 1, "unreadable": 2, "something": {"new": 3}}):
        insert(rollcall, "http", "bucket", "done", summary)
    response = get(rollcall, "/runs", Accept=BROWSER)
    assert response.status == 200
    assert re.findall(rb"<span class=\"label\">(\w+) </span>(\d)", response.body) == [
        (b"Added", b"1"),
        (b"Unreadable", b"2"),
        (b"Added", b"1"),
    ]


def test_cached_pages_are_distinguished_by_path_and_query(rollcall: Stack) -> None:
    add(rollcall, "1")
    mark_changed(rollcall)
    for _ in range(2):
        for path, link in (("", 'href="query-data/runs'), ("/query-data/", 'href="../runs')):
            for query, text in (("?format=html", b">1</"), ("?format=html&min_age=200", b"No one matches")):
                body = rollcall.request("GET", f"/function/query-data{path}{query}").body
                assert link.encode() in body
                assert text in body
    add(rollcall, "2")
    mark_changed(rollcall)
    assert b">2</" in rollcall.request("GET", "/function/query-data?format=html").body


def test_the_page_of_several_users_shows_them_and_keeps_them_in_its_links_and_its_form(rollcall: Stack) -> None:
    for user_id, name in (("1", "Ada"), ("2", "Grace"), ("3", "Mary")):
        add(rollcall, user_id, name)
    for other, name in (("2", "Grace"), ("3", "Mary")):  # the second page must not be the cached first one
        body = get(rollcall, f"?format=html&user_id=1&user_id={other}").body.decode()
        assert name in body
        assert f'href="?user_id=1&amp;user_id={other}&amp;format=csv"' in body
    error = get(rollcall, "?format=html&user_id=1&user_id=2&min_age=x").body
    assert re.findall(rb'name="user_id" value="(\w*)"', error) == [b"1", b"2", b""]
