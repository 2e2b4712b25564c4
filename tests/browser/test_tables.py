"""The pages of rejected files and runs, in a browser."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.accessibility import violations
from tests.browser.conftest import Problems
from tests.browser.test_page import HOME, follow
from tests.browser.test_states import HOSTILE
from tests.stack import Stack

RUNS = 230
OBJECTS = [
    *(f"{n}.csv" for n in range(2000, 2130)),
    "x" * 1020 + ".csv",
    "רשימה.csv",
    *(f"{name}.csv" for name in HOSTILE),
]

INSERT_RUN = """
insert into runs (trigger, scope, status, summary, error, started_at, finished_at)
select trigger, scope, status, summary, error, now() + n * interval '1 minute', now() + n * interval '61 seconds'
from json_to_recordset(:runs) as r (n int, trigger text, scope text, status text, summary jsonb, error text)
"""
INSERT_REJECTED = """
insert into rejected (object, etag, line, code, message)
select object, 'etag', line, 'missing_column', message
from json_to_recordset(:files) as r (object text, line int, message text)
"""

SECTIONS = {"People": "", "Rejected files": "rejected", "Runs": "runs"}
"""The end of each section's URL."""

INVALID_VIEWS = ["runs?limit=0", "rejected?nonsense=1"]


def run(n: int) -> dict[str, Any]:
    """Return the values for INSERT_RUN of a run that starts in n minutes and takes n seconds."""
    failed = n % 50 == 7
    counts = {"added": n * 1000, "updated": 0, "rejected": 3, "remaining": n % 2, "unreadable": 0}
    return {
        "n": n,
        "trigger": ("cron", "http", "event", "continuation")[n % 4],
        "scope": ("bucket", "users")[n % 2],
        "status": "failed" if failed else ("done", "partial")[n % 2],
        "summary": None if failed else counts,
        "error": HOSTILE[n // 50] + "z" * 400 if failed else None,
    }


@pytest.fixture(scope="module")
def filled_stack(stack: Stack, reset_stack: Callable[[], None]) -> Iterator[Stack]:
    """The stack with several pages of runs and of rejected files, which tests must not change."""
    reset_stack()
    files = [
        {"object": name, "line": n % 3 or None, "message": f"missing column {HOSTILE[n % len(HOSTILE)]} {'m' * 300}"}
        for n, name in enumerate(OBJECTS)
    ]
    stack.sql(INSERT_REJECTED, files=json.dumps(files))
    stack.sql(INSERT_RUN, runs=json.dumps([run(n) for n in range(RUNS)]))
    yield stack
    reset_stack()


def rows(page: Page) -> Locator:
    return page.locator("table.entries tbody tr:not(.detail)")


def section_link(page: Page, name: str) -> Locator:
    return page.get_by_role("navigation", name="Sections").get_by_role("link", name=name, exact=True)


def all_pages(page: Page, read: Callable[[], list[str]]) -> list[str]:
    """Return the results of `read` on all pages, following the links."""
    items = read()
    while (next_link := page.get_by_role("link", name="Next page")).count():
        follow(page, next_link)
        items += read()
    return items


def get_all(stack: Stack, path: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = stack.request("GET", f"/function/query-data/{path}?limit=1000").json()["result"]
    return result


def test_the_pages_show_all_runs_from_newest_to_oldest(page: Page, filled_stack: Stack) -> None:
    page.goto(f"{HOME}/runs")
    expect(page).to_have_title("Runs · Rollcall")
    times = all_pages(page, lambda: [str(time.get_attribute("datetime")) for time in rows(page).locator("time").all()])
    assert times == [run["started_at"] for run in get_all(filled_stack, "runs")]
    assert len(times) == RUNS
    follow(page, page.get_by_role("link", name="First page"))
    expect(rows(page)).to_have_count(100)
    expect(rows(page).first.locator("time")).to_have_attribute("datetime", times[0])


def test_a_run_is_shown_with_its_status_trigger_scope_duration_counts_and_error(
    page: Page, filled_stack: Stack
) -> None:
    page.goto(f"{HOME}/runs")
    page.set_viewport_size({"width": 1280, "height": 900})
    cells = rows(page).nth(0).locator("td").all_inner_texts()  # run(229), the newest
    assert [cell.strip() for cell in cells] == [
        "Incomplete", "Request", "Users", "3 min 49 s", "229,000", "0", "3", "1", "0",
    ]  # fmt: skip
    assert rows(page).nth(1).locator("td").all_inner_texts()[1:3] == ["Schedule", "Bucket"]
    assert rows(page).nth(2).locator("td").all_inner_texts()[1:3] == ["Continuation", "Users"]
    assert rows(page).nth(3).locator("td").all_inner_texts()[:2] == ["Complete", "Bucket event"]
    colors = {
        status: page.locator(f".dot.{status}").first.evaluate("dot => getComputedStyle(dot).backgroundColor")
        for status in ("done", "partial", "failed")
    }
    assert len(set(colors.values())) == 3
    expect(page.locator("tr.detail").first).to_have_text(str(run(207)["error"]))


def test_every_rejected_file_is_shown_with_its_line_and_reason(page: Page, filled_stack: Stack) -> None:
    page.on("dialog", lambda dialog: pytest.fail(f"a script was run: {dialog.message}"))
    page.goto(f"{HOME}/rejected")
    expect(page).to_have_title("Rejected files · Rollcall")
    expect(page.locator(".intro")).to_contain_text("skipped until corrected")

    def read() -> list[str]:
        assert page.locator("main script, main img, main svg, main style").count() == 0
        parts = (".object", ".line", ".reason")
        return ["|".join(str(row.locator(part).text_content()) for part in parts) for row in rows(page).all()]

    assert all_pages(page, read) == [
        f"{file['object']}|{'Line ' if file['line'] else ''}{file['line'] or ''}|missing column {file['message']}"
        for file in get_all(filled_stack, "rejected")
    ]


@pytest.mark.parametrize("name", SECTIONS)
def test_the_navigation_marks_the_current_section(page: Page, filled_stack: Stack, name: str) -> None:
    page.goto(HOME)
    follow(page, section_link(page, name))
    expect(page.locator("[aria-current]")).to_have_count(1)
    expect(section_link(page, name)).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)


@pytest.mark.parametrize("start", [HOME, f"{HOME}/", f"{HOME}/query-data/", f"{HOME}/runs", f"{HOME}/query-data/runs"])
def test_links_between_sections_work_from_every_path(page: Page, filled_stack: Stack, start: str) -> None:
    page.goto(start)
    for _ in range(2):
        for name, suffix in SECTIONS.items():
            follow(page, section_link(page, name))
            expect(section_link(page, name)).to_have_attribute("aria-current", "page")
            assert page.url.rstrip("?").endswith(suffix)
    assert page.url.count("query-data") <= 2, f"links must not lengthen the URL each time: {page.url}"
    follow(page, page.get_by_role("link", name="Rollcall"))
    expect(section_link(page, "People")).to_have_attribute("aria-current", "page")
    follow(page, page.get_by_role("link", name="the API"))
    assert json.loads(page.locator("body").inner_text())["openapi"] == "3.1.0"


@pytest.mark.parametrize("start", [HOME, f"{HOME}/"])
def test_the_people_page_links_to_all_rejected_files_and_all_runs(page: Page, filled_stack: Stack, start: str) -> None:
    for link, title in (("All rejected files", "Rejected files"), ("All runs", "Runs")):
        page.goto(start)
        if title == "Rejected files":
            page.get_by_text("Files and reasons").click()
        follow(page, page.get_by_role("link", name=link))
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        follow(page, page.get_by_role("link", name="JSON", exact=True))
        assert json.loads(page.locator("body").inner_text())["result"]


@pytest.mark.parametrize("view", ["runs", "rejected", "runs?limit=1000", "rejected?limit=1000"])
def test_tables_fit_screens_of_several_widths(page: Page, filled_stack: Stack, view: str) -> None:
    page.goto(f"{HOME}/{view}")
    for width in (320, 390, 768, 1024, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
@pytest.mark.parametrize("view", ["runs?limit=25", "rejected?limit=10", *INVALID_VIEWS])
def test_tables_and_their_error_pages_have_no_accessibility_violations(
    page: Page, problems: Problems, filled_stack: Stack, view: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    response = page.goto(f"{HOME}/{view}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []
    assert response is not None
    assert response.status == (400 if view in INVALID_VIEWS else 200)
    if view in INVALID_VIEWS:
        expect(page.get_by_role("alert")).to_contain_text("Invalid request")
        follow(page, page.get_by_role("link", name="Back to the first page"))
        expect(rows(page).first).to_be_visible()
        problems.expect_status(400)


def test_screen_readers_still_get_a_table_on_a_phone(page: Page, filled_stack: Stack) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{HOME}/runs")
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if "role" in node]
    assert roles.count("row") == rows(page).count() + page.locator("tr.detail").count() + 1
    assert (roles.count("table"), roles.count("columnheader")) == (1, 10)
    assert roles.count("rowheader") == rows(page).count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_empty_tables_have_an_explanation(
    rollcall: Stack, page: Page, width: int, scheme: Literal["light", "dark"]
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    for view, heading, text in (
        ("rejected", "No files are rejected", "until it is corrected or removed"),
        ("runs", "No runs yet", "faas-cli invoke process-data"),
    ):
        page.goto(f"{HOME}/{view}")
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        expect(page.locator("main")).to_contain_text(text)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(page) == []


def test_an_empty_page_links_to_the_first_page(rollcall: Stack, page: Page) -> None:
    rollcall.sql(INSERT_RUN, runs=json.dumps([run(0), run(1)]))
    page.goto(f"{HOME}/runs?limit=1")
    next_url = page.get_by_role("link", name="Next page").get_attribute("href")
    rollcall.sql("delete from runs where id = 1")
    page.goto(f"{HOME}/runs{next_url}")
    expect(page.get_by_role("heading", level=1)).to_have_text("No more results")
    follow(page, page.get_by_role("link", name="Back to the first page"))
    expect(rows(page)).to_have_count(1)
    assert page.url.endswith("?limit=1")
