"""The cache of query-data."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError, Event, Semaphore, Thread
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


def in_thread(function: Callable[[], str]) -> "Future[str]":
    """Call the function in a daemon thread: if it hangs, the process can still exit."""
    future: Future[str] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001 - raised by `result`
            future.set_exception(error)

    Thread(target=call, daemon=True).start()
    return future


def test_concurrent_callers_share_one_computation_and_other_keys_do_not_wait() -> None:
    cache: Cache[str] = Cache(4)
    started, go = Event(), Event()
    computed: list[str] = []

    def slow() -> str:
        started.set()
        assert go.wait(60)
        computed.append("slow")
        return "slow"

    calls = [in_thread(lambda: cache.get("slow", slow)) for _ in range(3)]
    assert started.wait(60)
    assert in_thread(lambda: cache.get("fast", lambda: "fast")).result(30) == "fast"
    sleep(1.5)  # the callers wait even for a slow computation
    go.set()
    assert [call.result(60) for call in calls] == ["slow"] * 3
    assert computed == ["slow"]


class MeetingKey:
    """A key that two threads look up at the same time: each lookup waits for the other, until a wait has timed out."""

    def __init__(self) -> None:
        self._barrier = Barrier(2)

    def __hash__(self) -> int:
        with suppress(BrokenBarrierError):
            self._barrier.wait(0.1)
        return 1


def test_only_one_of_two_callers_that_look_up_a_missing_value_at_the_same_time_computes_it() -> None:
    cache: Cache[int] = Cache(2)
    key, computed = MeetingKey(), Counter[str]()

    def compute() -> int:
        computed["times"] += 1
        return 1

    with ThreadPoolExecutor(2) as executor:
        calls = [executor.submit(cache.get, key, compute) for _ in range(2)]
        assert [call.result(60) for call in calls] == [1, 1]
    assert computed["times"] == 1


class Key:
    """A key that counts how often a dictionary looks it up."""

    lookups = 0

    def __hash__(self) -> int:
        self.lookups += 1
        return 1


def test_an_error_is_raised_in_all_waiting_callers_and_not_cached() -> None:
    cache: Cache[int] = Cache(2)
    started, go, raised, key = Event(), Event(), Semaphore(0), Key()

    def fail() -> int:
        started.set()
        assert go.wait(60)
        raise ValueError

    def call(compute: Callable[[], int]) -> None:
        with pytest.raises(ValueError):
            cache.get(key, compute)
        raised.release()

    Thread(target=call, args=(fail,), daemon=True).start()
    assert started.wait(60)
    before = key.lookups
    Thread(target=call, args=(lambda: 1,), daemon=True).start()
    while key.lookups == before:
        sleep(0.001)
    go.set()
    for _ in range(2):
        assert raised.acquire(timeout=60)
    assert cache.get(key, lambda: 2) == 2


def test_the_error_of_an_evicted_computation_is_raised() -> None:
    cache: Cache[str] = Cache(1)

    def fail() -> str:
        cache.get("another", lambda: "")
        raise ValueError

    with pytest.raises(ValueError):
        in_thread(lambda: cache.get("key", fail)).result(60)


class InterruptedKey:
    """A key that lets another thread run before its `countdown`-th lookup from now; 0: never."""

    countdown = 0

    def __init__(self, other: Thread) -> None:
        self._other = other

    def __hash__(self) -> int:
        self.countdown -= 1
        if self.countdown == 0:
            self._other.start()
            self._other.join(0.1)
        return 1


def test_an_eviction_while_an_error_is_handled_does_not_replace_the_error() -> None:
    cache: Cache[int] = Cache(1)
    key = InterruptedKey(Thread(target=cache.get, args=("another", lambda: 1)))

    def fail() -> int:
        key.countdown = 2  # the first lookup finds the entry, the second deletes it
        raise ValueError

    with pytest.raises(ValueError):
        cache.get(key, fail)
