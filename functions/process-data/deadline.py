"""How long a run may go on."""

from collections.abc import Iterator
from random import uniform
from threading import Event
from time import monotonic

_ATTEMPTS = 3
_FIRST_WAIT = 0.2  # seconds, doubled each time


class Deadline:
    """Passes after `seconds`, or as soon as `stopping` is set."""

    def __init__(self, seconds: float, stopping: Event) -> None:
        self._begun, self._seconds, self._stopping = monotonic(), seconds, stopping

    @property
    def passed(self) -> bool:
        return self._stopping.is_set() or self._spent() >= 1

    def attempts(self) -> Iterator[bool]:
        """Yield whether there may be another attempt after this one, waiting a little longer before each.

        None is begun in the second half of the time: an attempt may have to wait for a store in silence.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            yield attempt < _ATTEMPTS and self._spent() < 0.5 and not self._stopping.is_set()
            self._stopping.wait(_FIRST_WAIT * 2 ** (attempt - 1) * uniform(0.5, 1.5))  # noqa: S311 - jitter

    def _spent(self) -> float:
        return (monotonic() - self._begun) / self._seconds
