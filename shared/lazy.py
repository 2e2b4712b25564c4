"""Values that are created on first use."""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """A value that the first `get` creates and all threads share. If `make` raises, the next `get` calls it again."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._lock = make, Lock()
        self._values: list[T] = []

    def get(self) -> T:
        with self._lock:
            if not self._values:
                self._values.append(self._make())
            return self._values[0]

    def clear(self) -> None:
        """Drop the value; the next `get` creates a new one."""
        with self._lock:
            self._values.clear()
