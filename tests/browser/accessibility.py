"""axe-core, run in the page."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def faults(page: Page) -> list[str]:
    """What axe finds at fault, with the elements concerned."""
    response = Axe().run(page).response
    return [
        f"{fault['id']}: {fault['help']}: {[node['html'] for node in fault['nodes']]}"
        for fault in response["violations"]
    ]
