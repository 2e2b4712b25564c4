"""Bulkheads: a request that finds no place gets an error soon, and places come free again."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event

import pytest
from query_data.shared import bulkhead
from query_data.shared.api import ApiError
from query_data.shared.bulkhead import Bulkhead


def test_a_request_that_finds_no_place_gets_an_error_and_places_come_free() -> None:
    places = Bulkhead("requests", 2)
    with places.place():
        with places.place(), pytest.raises(ApiError) as raised, places.place():
            pass
        assert (raised.value.status, raised.value.code, raised.value.headers) == (503, "busy", {"Retry-After": "1"})
        assert "2 requests" in raised.value.message
        with pytest.raises(ValueError), places.place():
            raise ValueError
        with places.place():
            pass


def take(places: Bulkhead, until: Event) -> bool:
    """Hold a place until the event; returns whether there was one."""
    try:
        with places.place():
            return until.wait(60)
    except ApiError:
        return False


def test_requests_wait_for_a_place_and_no_more_of_them_than_may() -> None:
    places, first, others = Bulkhead("requests", 1, waiting=2), Event(), Event()
    others.set()
    with ThreadPoolExecutor(8) as executor, ExitStack() as stack:
        stack.callback(first.set)
        holder = executor.submit(take, places, first)
        while places._free._value:
            pass
        waiting = [executor.submit(take, places, others) for _ in range(2)]
        while places._waiting is None or places._waiting._value:
            pass
        assert not take(places, others)  # nobody else may wait
        first.set()
        assert holder.result()
        assert all(one.result() for one in waiting)
        assert take(places, others)


def test_a_request_waits_for_a_place_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulkhead, "_WAIT", 0.05)
    places, end = Bulkhead("requests", 1, waiting=1), Event()
    end.set()
    with ThreadPoolExecutor(1) as executor:
        with places.place():
            assert not take(places, end)
            monkeypatch.setattr(bulkhead, "_WAIT", 60)
            next_one = executor.submit(take, places, end)  # may wait, as the one before waits no longer
            time.sleep(0.1)
        assert next_one.result()
