"""Connections to PostgreSQL that requests borrow and return."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from .connection import Connection
from .errors import StorageError
from .settings import PostgresSettings


class Pool:
    """Keeps connections for later requests, except broken ones. Threads may share it.

    It has no limit of its own: its callers bound how many are in use.
    """

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._idle: list[Connection] = []
        self._lock = Lock()

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
                with self._lock:
                    self._idle.append(connection)

    def _acquire(self) -> Connection:
        """An idle connection that is still alive, else a new one."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            if connection.is_alive():
                return connection
            connection.close()
            self.close()  # the others are probably broken too
        return Connection(self._settings)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()
