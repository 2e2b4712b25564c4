"""Parallel calls: in order, no further one than there is time for, and no result lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock

import pytest
from process_data import parallel
from process_data.parallel import ParallelCalls

FOREVER = 3600.0


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def nothing() -> None:
    pass


def test_results_are_in_the_order_of_the_items(executor: ThreadPoolExecutor) -> None:
    calls = ParallelCalls(executor, 4, str, range(1000))
    assert calls.collect(lambda: FOREVER, nothing) == [str(number) for number in range(1000)]


def test_no_items_give_no_results(executor: ThreadPoolExecutor) -> None:
    assert ParallelCalls(executor, 4, str, []).collect(lambda: FOREVER, nothing) == []


def test_no_more_threads_are_used_than_allowed(executor: ThreadPoolExecutor) -> None:
    lock, inside, most = Lock(), 0, 0
    both = Barrier(2)

    def call(number: int) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        both.wait(60)
        with lock:
            inside -= 1

    ParallelCalls(executor, 2, call, range(10)).collect(lambda: FOREVER, nothing)
    assert most == 2


def test_no_call_is_started_once_the_time_is_over(executor: ThreadPoolExecutor) -> None:
    started: list[int] = []
    all_wait, over = Barrier(5), Event()

    def call(number: int) -> int:
        started.append(number)
        all_wait.wait(60)
        assert over.wait(60)
        return number

    calls = ParallelCalls(executor, 4, call, range(1000))
    all_wait.wait(60)

    def keep_alive() -> None:
        over.set()  # the time was over when this is called

    assert calls.collect(lambda: 0, keep_alive) == [0, 1, 2, 3]  # those that were started, none of them lost
    executor.shutdown()
    assert sorted(started) == [0, 1, 2, 3]


def test_calls_that_wait_for_a_thread_are_not_started_after_all(executor: ThreadPoolExecutor) -> None:
    go = Event()
    first = ParallelCalls(executor, 4, lambda _: go.wait(60), range(4))
    second = ParallelCalls(executor, 4, str, range(4))
    assert second.collect(lambda: 0, nothing) == []
    go.set()
    assert first.collect(lambda: FOREVER, nothing) == [True] * 4


def test_none_stands_for_what_takes_too_long(executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "GRACE", 0)
    go = Event()
    calls = ParallelCalls(executor, 2, lambda number: number == 0 or go.wait(60), range(2))
    while calls._results[0] is None:
        pass
    assert calls.collect(lambda: 0, nothing) == [True, None]
    go.set()


def test_what_a_call_raises_is_raised(executor: ThreadPoolExecutor) -> None:
    def call(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    with pytest.raises(ValueError, match="five"):
        ParallelCalls(executor, 4, call, range(10)).collect(lambda: FOREVER, nothing)


def test_a_session_is_kept_alive_meanwhile(executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_CHECK", 0.01)
    go = Event()
    looks: list[None] = []

    def keep_alive() -> None:
        looks.append(None)
        if len(looks) == 3:
            go.set()

    calls = ParallelCalls(executor, 1, lambda _: go.wait(60), [0])
    assert calls.collect(lambda: FOREVER, keep_alive) == [True]
    assert len(looks) >= 3
