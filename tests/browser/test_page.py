"""The people page with the sample data, in a browser."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from query_data.web.histogram import HEIGHT

from tests.browser.conftest import Problems
from tests.stack import Stack

HOME = "query-data"


@pytest.fixture(autouse=True)
def at_home(page: Page, sample: Stack) -> None:
    page.goto(HOME)


def get_people(sample: Stack, query: str) -> list[dict[str, Any]]:
    """Return the people in the JSON response to a query."""
    people: list[dict[str, Any]] = sample.request("GET", f"/function/query-data{query}").json()["result"]
    return people


def rows(page: Page) -> Locator:
    return page.locator("table.people tbody tr")


def shown_user_ids(page: Page) -> list[str]:
    return page.locator("table.people td.id").all_text_contents()


@contextmanager
def navigation(page: Page) -> Iterator[None]:
    """Wait for the navigation that the block starts."""
    with page.expect_navigation():
        yield


def follow(page: Page, link: Locator) -> None:
    with navigation(page):
        link.click()


def show(page: Page) -> None:
    follow(page, page.get_by_role("button", name="Show"))


def user_ids(people: list[dict[str, Any]]) -> list[str]:
    return [person["user_id"] for person in people]


def test_the_page_shows_fifty_people_at_a_time(page: Page, sample: Stack) -> None:
    expect(page).to_have_title("100 people · Rollcall")
    expect(page.get_by_role("heading", level=1)).to_have_text("100 people")
    assert shown_user_ids(page) == user_ids(get_people(sample, "?limit=50"))


def test_submitted_filters_are_applied_and_kept_in_the_form(page: Page, sample: Stack) -> None:
    page.get_by_label("Photo", exact=True).select_option("With a photo")
    page.get_by_label("Age from").fill("30")
    page.get_by_label("Age to").fill("60.5")
    page.get_by_label("Order").select_option("Oldest first")
    show(page)
    people = get_people(sample, "?is_image_exists=true&min_age=30&max_age=60.5&sort=birthdate")
    assert 0 < len(people) < 50
    assert shown_user_ids(page) == user_ids(people)
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{len(people)} people match")
    expect(page.get_by_label("Photo", exact=True)).to_have_value("true")
    expect(page.get_by_label("Age to")).to_have_value("60.5")
    follow(page, page.get_by_role("link", name="Clear filters"))
    expect(page.get_by_role("heading", level=1)).to_have_text("100 people")


def test_people_are_found_by_the_beginning_of_a_name(page: Page) -> None:
    page.get_by_label("Name begins with").fill("ann")
    with navigation(page):
        page.keyboard.press("Enter")
    names = page.locator("table.people .name bdi").all_text_contents()
    assert names
    assert all(any(part.lower().startswith("ann") for part in name.split()) for name in names)


def test_a_second_user_id_can_be_added_to_the_filter(page: Page) -> None:
    page.get_by_label("User ID", exact=True).fill("1001")
    show(page)
    page.get_by_label("or User ID").fill("1000")
    show(page)
    expect(rows(page)).to_have_count(2)
    assert shown_user_ids(page) == ["1000", "1001"]


def test_column_headers_sort_in_both_directions(page: Page, sample: Stack) -> None:
    header = page.get_by_role("columnheader", name="Born")
    follow(page, header.get_by_role("link"))
    expect(header).to_have_attribute("aria-sort", "ascending")
    assert shown_user_ids(page) == user_ids(get_people(sample, "?limit=50&sort=birthdate"))
    follow(page, header.get_by_role("link"))
    expect(header).to_have_attribute("aria-sort", "descending")
    assert shown_user_ids(page) == user_ids(get_people(sample, "?limit=50&sort=-birthdate"))


def test_paging_covers_everyone_and_the_back_button_works(page: Page, sample: Stack) -> None:
    page.get_by_label("People per page").fill("30")
    page.get_by_label("Order").select_option("Last name, A–Z")
    show(page)
    pages = [shown_user_ids(page)]
    while (next_link := page.get_by_role("link", name="Next page")).count():
        follow(page, next_link)
        pages.append(shown_user_ids(page))
    assert [len(page_ids) for page_ids in pages] == [30, 30, 30, 10]
    assert list(chain.from_iterable(pages)) == user_ids(get_people(sample, "?sort=last_name"))
    page.go_back()
    assert shown_user_ids(page) == pages[2]
    page.go_back()
    page.go_back()
    assert shown_user_ids(page) == pages[0]
    expect(page.get_by_label("People per page")).to_have_value("30")
    page.go_forward()
    follow(page, page.get_by_role("link", name="First page"))
    assert shown_user_ids(page) == pages[0]


def test_the_whole_result_is_available_as_csv_and_json(page: Page, sample: Stack) -> None:
    page.goto(f"{HOME}?min_age=20&sort=-birthdate&limit=5")
    people = get_people(sample, "?min_age=20&sort=-birthdate")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
        *users, last = csv.DictReader(file)
    assert [user["user_id"] for user in users] == user_ids(people)
    assert last["id"] == "#end"
    follow(page, page.get_by_role("link", name="JSON", exact=True))
    assert json.loads(page.locator("body").inner_text())["result"] == people


@pytest.mark.parametrize("path", [HOME, f"{HOME}/"])
def test_a_photo_is_shown_and_linked(page: Page, path: str) -> None:
    page.goto(path)
    photo = page.get_by_role("img", name="Photo of Ada Northfield")
    photo.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=photo.element_handle())
    follow(page, page.get_by_role("link", name="Photo of Ada Northfield"))
    assert page.url.endswith("/query-data/photo/0001")


def test_the_histogram_matches_stats(page: Page, sample: Stack) -> None:
    ages = sample.request("GET", "/function/query-data/stats").json()["ages"]
    page.get_by_text("Ages as a table").click()
    table = page.get_by_role("table", name="People by age")
    assert table.locator("td").all_text_contents() == [str(bar["people"]) for bar in ages]
    heights = [float(bar.get_attribute("height") or 0) for bar in page.locator("svg .bar").all()]
    tallest = max(bar["people"] for bar in ages)
    # a bar that is not empty is at least 2 pixels high
    assert heights == pytest.approx([HEIGHT * bar["people"] / tallest for bar in ages], abs=2)
    expect(page.get_by_role("img", name="Ages by decade")).to_be_visible()


def test_rejected_files_and_the_last_run_are_shown(page: Page, sample: Stack) -> None:
    rejected = sample.request("GET", "/function/query-data/rejected").json()["result"]
    assert rejected
    section = page.get_by_role("region", name="files rejected")
    for file in rejected:
        row = section.get_by_role("row", name=file["object"])
        expect(row).to_contain_text(file["message"])
        expect(section.locator(".reasons")).to_contain_text(file["code"].replace("_", " "))
    run = page.get_by_role("region", name="Last run")
    expect(run).to_contain_text("Started by a request on")
    expect(run).to_contain_text("Complete.")


def test_the_page_can_be_filtered_and_sorted_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    skip_link = page.get_by_role("link", name="Skip to main content")
    expect(skip_link).to_be_focused()
    expect(skip_link).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.goto(HOME)
    outlines = tab_to(page, page.get_by_label("Age from"))
    page.keyboard.type("70")
    with navigation(page):
        page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("match")
    outlines += tab_to(page, page.get_by_role("columnheader", name="Born").get_by_role("link"))
    with navigation(page):
        page.keyboard.press("Enter")
    expect(page.get_by_role("columnheader", name="Born")).to_have_attribute("aria-sort", "ascending")
    assert all(outline != "none" for outline in outlines), "the focus must always be visible"


def tab_to(page: Page, target: Locator, limit: int = 40) -> list[str]:
    """Press Tab until the target has the focus. Return the outline style of each focused element."""
    outlines = []
    for _ in range(limit):
        page.keyboard.press("Tab")
        outlines.append(str(page.evaluate("getComputedStyle(document.activeElement).outlineStyle")))
        if target.evaluate("element => element === document.activeElement"):
            return outlines
    raise AssertionError(f"pressing Tab {limit} times did not reach {target}")


def test_an_error_is_shown_at_its_field(page: Page, problems: Problems) -> None:
    response = page.goto(f"{HOME}?min_age=300&name=Ann")
    assert response is not None
    assert response.status == 400
    field = page.get_by_label("Age from")
    expect(field).to_have_value("300")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(
        "invalid min_age='300': expected years from 0 to 200, such as 30 or 30.5"
    )
    expect(page.get_by_label("Name begins with")).to_have_value("Ann")
    field.fill("30")
    show(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("match")
    problems.expect_status(400)


def test_the_browser_validates_user_ids(page: Page) -> None:
    page.get_by_label("User ID", exact=True).fill("12a")
    page.get_by_role("button", name="Show").click()
    assert page.get_by_label("User ID", exact=True).evaluate("field => field.validity.patternMismatch")
    assert "?" not in page.url


def test_injected_scripts_do_not_run(page: Page, problems: Problems) -> None:
    injected = "document.body.insertAdjacentHTML('beforeend', '<button onclick=\"window.ran = true\">')"
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate(f"{injected}; document.body.lastElementChild.click()")
    assert page.evaluate("window.ran") is None
    assert all("Content Security Policy" in problem for problem in problems)
    problems.clear()
