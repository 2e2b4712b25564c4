"""Concurrent calls of a function, collected until a deadline."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count
from time import monotonic
from typing import Generic, TypeVar

from .deadline import GRACE

T = TypeVar("T")
R = TypeVar("R")

_CHECK = 1.0
"""Seconds between two checks of the time that is left."""


class ParallelCalls(Generic[T, R]):
    """Calls `function` for each item, in order, in up to `threads` of the executor's threads.

    Each thread takes the next item until none is left: one future per item would cost more than parsing a file.
    """

    def __init__(
        self, executor: ThreadPoolExecutor, threads: int, function: Callable[[T], R], items: Sequence[T]
    ) -> None:
        self._function, self._items = function, items
        self._results: list[R | None] = [None] * len(items)
        self._next, self._cancelled = count(), False
        self._loops: set[Future[None]] = {executor.submit(self._loop) for _ in range(min(threads, len(items)))}

    def _loop(self) -> None:
        while not self._cancelled and (index := next(self._next)) < len(self._items):
            self._results[index] = self._function(self._items[index])

    def collect(self, remaining: Callable[[], float], keep_alive: Callable[[], None]) -> list[R | None]:
        """Wait for the calls while `remaining()` seconds are left; then start no more.

        Returns the results of the calls that were started, which are the first ones. These may take `GRACE` seconds
        more, so that no work is lost; the result of a slower one is None. Raises what a call has raised. Calls
        `keep_alive` every second meanwhile.
        """
        running = self._loops
        try:
            while running and (seconds := remaining()) > 0:
                running = wait(running, timeout=min(_CHECK, seconds)).not_done
                keep_alive()
        finally:
            self.cancel()
        late_at = monotonic() + GRACE
        while (running := {loop for loop in running if not loop.done()}) and monotonic() < late_at:
            wait(running, timeout=_CHECK)
            keep_alive()
        for loop in self._loops:
            if loop.done() and not loop.cancelled():
                loop.result()
        # the number of items that were started; a loop that takes one later stops, or its result is ignored
        return self._results[: next(self._next)]

    def cancel(self) -> None:
        """Start no more calls."""
        self._cancelled = True
        for loop in self._loops:
            loop.cancel()
