"""Makes both functions importable, assembled as faas-cli assembles them."""

import os
import sys
from pathlib import Path

from infra.local.runtime.build import assemble
from tests.stack import ROOT

PACKAGES = ROOT / ".local/packages" / os.environ.get("PYTEST_XDIST_WORKER", "alone")


def assemble_packages() -> None:
    """Make `process_data` and `query_data` importable."""
    for package in ("process_data", "query_data"):
        handler = ROOT / "functions" / package.replace("_", "-")
        assemble(handler, [Path("shared")], PACKAGES / package, ROOT)
    sys.path.insert(0, str(PACKAGES))
