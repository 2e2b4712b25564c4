"""Bulkheads: a request that gets no slot fails soon, and slots are released."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import BoundedSemaphore, Event

import pytest
from query_data.application import THREADS, Application
from query_data.settings import Settings
from query_data.shared import bulkhead
from query_data.shared.api import ApiError
from query_data.shared.bulkhead import Bulkhead
from query_data.shared.storage.settings import load


def test_a_full_bulkhead_raises_busy_until_a_slot_is_released() -> None:
    slots = Bulkhead("requests", 2)
    with slots.slot():
        with slots.slot(), pytest.raises(ApiError) as raised, slots.slot():
            pass
        assert (raised.value.status, raised.value.code, raised.value.headers) == (503, "busy", {"Retry-After": "1"})
        assert "2 requests" in raised.value.message
        with pytest.raises(ValueError), slots.slot():
            raise ValueError
        with slots.slot():
            pass


def hold(slots: Bulkhead, until: Event) -> bool:
    """Hold a slot until the event is set. Return False if there is no slot."""
    try:
        with slots.slot():
            return until.wait(60)
    except ApiError:
        return False


def wait_until_zero(semaphore: BoundedSemaphore) -> None:
    deadline = time.monotonic() + 30
    while semaphore._value:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_only_a_limited_number_of_requests_wait_for_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulkhead, "_MAX_WAIT", 60)
    slots, end_first, end_others = Bulkhead("requests", 1, max_waiting=2), Event(), Event()
    end_others.set()
    with ThreadPoolExecutor(8) as executor, ExitStack() as stack:
        stack.callback(end_first.set)
        holder = executor.submit(hold, slots, end_first)
        wait_until_zero(slots._free)
        waiting = [executor.submit(hold, slots, end_others) for _ in range(2)]
        wait_until_zero(slots._waiting)
        assert not hold(slots, end_others)  # the queue is full
        end_first.set()
        assert holder.result()
        assert all(future.result() for future in waiting)
        assert hold(slots, end_others)


def test_a_request_waits_for_a_slot_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulkhead, "_MAX_WAIT", 0.05)
    slots, end = Bulkhead("requests", 1, max_waiting=1), Event()
    end.set()
    with ThreadPoolExecutor(1) as executor:
        with slots.slot():
            assert not hold(slots, end)
            monkeypatch.setattr(bulkhead, "_MAX_WAIT", 60)
            waiting = executor.submit(hold, slots, end)  # it may wait, because the previous request no longer does
            time.sleep(0.1)
        assert waiting.result()


def application() -> Application:
    names = ("s3_endpoint", "s3_access_key", "s3_secret_key", "postgres_host", "postgres_user", "postgres_password")
    return Application(load(Settings, dict.fromkeys(names, "x") | {"auth": "none"}))


@pytest.mark.parametrize("kind", ["requests", "health", "photos"])
def test_requests_health_checks_and_photos_wait_for_a_slot(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(bulkhead, "_MAX_WAIT", 60)
    slots, end = getattr(application(), kind), Event()
    end.set()
    with ThreadPoolExecutor(1) as executor:
        with ExitStack() as held:
            while slots._free._value:
                held.enter_context(slots.slot())
            waiting = executor.submit(hold, slots, end)
            time.sleep(0.1)
        assert waiting.result()


def test_query_data_has_a_thread_for_each_request_with_a_slot_or_waiting_for_one() -> None:
    """Otherwise requests of one kind could leave no thread for the others."""
    app = application()
    bulkheads = [value for value in vars(app).values() if isinstance(value, Bulkhead)]
    assert len(bulkheads) == 5
    requests = sum(slots._free._value + slots._waiting._value for slots in bulkheads)
    assert requests == THREADS - 4  # the other 4 threads reject further requests
