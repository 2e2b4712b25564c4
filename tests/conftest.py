"""Fixtures and options for all tests: one stack per test process, and both functions as importable packages."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.packages import assemble_packages
from tests.stack import Stack, running


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--deployment",
        type=Path,
        metavar="FILE",
        help="the deployment that tests/e2e/test_deployment.py checks, as name=value lines in FILE",
    )
    parser.addoption(
        "--load-seconds",
        type=float,
        default=12,
        metavar="N",
        help="for how many seconds tests/faults/test_load.py puts query-data under load after the warm-up "
        "(default: %(default)s; long run: 120)",
    )
    parser.addoption(
        "--histories",
        type=int,
        default=10,
        metavar="N",
        help="how many random histories tests/integration/test_changes.py tries (default: %(default)s; long run: 100)",
    )
    parser.addoption(
        "--kills",
        type=int,
        default=4,
        metavar="N",
        help="how often tests/faults/test_kills.py kills process-data; it kills each server a quarter as often "
        "(default: %(default)s; long run: 50)",
    )
    parser.addoption(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(2**32),
        metavar="N",
        help="the seed of tests/integration/test_changes.py, tests/faults/test_kills.py and test_trial.py, "
        "which print it if they fail (default: random)",
    )


def pytest_configure() -> None:
    """Make both functions importable. Unless a test sets SCHEDULE, the schedule is due only on 29 February."""
    os.environ["SCHEDULE"] = "0 0 29 2 *"
    assemble_packages()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack of this test process. It may contain the data of earlier tests: use `rollcall` for an empty one."""
    with running(tmp_path_factory.mktemp("stack") / "state") as stack:
        yield stack


@pytest.fixture(scope="session")
def reset_stack(stack: Stack) -> Callable[[], None]:
    """Return a function that resets the stack: no objects, and tables as after the set-up."""

    def reset_stack() -> None:
        stack.bucket.clear()
        stack.reset_tables()

    return reset_stack


@pytest.fixture
def rollcall(stack: Stack, reset_stack: Callable[[], None]) -> Stack:
    """The stack without data."""
    reset_stack()
    return stack
