"""Bulkheads: each kind of request has its own concurrency limit, so that slow requests do not delay other kinds.

of-watchdog's own limit, `max_inflight`, is not used. Version 0.10.11 permanently loses a slot whenever a client
disconnects during a request with `Accept: application/x-ndjson`. Once all are lost, every request gets 429.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from .api import ApiError

_MAX_WAIT = 1.0  # seconds
_RETRY_AFTER = "1"  # seconds


class Bulkhead:
    """Allows `slots` concurrent requests.

    Up to `max_waiting` more wait for a slot, for at most a second. Further requests fail. The error message uses `name`
    for the requests, a plural such as `large photos`.
    """

    def __init__(self, name: str, slots: int, *, max_waiting: int = 0) -> None:
        self._name, self._slots = name, slots
        self._free, self._waiting = BoundedSemaphore(slots), BoundedSemaphore(max_waiting)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot during the body. Raises ApiError 503 `busy` if none becomes free in time."""
        if not self._acquire():
            message = f"this replica is already processing {self._slots} {self._name}; try again"
            raise ApiError(503, "busy", message, headers={"Retry-After": _RETRY_AFTER})
        try:
            yield
        finally:
            self._free.release()

    def _acquire(self) -> bool:
        if self._free.acquire(blocking=False):
            return True
        if not self._waiting.acquire(blocking=False):
            return False
        try:
            return self._free.acquire(timeout=_MAX_WAIT)
        finally:
            self._waiting.release()
