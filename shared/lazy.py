"""Values that are made when they are first needed."""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """Made by the first `get`, once, whichever thread calls it. A `make` that raises is tried again by the next."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._lock = make, Lock()
        self._values: list[T] = []

    def get(self) -> T:
        with self._lock:
            if not self._values:
                self._values.append(self._make())
            return self._values[0]

    def clear(self) -> None:
        """Forget the value; the next `get` makes another."""
        with self._lock:
            self._values.clear()
