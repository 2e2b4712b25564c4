"""Bulkheads: a limit on the concurrent requests of each kind, so that slow ones of one kind do not delay other kinds.

of-watchdog's own limit, `max_inflight`, is not used: version 0.10.11 permanently loses a slot whenever the client of a
request with `Accept: application/x-ndjson` disconnects, and once all are lost it returns 429 to everyone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from .api import ApiError

_WAIT = 1.0  # seconds that a request waits for a slot
_RETRY_AFTER = "1"  # seconds


class Bulkhead:
    """A limited number of slots and of requests that wait for one. All others fail at once.

    `name` is what the error message calls the requests.
    """

    def __init__(self, name: str, slots: int, *, waiting: int = 0) -> None:
        self._name, self._slots = name, slots
        self._free, self._waiting = BoundedSemaphore(slots), BoundedSemaphore(waiting) if waiting else None

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot during the body. Raises ApiError 503 `busy` if there is none."""
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
        if self._waiting is None or not self._waiting.acquire(blocking=False):
            return False
        try:
            return self._free.acquire(timeout=_WAIT)
        finally:
            self._waiting.release()
