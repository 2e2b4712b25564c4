"""Values that were computed for a state of the data, for as long as that is the state."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """The values that were asked for last, `size` of them. Each is computed once, however many ask at the same time.

    The key has the state of the data, so a value that is out of date is never found again.
    """

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, Lock()
        self._entries: OrderedDict[Hashable, Future[T]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value of the key. What `compute` raises is raised to all who wait for the value, and not kept.

        If each of them tried it again, the last would wait for a silent server as many times as there are of them.
        """
        with self._lock:
            is_first = key not in self._entries
            entry = self._entries.setdefault(key, Future())
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        if is_first:
            self._compute(key, entry, compute)
        return entry.result()

    def _compute(self, key: Hashable, entry: "Future[T]", compute: Callable[[], T]) -> None:
        try:
            entry.set_result(compute())
        except BaseException as error:
            with self._lock:
                if self._entries.get(key) is entry:
                    del self._entries[key]
            entry.set_exception(error)
            raise
