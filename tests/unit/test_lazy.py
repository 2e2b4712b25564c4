"""A value that threads share is made once, however many ask for it first."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep

import pytest
from process_data.shared.lazy import Lazy

THREADS = 8


def test_threads_that_ask_at_once_get_the_one_value() -> None:
    made = []

    def make() -> object:
        sleep(0.05)  # long enough for the others to ask meanwhile
        made.append(object())
        return made[-1]

    lazy, start = Lazy(make), Barrier(THREADS)

    def get(_: int) -> object:
        start.wait(10)
        return lazy.get()

    with ThreadPoolExecutor(THREADS) as executor:
        values = list(executor.map(get, range(THREADS)))
    assert len(made) == 1
    assert all(value is made[0] for value in values)


def test_a_value_that_could_not_be_made_is_tried_again() -> None:
    errors = [ValueError("not yet")]

    def make() -> str:
        if errors:
            raise errors.pop()
        return "made"

    lazy = Lazy(make)
    with pytest.raises(ValueError, match="not yet"):
        lazy.get()
    assert lazy.get() == "made"


def test_a_value_that_was_cleared_is_made_again() -> None:
    lazy = Lazy(object)
    first = lazy.get()
    lazy.clear()
    assert lazy.get() is not first
