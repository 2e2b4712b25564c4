"""A browser for all tests in this directory, and a page whose test fails if the browser reports a problem."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from infra.local.demo import sample as sample_files
from tests.browser import chromium
from tests.stack import Stack


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if (path := chromium.find()) is None:
        if os.environ.get("BROWSER_TESTS") == "required":
            pytest.fail(chromium.MISSING)
        pytest.skip(chromium.MISSING)
    with chromium.started(path) as browser:
        yield browser


class Problems(list[str]):
    """Problems in a page: console errors and warnings (also CSP violations), exceptions, and failed requests."""

    def record_message(self, message: ConsoleMessage) -> None:
        is_favicon = message.location["url"].endswith("/favicon.ico")  # the browser requests it for photos and JSON
        if message.type in ("error", "warning") and not is_favicon:
            self.append(message.text)

    def record_failed_request(self, request: Request) -> None:
        # ERR_ABORTED: the browser navigates to another page or downloads a file
        if request.failure != "net::ERR_ABORTED":
            self.append(f"{request.url}: {request.failure}")

    def expect_status(self, status: int) -> None:
        """Assert that there are problems and that all are responses with this status, and clear them."""
        assert self
        assert all(f"status of {status}" in problem for problem in self), self
        self.clear()


@pytest.fixture
def problems() -> Problems:
    return Problems()


@pytest.fixture
def page(browser: Browser, stack: Stack, problems: Problems) -> Iterator[Page]:
    """A page in a new browser context. The test fails if there were problems."""
    with browser.new_context(base_url=f"{stack.url}/function/", viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", problems.record_message)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", problems.record_failed_request)
        yield page
    assert problems == []


@pytest.fixture(scope="module")
def sample(stack: Stack, reset_stack: Callable[[], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack with the sample data, which tests must not change."""
    reset_stack()
    directory: Path = tmp_path_factory.mktemp("sample")
    sample_files.write(directory)
    stack.cli("upload", str(directory))
    stack.process()
    return stack
