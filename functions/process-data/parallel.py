"""Concurrent calls of a function, collected until a deadline."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count
from time import monotonic
from typing import Generic, TypeVar

from .deadline import GRACE, Deadline

T = TypeVar("T")
R = TypeVar("R")

_POLL_INTERVAL = 1.0  # seconds between checks of the remaining time


class ParallelCalls(Generic[T, R]):
    """Starts calling `function` on each item, in order, in up to `threads` of the executor's threads.

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

    def collect(
        self,
        deadline: Deadline,
        keep_alive: Callable[[], None],
        *,
        may_start_late: bool = False,
        may_start_when_stopping: bool = False,
    ) -> list[R | None]:
        """Wait for the calls; return the results of those that started, in the order of the items.

        Calls start until the deadline (with `may_start_late`, until `GRACE` seconds after it) or until the replica
        stops (with `may_start_when_stopping`, which requires `may_start_late`, until `GRACE` seconds after that). Calls
        that have started may take until `GRACE` seconds after the deadline or the stop, whichever is earlier; the
        result of one that is still not finished is None. If a call failed, its exception is raised. During the wait
        `keep_alive` is called about every second.
        """
        running = self._loops
        try:
            while running and (seconds := deadline.remaining_with(GRACE if may_start_late else 0)) > 0:
                running = wait(running, timeout=min(_POLL_INTERVAL, seconds)).not_done
                keep_alive()
            if not may_start_when_stopping:
                self.cancel()
            grace_ends_at = monotonic() + deadline.remaining_grace
            # not `wait(…).not_done`: it includes loops that were cancelled before a thread was free for them
            running = {loop for loop in running if not loop.done()}
            while running and (seconds := grace_ends_at - monotonic()) > 0:
                wait(running, timeout=min(_POLL_INTERVAL, seconds))
                running = {loop for loop in running if not loop.done()}
                keep_alive()
        finally:
            self.cancel()
        for loop in self._loops:
            if loop.done() and not loop.cancelled():
                loop.result()
        # the counter's next value is at least the number of items taken; results of items taken later are ignored
        return self._results[: next(self._next)]

    def cancel(self) -> None:
        """Start no more calls."""
        self._cancelled = True
        for loop in self._loops:
            loop.cancel()
