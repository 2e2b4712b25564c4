"""A lazy value is created once, even by concurrent first calls."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep

import pytest
from process_data.shared.lazy import Lazy

THREADS = 8


def test_concurrent_callers_get_the_same_value() -> None:
    created = []

    def create() -> object:
        sleep(0.05)  # long enough for the other threads to call get()
        created.append(object())
        return created[-1]

    lazy, start = Lazy(create), Barrier(THREADS)

    def get(_: int) -> object:
        start.wait(10)
        return lazy.get()

    with ThreadPoolExecutor(THREADS) as executor:
        values = list(executor.map(get, range(THREADS)))
    assert len(created) == 1
    assert all(value is created[0] for value in values)


def test_a_failed_creation_is_retried() -> None:
    errors = [ValueError("not yet")]

    def create() -> str:
        if errors:
            raise errors.pop()
        return "made"

    lazy = Lazy(create)
    with pytest.raises(ValueError, match="not yet"):
        lazy.get()
    assert lazy.get() == "made"


def test_a_cleared_value_is_created_again() -> None:
    lazy = Lazy(object)
    first = lazy.get()
    lazy.clear()
    assert lazy.get() is not first
