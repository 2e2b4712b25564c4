"""Parallel calls return their results in order. By default, none starts after the deadline."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from threading import Barrier, Event, Lock
from time import monotonic

import pytest
from process_data import deadline, parallel
from process_data.deadline import GRACE, Deadline
from process_data.parallel import ParallelCalls

FOREVER = Deadline(inf, Event())
STOPPED = Deadline(inf, Event())
STOPPED._stopping.set()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def nothing() -> None:
    pass


def test_results_are_in_the_order_of_the_items(executor: ThreadPoolExecutor) -> None:
    calls = ParallelCalls(executor, 4, str, range(1000))
    assert calls.collect(FOREVER, nothing) == [str(number) for number in range(1000)]


def test_without_items_there_are_no_results(executor: ThreadPoolExecutor) -> None:
    assert ParallelCalls(executor, 4, str, []).collect(FOREVER, nothing) == []


def test_the_thread_limit_is_respected(executor: ThreadPoolExecutor) -> None:
    lock, running, peak = Lock(), 0, 0
    both = Barrier(2)

    def call(number: int) -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        both.wait(60)
        with lock:
            running -= 1

    ParallelCalls(executor, 2, call, range(10)).collect(FOREVER, nothing)
    assert peak == 2


def test_no_call_is_started_after_the_deadline(executor: ThreadPoolExecutor) -> None:
    started: list[int] = []
    all_wait, expired = Barrier(5), Event()

    def call(number: int) -> int:
        started.append(number)
        all_wait.wait(60)
        assert expired.wait(60)
        return number

    calls = ParallelCalls(executor, 4, call, range(1000))
    all_wait.wait(60)

    ended = Event()

    def keep_alive() -> None:
        assert not ended.is_set()  # not called again once there is nothing left to wait for
        if all(loop.done() for loop in calls._loops):
            ended.set()
        expired.set()  # `collect` calls this after the deadline

    assert calls.collect(STOPPED, keep_alive) == [0, 1, 2, 3]  # the results of all calls that started
    executor.shutdown()
    assert sorted(started) == [0, 1, 2, 3]


def test_queued_calls_are_not_started_after_the_deadline(executor: ThreadPoolExecutor) -> None:
    go = Event()
    first = ParallelCalls(executor, 4, lambda _: go.wait(60), range(4))
    second = ParallelCalls(executor, 4, str, range(4))
    assert second.collect(STOPPED, nothing) == []
    go.set()
    assert first.collect(FOREVER, nothing) == [True] * 4


def test_calls_may_start_when_the_replica_is_stopping(executor: ThreadPoolExecutor) -> None:
    """An idle thread needs a moment to take a call, so an immediate cancellation would prevent the call."""
    for _ in range(10):
        calls = ParallelCalls(executor, 4, str, range(4))
        assert calls.collect(STOPPED, nothing, may_start_when_stopping=True) == list("0123")


def test_the_result_of_a_call_that_takes_too_long_is_none(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "GRACE", 0)
    go = Event()
    calls = ParallelCalls(executor, 2, lambda number: number == 0 or go.wait(60), range(2))
    while calls._results[0] is None:
        pass
    assert calls.collect(STOPPED, nothing) == [True, None]
    go.set()


def test_the_wait_for_calls_that_may_start_late_also_ends_with_the_grace_period(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GRACE is not granted twice, and a longer poll interval does not prolong it."""
    monkeypatch.setattr(parallel, "_POLL_INTERVAL", 60)
    go = Event()
    late = Deadline(-GRACE + 0.5, Event())  # half a second of GRACE is left
    assert 0 < late.remaining_grace <= 0.5
    calls = ParallelCalls(executor, 1, lambda _: go.wait(60), [0])
    started_at = monotonic()
    assert calls.collect(late, nothing, may_start_late=True) == [None]
    assert monotonic() - started_at < GRACE
    go.set()


def test_queued_calls_are_not_waited_for_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_POLL_INTERVAL", 0.01)
    monkeypatch.setattr(deadline, "GRACE", 0.1)
    go = Event()
    keep_alives: list[None] = []
    with ThreadPoolExecutor(1) as busy:
        busy.submit(go.wait, 60)
        calls = ParallelCalls(busy, 1, str, [1])
        assert calls.collect(STOPPED, lambda: keep_alives.append(None)) == []
        go.set()
    assert not keep_alives


def test_an_exception_in_a_call_is_raised(executor: ThreadPoolExecutor) -> None:
    def call(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    with pytest.raises(ValueError, match="five"):
        ParallelCalls(executor, 4, call, range(10)).collect(FOREVER, nothing)


def test_no_call_is_started_after_an_error_in_keep_alive(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_POLL_INTERVAL", 0.01)
    started: list[int] = []
    go = Event()

    def call(number: int) -> None:
        started.append(number)
        go.wait(60)

    def fail() -> None:
        raise RuntimeError("the session ended")

    calls = ParallelCalls(executor, 1, call, range(10))
    with pytest.raises(RuntimeError, match="session"):
        calls.collect(FOREVER, fail)
    go.set()
    executor.shutdown()
    assert len(started) <= 1


def test_keep_alive_is_called_while_waiting(executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_POLL_INTERVAL", 0.01)
    go = Event()
    keep_alives: list[None] = []

    def keep_alive() -> None:
        keep_alives.append(None)
        if len(keep_alives) == 3:
            go.set()

    calls = ParallelCalls(executor, 1, lambda _: go.wait(60), [0])
    assert calls.collect(FOREVER, keep_alive) == [True]
    assert len(keep_alives) >= 3
