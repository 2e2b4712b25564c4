"""A headless Chromium: the one that is installed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_APPLICATIONS = ("Chromium", "Google Chrome")  # on macOS

_OPTIONS = (
    "--no-sandbox",  # in a container there is none to be had; it sees nothing but our own pages
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

MISSING = f"no Chromium is installed: looked for {', '.join(_NAMES)}, and at the variable CHROMIUM"


def find() -> str | None:
    """The program: what the variable CHROMIUM says, else the first that is installed."""
    if given := os.environ.get("CHROMIUM"):
        return given
    bundles = (Path(f"/Applications/{name}.app/Contents/MacOS/{name}") for name in _APPLICATIONS)
    found = [*(shutil.which(name) for name in _NAMES), *(str(path) for path in bundles if path.exists())]
    return next((path for path in found if path), None)


@contextmanager
def started(path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_OPTIONS))
        try:
            yield browser
        finally:
            browser.close()
