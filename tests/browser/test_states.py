"""The people page with unusual data, and without its table or a database."""

from collections.abc import Iterator

import pytest
import query_data.handler
from playwright.sync_api import Page, expect

from tests.browser.accessibility import violations
from tests.browser.conftest import Problems
from tests.event import Event
from tests.stack import Stack

HOME = "query-data"

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'--><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "</title></style><b>&amp;",
    "javascript:alert(1)",
]

INSERT_USER = """
insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified)
values (:user_id, :first, :last, 0, null, 'etag', now())
"""
INSERT_REJECTED = """
insert into rejected (object, etag, line, code, message) values (:object, 'etag', 2, 'bad_name', :message)
"""
INSERT_USERS = """
insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified)
select lpad(n::text, 9, '0'), 'First ' || n, 'Last', n * 20000000::bigint, 'etag', now()
from generate_series(1, 100000) n
"""


def test_an_empty_table_shows_how_to_upload(rollcall: Stack, page: Page) -> None:
    page.goto(HOME)
    expect(page.get_by_role("heading", level=1)).to_have_text("No people yet")
    expect(page.locator("main")).to_contain_text("infra/local upload")
    expect(page.get_by_role("search")).to_have_count(0)
    assert violations(page) == []


def test_hostile_names_and_messages_are_escaped(rollcall: Stack, page: Page) -> None:
    for number, name in enumerate(HOSTILE):
        rollcall.sql(INSERT_USER, user_id=str(number), first=name, last=name)
        rollcall.sql(INSERT_REJECTED, object=f"{name}.csv", message=name)
    page.on("dialog", lambda dialog: pytest.fail(f"a script was run: {dialog.message}"))
    page.goto(HOME)
    assert page.locator(".name bdi").all_text_contents() == [f"{name} {name}" for name in HOSTILE]
    page.get_by_text("Files and reasons").click()
    assert sorted(page.locator("#rejected th bdi").all_text_contents()) == sorted(f"{name}.csv" for name in HOSTILE)
    assert page.locator("main script, main img, main svg:not(.histogram), main style").count() == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_parameter_is_escaped(rollcall: Stack, page: Page, name: str) -> None:
    rollcall.sql(INSERT_USER, user_id="1", first="Ada", last="Byron")
    page.on("dialog", lambda dialog: pytest.fail(f"a script was run: {dialog.message}"))
    page.goto(HOME)
    page.get_by_label("Name begins with").fill(name)
    with page.expect_navigation():
        page.get_by_role("button", name="Show").click()
    expect(page.get_by_label("Name begins with")).to_have_value(name)
    expect(page.get_by_role("heading", level=1)).to_have_text("No one matches")


def test_long_and_right_to_left_names_fit_a_phone(rollcall: Stack, page: Page) -> None:
    rollcall.sql(INSERT_USER, user_id="1", first="نور الهدى", last="عبد الرحمن")
    rollcall.sql(INSERT_USER, user_id="2", first="W" * 200, last="w" * 200)
    rollcall.sql(INSERT_USER, user_id="9" * 18, first="小明", last="王")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(HOME)
    name = page.locator(".name bdi").first
    assert name.evaluate("element => getComputedStyle(element).direction") == "rtl"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(page) == []


def test_a_hundred_thousand_people_are_counted_and_paged(rollcall: Stack, page: Page) -> None:
    rollcall.sql(INSERT_USERS)
    page.goto(HOME)
    expect(page.get_by_role("heading", level=1)).to_have_text("100,000 people")
    expect(page.locator("table.people tbody tr")).to_have_count(50)
    with page.expect_navigation():
        page.get_by_role("link", name="Next page").click()
    expect(page.locator("table.people td.id").first).to_have_text("000000051")


def test_an_unchanged_page_is_a_304_and_a_reload_shows_changes(rollcall: Stack, page: Page) -> None:
    rollcall.bucket.put_person("1", "Ada", "Byron")
    rollcall.process()
    first = rollcall.request("GET", f"/function/{HOME}", Accept="text/html")
    again = rollcall.request("GET", f"/function/{HOME}", Accept="text/html", If_None_Match=first.headers["ETag"])
    assert (first.status, again.status, again.body) == (200, 304, b"")
    page.goto(HOME)
    expect(page.locator(".name bdi")).to_have_text("Ada Byron")
    rollcall.bucket.put_person("1", "Ada", "Lovelace")
    rollcall.process()
    page.reload()
    expect(page.locator(".name bdi")).to_have_text("Ada Lovelace")


@pytest.fixture
def without_table(rollcall: Stack) -> Iterator[None]:
    rollcall.sql("alter table users rename to users_moved")
    yield
    rollcall.sql("alter table users_moved rename to users")


def test_a_missing_table_is_reported_on_a_page(without_table: None, page: Page, problems: Problems) -> None:
    response = page.goto(HOME)
    assert response is not None
    assert (response.status, response.headers["retry-after"]) == (503, "5")
    expect(page.get_by_role("alert")).to_contain_text("infra/postgres/setup.sh")
    assert violations(page) == []
    problems.expect_status(503)


def test_an_unavailable_database_is_reported_on_a_page(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**stack.query_settings, "postgres_port": "1"}.items():
        monkeypatch.setenv(name, value)
    query_data.handler._application.clear()
    event = Event(method="GET", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    try:
        response = query_data.handler.handle(event, None)
    finally:
        query_data.handler._application.clear()
    assert (response.status_code, response.content_type) == (503, "text/html; charset=utf-8")
    assert "Content-Security-Policy" in response.headers
    assert "Retry-After" in response.headers
    assert "cannot be read" in response.get_data(as_text=True)
