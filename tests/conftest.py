"""One stack for the whole run, and both functions as importable packages."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.build import assemble
from tests.stack import ROOT, Stack, running

PACKAGES = ROOT / ".local/packages"


def pytest_configure() -> None:
    """Make `process_data` and `query_data` importable: the trees that faas-cli would build, as packages.

    No schedule ticks during a test run but those that tests set themselves.
    """
    os.environ["SCHEDULE"] = "0 0 29 2 *"
    for package in ("process_data", "query_data"):
        handler = ROOT / "functions" / package.replace("_", "-")
        assemble(handler, [Path("shared")], PACKAGES / package, ROOT)
    sys.path.insert(0, str(PACKAGES))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An empty stack, started once."""
    with running(tmp_path_factory.mktemp("stack") / "state") as stack:
        yield stack


@pytest.fixture
def roll(stack: Stack) -> Stack:
    """The stack with nothing in it: empty buckets, and tables as after the first run."""
    stack.process()  # makes the tables
    stack.bucket.clear()
    stack.sql("truncate users, rejected, runs restart identity")
    stack.sql("update outputs set changed = 1, written = 0, rows = 0, etag = null")
    return stack
