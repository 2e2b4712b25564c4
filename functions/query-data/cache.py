"""A cache of values that were computed for a state of the data."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """Keeps the `size` values that were used last. Concurrent requests for a value compute it once.

    Keys contain the state of the data, so an outdated value is never returned.
    """

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, Lock()
        self._entries: OrderedDict[Hashable, Future[T]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value of the key. An exception of `compute` is raised in all waiting threads, and not cached.

        The waiting threads do not retry: they would wait for a silent server one after another.
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
