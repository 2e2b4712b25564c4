"""Accessibility of the people page: axe-core in light and dark mode, and the width on several screens."""

from typing import Literal

import pytest
from playwright.sync_api import Page

from tests.browser.accessibility import violations
from tests.browser.conftest import Problems

pytestmark = pytest.mark.usefixtures("sample")

HOME = "query-data"

VALID_QUERIES = ["?limit=10", "?min_age=30&user_id=1000", "?name=nobody+at+all"]
INVALID_QUERIES = ["?min_age=300", "?nonsense=1"]


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
@pytest.mark.parametrize("query", [*VALID_QUERIES, *INVALID_QUERIES])
def test_axe_finds_no_violations(
    page: Page, problems: Problems, query: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    response = page.goto(HOME + query)
    # in reverse: an opened element no longer matches the locator, so the elements after it are renumbered
    for summary in reversed(page.locator("details:not([open]) summary:visible").all()):
        summary.click()
    assert violations(page) == []
    assert response is not None
    assert response.status == (400 if query in INVALID_QUERIES else 200)
    if query in INVALID_QUERIES:
        problems.expect_status(400)


def test_axe_finds_a_missing_text_alternative(page: Page) -> None:
    page.goto(f"{HOME}?limit=10")
    page.locator("table.people img").first.evaluate("image => image.removeAttribute('alt')")
    assert any(violation.startswith("image-alt") for violation in violations(page))


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_fits_the_width_of_the_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(HOME)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
