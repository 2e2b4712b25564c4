"""A browser for all of these tests, and a page that notes whatever goes wrong in it."""

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
    """What the browser complained about: its console, which tells CSP violations too, and requests that failed."""

    def note(self, message: ConsoleMessage) -> None:
        bare = message.location["url"].endswith("/favicon.ico")  # looked for by a photo or JSON without a page
        if message.type in ("error", "warning") and not bare:
            self.append(message.text)

    def failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by the browser, which goes to another page or saves a file
            self.append(f"{request.url}: {request.failure}")

    def expect_status(self, status: int) -> None:
        """The browser told of the status of what it was sent to, and of nothing else."""
        assert self
        assert all(f"status of {status}" in one for one in self), self
        self.clear()


@pytest.fixture
def problems() -> Problems:
    return Problems()


@pytest.fixture
def page(browser: Browser, stack: Stack, problems: Problems) -> Iterator[Page]:
    """A new browser's page at query-data's address; the test fails when there were problems."""
    with browser.new_context(base_url=f"{stack.url}/function/", viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", problems.note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", problems.failed)
        yield page
    assert problems == []


@pytest.fixture(scope="module")
def sample(stack: Stack, fresh: Callable[[], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack with the sample people, which no test of the module changes."""
    fresh()
    directory: Path = tmp_path_factory.mktemp("sample")
    sample_files.write(directory)
    stack.cli("upload", str(directory))
    stack.process()
    return stack
