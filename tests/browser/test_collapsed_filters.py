"""On a narrow screen the filters are collapsed, so that the people are visible first."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.accessibility import violations
from tests.browser.conftest import Problems
from tests.browser.test_page import HOME, navigation, tab_to

pytestmark = pytest.mark.usefixtures("sample")

PHONE, WIDE = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


def summary(page: Page) -> Locator:
    return page.locator("summary", has_text="Filters")


def open_page(page: Page, size: dict[str, int], query: str = "") -> None:
    page.set_viewport_size({"width": size["width"], "height": size["height"]})
    page.goto(HOME + query)


def test_on_a_phone_the_filters_are_collapsed_above_the_people(page: Page) -> None:
    open_page(page, PHONE)
    expect(page.locator("form")).to_be_hidden()
    expect(page.locator("table.people tbody tr").first).to_be_in_viewport(ratio=1)
    summary(page).click()
    expect(page.locator("form")).to_be_visible()
    assert violations(page) == []
    summary(page).click()
    expect(page.locator("form")).to_be_hidden()


@pytest.mark.parametrize("query", ["?min_age=30", "?is_image_exists=true", "?name=nobody+at+all", "?user_id=1000"])
def test_the_filters_are_expanded_if_one_is_active(page: Page, query: str) -> None:
    open_page(page, PHONE, query)
    expect(page.locator("form")).to_be_visible()
    expect(page.get_by_role("link", name="Clear filters")).to_be_visible()


@pytest.mark.parametrize("query", ["?min_age=300", "?limit=0", "?sort=nonsense"])
def test_an_invalid_field_expands_the_filters(page: Page, problems: Problems, query: str) -> None:
    open_page(page, PHONE, query)
    expect(page.locator("[aria-invalid]")).to_be_visible()
    problems.expect_status(400)


@pytest.mark.parametrize("query", ["?sort=-birthdate", "?limit=10"])
def test_sort_and_limit_do_not_expand_the_filters(page: Page, query: str) -> None:
    open_page(page, PHONE, query)
    expect(page.locator("form")).to_be_hidden()


def test_on_a_wide_screen_the_filters_are_always_expanded(page: Page) -> None:
    open_page(page, WIDE)
    expect(page.locator("form")).to_be_visible()
    expect(summary(page)).to_be_hidden()
    expect(page.get_by_role("heading", name="Filters")).to_be_visible()


def test_the_filters_can_be_expanded_and_used_by_keyboard(page: Page) -> None:
    open_page(page, PHONE)
    tab_to(page, summary(page))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_label("Age from"))
    page.keyboard.type("70")
    with navigation(page):
        page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("match")


def test_screen_readers_get_the_collapsed_state(page: Page) -> None:
    open_page(page, PHONE)
    search = page.get_by_role("search", name="Filters")
    expect(search).to_be_visible()

    def is_expanded() -> bool:
        nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
        [state] = [
            item["value"]["value"]
            for node in nodes
            if node.get("name", {}).get("value") == "Filters"
            for item in node.get("properties", [])
            if item["name"] == "expanded"
        ]
        return bool(state)

    assert not is_expanded()
    summary(page).click()
    assert is_expanded()
