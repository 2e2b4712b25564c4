"""Connections to PostgreSQL that requests borrow and return."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .connection import Connection
from .errors import StorageError
from .settings import PostgresSettings


class Pool:
    """Keeps connections for later requests, except broken ones. Threads may share it.

    It has no limit of its own: its callers bound how many are in use.
    """

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._idle: deque[Connection] = deque()  # threads may append and pop without a lock

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow a connection for the body."""
        connection = self._acquire()
        try:
            yield connection
        except StorageError:
            connection.broken = True  # it may hold a lock that nothing would release
            raise
        finally:
            if connection.broken:
                connection.close()
            else:
                self._idle.append(connection)

    def _acquire(self) -> Connection:
        """An idle connection that is still alive, else a new one."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return Connection(self._settings)
        if connection.is_alive():
            return connection
        connection.close()
        self.close()  # the other idle connections are probably broken, too
        return Connection(self._settings)

    def close(self) -> None:
        """Close the idle connections."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()
