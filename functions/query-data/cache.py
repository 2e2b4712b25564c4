"""A cache of values computed from the database."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """Keeps the `size` most recently used values. Threads that request the same value at the same time compute it once.

    Nothing expires: a key has to include the state of the data that its value was computed from.
    """

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, Lock()
        self._entries: OrderedDict[Hashable, Future[T]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value of the key; compute it if it is missing.

        An exception from `compute` is not cached, but raised in all threads that wait for the value. They do not retry,
        because each in turn would wait for an unresponsive server.
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
