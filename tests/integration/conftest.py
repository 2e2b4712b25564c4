"""Fixtures: query-data in a process of its own, and a PostgreSQL session with process-data's settings."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.replica import Replica, query_replica
from tests.stack import Stack

if TYPE_CHECKING:
    from process_data.shared.storage.connection import Connection


@pytest.fixture(scope="module")
def query_function(stack: Stack) -> Iterator[Replica]:
    with query_replica(stack) as replica:
        yield replica


@pytest.fixture
def connection(rollcall: Stack) -> "Iterator[Connection]":
    from tests.changes import connect  # not at the top: process_data is importable only after pytest_configure

    with connect(rollcall) as connection:
        yield connection
