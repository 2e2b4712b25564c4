"""Bulkheads: how many requests of a kind may be in progress, so that others are served whatever their clients do.

of-watchdog has a limit like it, `max_inflight`, which is not used: in 0.10.11 it loses a place for good whenever the
client of a request with `Accept: application/x-ndjson` hangs up, and returns 429 to everyone once all are lost.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from .api import ApiError

_PATIENCE = 1.0  # seconds that a request waits for a place
_RETRY_AFTER = "1"  # seconds


class Bulkhead:
    """A number of places, and how many requests may wait for one. All others get an error at once.

    `name` says in the error what the places are for.
    """

    def __init__(self, name: str, places: int, *, waiting: int = 0) -> None:
        self._name, self._places = name, places
        self._free, self._waiting = BoundedSemaphore(places), BoundedSemaphore(waiting) if waiting else None

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the body; ApiError 503 `busy` when there is none."""
        if not self._acquire():
            message = f"this replica is working on {self._places} {self._name} already; try again"
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
            return self._free.acquire(timeout=_PATIENCE)
        finally:
            self._waiting.release()
