"""Values that were computed for a state of the data, for as long as that is the state."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class _Entry(Generic[T]):
    def __init__(self) -> None:
        self.lock = Lock()
        self.values: list[T] = []  # none or one


class Cache(Generic[T]):
    """The values that were asked for last, `size` of them. Each is computed once, however many ask at the same time.

    The key has the state of the data, so a value that is out of date is never found again.
    """

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, Lock()
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The value of the key. What `compute` raises is raised to whoever computes it, and not kept."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        with entry.lock:
            if not entry.values:
                entry.values.append(compute())
            return entry.values[0]
