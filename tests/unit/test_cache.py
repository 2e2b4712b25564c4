"""The cache of query-data."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import sleep

import pytest
from query_data.cache import Cache


def test_a_value_is_computed_once_until_it_is_evicted() -> None:
    cache: Cache[int] = Cache(2)
    computed: Counter[int] = Counter()

    def get(key: int) -> int:
        def compute() -> int:
            computed[key] += 1
            return 10 * key

        return cache.get(key, compute)

    assert [get(1), get(2), get(2), get(1)] == [10, 20, 20, 10]
    assert computed == {1: 1, 2: 1}
    get(3)  # evicts the least recently used value
    assert [get(1), get(2)] == [10, 20]
    assert computed == {1: 1, 2: 2, 3: 1}


def test_concurrent_callers_share_one_computation_and_other_keys_do_not_wait() -> None:
    cache: Cache[str] = Cache(4)
    started, go = Event(), Event()
    computed: list[str] = []

    def slow() -> str:
        started.set()
        assert go.wait(60)
        computed.append("slow")
        return "slow"

    with ThreadPoolExecutor(4) as executor:
        calls = [executor.submit(cache.get, "slow", slow) for _ in range(3)]
        assert started.wait(60)
        assert cache.get("fast", lambda: "fast") == "fast"
        go.set()
        assert [call.result() for call in calls] == ["slow"] * 3
    assert computed == ["slow"]


def test_errors_are_not_cached() -> None:
    cache: Cache[int] = Cache(2)

    def fail() -> int:
        raise ValueError

    with pytest.raises(ValueError):
        cache.get("key", fail)
    assert cache.get("key", lambda: 1) == 1


class Key:
    """A key that counts how often a dictionary looks it up."""

    lookups = 0

    def __hash__(self) -> int:
        self.lookups += 1
        return 1


def test_an_error_is_raised_in_all_waiting_callers() -> None:
    cache: Cache[int] = Cache(2)
    started, go, key = Event(), Event(), Key()

    def fail() -> int:
        started.set()
        assert go.wait(60)
        raise ValueError

    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(cache.get, key, fail)
        assert started.wait(60)
        before = key.lookups
        second = executor.submit(cache.get, key, lambda: 1)
        while key.lookups == before:
            sleep(0.001)
        go.set()
        for call in (first, second):
            with pytest.raises(ValueError):
                call.result(60)
    assert cache.get(key, lambda: 2) == 2
