"""Take the screenshot of the web page for the README: `python3 tests/browser/screenshot.py`."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOT = ROOT / "tests/browser/page.png"
SIZE = {"width": 1280, "height": 1000}


def run_in_environment() -> int:
    """Run this module again in the test environment."""
    environment = ROOT / "infra/local/environment.py"
    requirements = [ROOT / "infra/local/requirements.txt", ROOT / "tests/requirements.txt"]
    command = [sys.executable, environment, *requirements, "--", "-m", "tests.browser.screenshot"]
    return subprocess.call([str(argument) for argument in command], cwd=ROOT)


def take() -> None:
    from tests.browser import chromium
    from tests.stack import Stack

    if (path := chromium.find()) is None:
        sys.exit(chromium.MISSING)
    with tempfile.TemporaryDirectory() as directory, chromium.started(path) as browser:
        stack = Stack(Path(directory) / "state")
        try:
            stack.cli("up", "--detach", "--port", "0")
            page = browser.new_page(viewport={"width": SIZE["width"], "height": SIZE["height"]})
            page.goto(f"{stack.url}/function/query-data", wait_until="networkidle")
            page.screenshot(path=SCREENSHOT)
        finally:
            stack.remove()
    print(f"{SCREENSHOT.relative_to(ROOT)}: {SCREENSHOT.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    if not __package__:
        sys.exit(run_in_environment())
    take()
