"""Bulkheads: what one kind of request may take, so that the others are served whatever its clients do."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from .shared.api import RETRY_AFTER, ApiError


class Bulkhead:
    """A number of places. Who comes when all are taken is told so at once."""

    def __init__(self, places: int) -> None:
        self._places, self._free = places, BoundedSemaphore(places)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the body; ApiError 503 `busy` when there is none."""
        if not self._free.acquire(blocking=False):
            message = f"this replica is sending {self._places} large responses already; ask for pages, or try again"
            raise ApiError(503, "busy", message, headers={"Retry-After": RETRY_AFTER})
        try:
            yield
        finally:
            self._free.release()
