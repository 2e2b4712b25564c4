"""The installed Chromium or Chrome, run headless."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

# the headless shell has the same engine without the user interface, and needs a fraction of the CPU time
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_APPLICATIONS = ("Chromium", "Google Chrome")  # on macOS

_OPTIONS = (
    "--no-sandbox",  # the sandbox is unavailable in containers, and only Rollcall's pages are loaded
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

MISSING = f"no Chromium was found: put {' or '.join(_NAMES)} on the PATH, or set CHROMIUM to its path"


def find() -> str | None:
    """Return the path in the variable CHROMIUM, or the first installed browser, or None."""
    if path := os.environ.get("CHROMIUM"):
        return path
    bundles = (Path(f"/Applications/{name}.app/Contents/MacOS/{name}") for name in _APPLICATIONS)
    paths = [*(shutil.which(name) for name in _NAMES), *(str(path) for path in bundles if path.exists())]
    return next((path for path in paths if path), None)


@contextmanager
def started(path: str) -> Iterator[Browser]:
    """Run the browser at this path until the end of the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_OPTIONS))
        try:
            yield browser
        finally:
            browser.close()
