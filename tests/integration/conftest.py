"""Fixtures for the tests of /changes."""

from collections.abc import Callable, Iterator

import pytest
from process_data.shared.storage.connection import Connection

from tests.changes import connect
from tests.replica import Replica, query_replica
from tests.stack import Stack


@pytest.fixture(scope="module")
def function(stack: Stack, fresh: Callable[[], None]) -> Iterator[Replica]:
    with query_replica(stack) as running:
        yield running


@pytest.fixture
def connection(roll: Stack) -> Iterator[Connection]:
    with connect(roll) as connection:
        yield connection
