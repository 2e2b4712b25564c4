"""Calling a function for many items at the same time, and waiting no longer than there is time."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count
from time import monotonic
from typing import Generic, TypeVar

from .deadline import GRACE

T = TypeVar("T")
R = TypeVar("R")

_CHECK = 1.0
"""Seconds between two looks at the time that is left."""


class ParallelCalls(Generic[T, R]):
    """Calls of `function`, one for each item, started in the order of the items.

    Up to `threads` of the executor's threads each take the next item until none is left: a future for each item
    would cost more than reading a file.
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
        """Wait for all while time is `remaining`; then no further call is started.

        The results of those that were started, the first ones, are returned. They may take `GRACE` seconds more, so
        that no work is thrown away; None stands for what takes longer. Raises what a call has raised. `keep_alive`
        is called every second meanwhile.
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
        # the number of items that were taken; whoever takes one later finds that it was cancelled, or is ignored
        return self._results[: next(self._next)]

    def cancel(self) -> None:
        """Start no further call."""
        self._cancelled = True
        for loop in self._loops:
            loop.cancel()
