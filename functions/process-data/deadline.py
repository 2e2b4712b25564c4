"""The deadline of a run."""

from threading import Event
from time import monotonic

GRACE = 5
"""Seconds that work in progress may take after the deadline."""


class Deadline:
    """Expires after `seconds`, when `stopping` is set, or when it is cancelled."""

    def __init__(self, seconds: float, stopping: Event) -> None:
        self._started_at, self._seconds, self._stopping = monotonic(), seconds, stopping
        self._cancelled = Event()

    @property
    def expired(self) -> bool:
        return self.remaining <= 0

    @property
    def remaining(self) -> float:
        """Seconds left; 0 if it has expired."""
        return self.remaining_with(0)

    def remaining_with(self, grace: float) -> float:
        """Seconds left for work that may end `grace` seconds after the deadline; 0 if stopping or cancelled."""
        if self._stopping.is_set() or self._cancelled.is_set():
            return 0
        return max(0.0, self._seconds + grace - self.elapsed)

    @property
    def remaining_grace(self) -> float:
        """Seconds left for work in progress: at most GRACE, and at most until GRACE seconds after the deadline.

        Unlike `remaining_with(GRACE)`, it ignores stopping and cancelling.
        """
        return min(GRACE, max(0.0, self._seconds + GRACE - self.elapsed))

    @property
    def elapsed(self) -> float:
        """Seconds since the run started."""
        return monotonic() - self._started_at

    @property
    def elapsed_fraction(self) -> float:
        return self.elapsed / self._seconds

    def sleep(self, seconds: float) -> None:
        """Sleep, at most until the deadline or until `stopping` is set."""
        self._stopping.wait(min(seconds, self.remaining))

    def cancel(self) -> None:
        """Make all work end at its next check of the deadline."""
        self._cancelled.set()

    def resume(self) -> None:
        """Undo `cancel`, after the work has ended."""
        self._cancelled.clear()
