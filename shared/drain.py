"""A calm end: when the platform sends SIGTERM, the requests in flight are answered before the process ends.

The template's server ends at once otherwise. Its main loop must go on for the answers to be sent, so a
thread waits for the requests and then ends it.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Event, Thread
from time import sleep
from types import FrameType

from .api import RETRY_AFTER, ApiError

_SENDING = 0.5
"""Seconds for the main loop to send the last answer."""


class Drain:
    """Counts the requests in flight. `stopping` is set when it is time to come to an end."""

    def __init__(self) -> None:
        self.stopping = Event()
        self._idle = Condition()
        self._requests = 0

    def on_sigterm(self) -> "Drain":
        """Take over SIGTERM; for the main thread, which is the one that imports a handler."""
        signal.signal(signal.SIGTERM, self._stop)
        return self

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request that is in flight; ApiError 503 when no new one is taken."""
        with self._idle:
            if self.stopping.is_set():
                raise ApiError(503, "stopping", "this replica is stopping", headers={"Retry-After": RETRY_AFTER})
            self._requests += 1
        try:
            yield
        finally:
            with self._idle:
                self._requests -= 1
                self._idle.notify_all()

    def _stop(self, _signum: int, _frame: FrameType | None) -> None:
        if self.stopping.is_set():
            raise SystemExit(0)  # the server's main loop ends on it
        self.stopping.set()
        Thread(target=self._end_when_idle, name="drain", daemon=True).start()

    def _end_when_idle(self) -> None:
        with self._idle:
            self._idle.wait_for(lambda: self._requests == 0)
        sleep(_SENDING)
        signal.raise_signal(signal.SIGTERM)
