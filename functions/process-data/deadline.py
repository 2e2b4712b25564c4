"""How long a run may go on, and waiting no longer than that."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Event
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

GRACE = 5
"""Seconds over the deadline that something may take which has started."""

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
        """Seconds that are left; 0 when it has expired."""
        return self.remaining_with(0)

    def remaining_with(self, grace: float) -> float:
        """Seconds that are left for what may end `grace` seconds late; 0 when stopping or cancelled."""
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


def collect(
    futures: Sequence[Future[T]], remaining: Callable[[], float], keep_alive: Callable[[], None]
) -> list[T | None]:
    """Wait for all while time is `remaining`. Then those that have not started, the last ones, are given up.

    The results of the others are returned. They may take `GRACE` seconds more, so that no work is thrown away; None
    stands for what takes longer. `keep_alive` is called every second meanwhile.
    """
    waiting = set(futures)
    try:
        while waiting and (seconds := remaining()) > 0:
            waiting = wait(waiting, timeout=min(_CHECK, seconds)).not_done
            keep_alive()
    finally:
        # from the last one on: an executor starts them in order, so what has started is the first ones
        started = [future for future in reversed(futures) if not future.cancel()][::-1]
    late_at = monotonic() + GRACE
    while (late := [future for future in started if not future.done()]) and monotonic() < late_at:
        wait(late, timeout=_CHECK)
        keep_alive()
    return [future.result() if future.done() else None for future in started]
