"""How long a run may go on, and waiting no longer than that."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Event
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

_CHECK = 1.0
"""Seconds between two looks at the time that is left."""


class Deadline:
    """Expires after `seconds`, as soon as `stopping` is set, or when it is cancelled."""

    def __init__(self, seconds: float, stopping: Event) -> None:
        self._started_at, self._seconds, self._stopping = monotonic(), seconds, stopping
        self._cancelled = Event()

    @property
    def expired(self) -> bool:
        return self.remaining <= 0

    @property
    def remaining(self) -> float:
        """Seconds that are left, 0 at least."""
        return self.remaining_with(0)

    def remaining_with(self, grace: float) -> float:
        """Seconds that are left for work that may run `grace` seconds over; none when stopping or cancelled."""
        if self._stopping.is_set() or self._cancelled.is_set():
            return 0
        return max(0.0, self._seconds + grace - self.elapsed)

    @property
    def elapsed(self) -> float:
        """Seconds since the run started."""
        return monotonic() - self._started_at

    @property
    def elapsed_fraction(self) -> float:
        return self.elapsed / self._seconds

    def sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the deadline."""
        self._stopping.wait(min(seconds, self.remaining))

    def cancel(self) -> None:
        """Let all work end at its next check."""
        self._cancelled.set()

    def resume(self) -> None:
        """Undo `cancel`, once the work that it ended has ended."""
        self._cancelled.clear()


def collect(futures: Sequence[Future[T]], remaining: Callable[[], float], keep_alive: Callable[[], None]) -> list[T]:
    """Wait for all; when no time remains, give up the others and return the first that are there, in order.

    `remaining` gives the seconds that are left; `keep_alive` is called every second meanwhile.
    """
    waiting = set(futures)
    while waiting and (seconds := remaining()) > 0:
        waiting = wait(waiting, timeout=min(_CHECK, seconds)).not_done
        keep_alive()
    results = []
    for future in futures:
        if not future.done():
            break
        results.append(future.result())
    for future in waiting:
        future.cancel()
    return results
