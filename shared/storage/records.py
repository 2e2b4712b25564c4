"""Records in PostgreSQL: connections, transactions, and COPY in both directions."""

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from functools import lru_cache
from math import inf
from queue import Empty, Queue
from select import POLLIN, poll
from threading import Lock, Thread
from time import monotonic
from typing import Any, Literal

import pg8000.native
from pg8000.exceptions import DatabaseError, Error, InterfaceError

from .errors import Refused, SchemaMissing, StorageError, Unavailable
from .settings import RecordsSettings
from .tls import describe, make_context

_LOGIN = 5  # seconds to connect and log in
_PING = 2  # seconds for an idle session to answer
_TRUST = 1  # seconds that this answer stands
_GRACE = 4  # seconds more than a statement may take: the server gives up first and says why
_LEAST = 2  # seconds that a statement may take in any case
_KEEP_ALIVE = 15  # seconds without a statement after which `keep_alive` sends one
_MAX_PREPARED = 32  # statements that a session keeps; each has some 100 KB in the server

# A peer that vanished or froze loses its session, and its locks with it, within about a minute. Keepalives find a
# host that is gone; the two idle timeouts find a process that is frozen while its kernel still acknowledges;
# tcp_user_timeout finds either while the server is sending.
_SERVER_TIMEOUTS = {
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    "idle_session_timeout": "60s",
}
# The same on this side, where the platform has it: name of the option, seconds or count
_CLIENT_KEEPALIVES = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time

CHUNK = 64 * 1024
"""Bytes that `Connection.copy_out` gathers before it hands them over."""


class Connection:
    """One session. Not for two threads at once. After Unavailable it is broken: close it."""

    def __init__(self, settings: RecordsSettings) -> None:
        self._where = f"PostgreSQL at {settings.postgres_host}:{settings.postgres_port}"
        self.broken = False
        self._answered = 0.0  # when `answers` asked last, by the monotonic clock
        self._used = monotonic()  # when the last statement ended
        self._prepared: dict[str, pg8000.native.PreparedStatement] = {}  # by SQL, the one used last at the end
        self._patience, self._expires = settings.postgres_timeout + _GRACE, inf
        context = _tls(settings)
        with self._translated():
            self._connection = pg8000.native.Connection(
                user=settings.postgres_user,
                password=settings.postgres_password,
                host=settings.postgres_host,
                port=settings.postgres_port,
                database=settings.postgres_database,
                sock=_socket(settings),
                ssl_context=context,
                application_name="rollcall",
                startup_params={
                    "statement_timeout": f"{settings.postgres_timeout}s",
                    "DateStyle": "ISO, YMD",
                    "TimeZone": "UTC",
                    **_SERVER_TIMEOUTS,
                },
            )
        self._socket = self._connection._usock

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, sql: str, **parameters: object) -> list[list[Any]]:
        """Run one statement, its `:name` parameters bound; returns its rows, all of them in memory."""
        with self._statement():
            return self._connection.run(sql, **parameters) or []

    def run_prepared(self, sql: str, **parameters: object) -> list[list[Any]]:
        """As `run`, by a statement that the session keeps: one round trip instead of three, parsed and planned once.

        It is planned for no values in particular, so it has to be one whose best plan is the same for all. So have
        the others with parameters that run in the same session.
        """
        with self._statement():
            return self._prepare(sql).run(**parameters) or []

    def _prepare(self, sql: str) -> pg8000.native.PreparedStatement:
        statement = self._prepared.pop(sql, None)
        if statement is None:
            if not self._prepared:
                self._connection.run("set plan_cache_mode = force_generic_plan")
            elif len(self._prepared) == _MAX_PREPARED:
                self._prepared.pop(next(iter(self._prepared))).close()
            statement = self._connection.prepare(sql)
        self._prepared[sql] = statement
        return statement

    @contextmanager
    def _statement(self, timeout: float | None = None) -> Iterator[None]:
        """Run a statement in the body, which waits so many seconds for a silent server."""
        remaining = max(_LEAST, min(self._patience, self._expires - monotonic()))
        with self._translated():
            self._socket.settimeout(timeout or remaining)
            yield
        self._used = monotonic()

    @contextmanager
    def bounded(self, seconds: float) -> Iterator[None]:
        """Wait in the body for a silent server until so many seconds have passed, if that is sooner than usual."""
        self._expires = monotonic() + seconds
        try:
            yield
        finally:
            self._expires = inf

    def keep_alive(self) -> None:
        """Keep an idle session from timing out; to be called every few seconds by whoever waits with one."""
        if monotonic() - self._used >= _KEEP_ALIVE:
            self.run("")

    def count(self, sql: str, **parameters: object) -> int:
        """Run one statement and return how many rows it wrote."""
        self.run(sql, **parameters)
        return self.row_count

    @property
    def row_count(self) -> int:
        """Rows that the last statement read or wrote, those of a COPY included."""
        return int(self._connection.row_count)

    def answers(self) -> bool:
        """Whether the session still lives and the server answers at once; it is broken otherwise.

        One that answered within the last second is not asked again, unless something came of the server since, as it
        does when a session ends.
        """
        if monotonic() - self._answered < _TRUST and not self._has_news():
            return True
        try:
            with self._statement(_PING):
                self._connection.run("")
        except StorageError:
            self.broken = True
            return False
        self._answered = monotonic()
        return True

    def _has_news(self) -> bool:
        """Whether anything waits to be read, the end of the connection included."""
        waiting = poll()
        waiting.register(self._socket, POLLIN)
        return bool(waiting.poll(0))

    @contextmanager
    def transaction(self, mode: str = "") -> Iterator[None]:
        """Commit at the end, roll back on any exception. `mode` as in SQL's BEGIN."""
        self.run(f"begin {mode}")
        try:
            yield
        except BaseException:
            if not self.broken:
                with suppress(Unavailable):
                    self.run("rollback")
            raise
        self.run("commit")

    @contextmanager
    def copy_out(self, sql: str) -> Iterator[Iterator[bytes]]:
        """Run a COPY … TO STDOUT: `with … as chunks` gives what it writes, about `CHUNK` at a time, as it comes.

        The reader's pace is the server's: only a few chunks wait. Whoever leaves before the last one stops
        the COPY, and the connection is broken then.
        """
        pipe = _Pipe()
        writer = Thread(target=self._copy_into, args=(sql, pipe), name="copy_out", daemon=True)
        writer.start()
        try:
            yield pipe.chunks()
        finally:
            if not pipe.drained:
                self.broken = True
                pipe.abandon()
                self._hang_up()
            writer.join()

    def _copy_into(self, sql: str, pipe: "_Pipe") -> None:
        try:
            with self._statement():
                self._connection.run(sql, stream=pipe)
        except BaseException as error:  # noqa: BLE001 - raised again where the chunks are read
            pipe.end(error)
        else:
            pipe.end(None)

    def _hang_up(self) -> None:
        """Wake the thread that waits for the server, and let closing the socket reset it.

        A socket that was closed in the usual way, its receive window full, tells the server of that only after a
        minute (Linux's tcp_fin_timeout). For so long the server would be stuck in its COPY, with the table's lock.
        """
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # not TLS's own shutdown, after which the thread would read on without decrypting
            socket.socket.shutdown(self._socket, socket.SHUT_RD)

    def close(self) -> None:
        """End the session; harmless when it has ended already."""
        self.broken = True
        stream = self._connection._sock  # pg8000 lets go of it open: an error's frames may keep it, and the session
        with suppress(Error, OSError, AttributeError, ValueError):
            self._connection.close()
        with suppress(OSError, AttributeError, ValueError):
            stream.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn pg8000's exceptions into ours, and remember whether the session survived."""
        try:
            yield
        except DatabaseError as error:
            translated = _from_server(error)
            self.broken = self.broken or isinstance(translated, Unavailable)
            raise translated from error
        except (InterfaceError, OSError, UnicodeError) as error:
            self.broken = True
            reason = describe(error.__cause__ or error)
            raise Unavailable("postgresql", f"{self._where} can't be reached: {reason}") from error
        except Error as error:
            self.broken = True
            raise StorageError(f"{self._where}: {error}") from error


class Pool:
    """Connections that requests borrow and give back. Threads may share it; a broken one is not kept."""

    def __init__(self, settings: RecordsSettings) -> None:
        self._settings = settings
        self._idle: list[Connection] = []
        self._lock = Lock()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        connection = self._take()
        try:
            yield connection
        finally:
            if connection.broken:
                connection.close()
            else:
                with self._lock:
                    self._idle.append(connection)

    def _take(self) -> Connection:
        """An idle connection that still answers, else a new one."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            if connection.answers():
                return connection
            connection.close()
            self.close()  # the others are no better
        return Connection(self._settings)

    def close(self) -> None:
        """End the idle sessions."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()


class _Abandoned(Exception):
    """Nobody reads any more."""


class _Pipe:
    """What COPY writes a row at a time in one thread comes out in chunks in another."""

    def __init__(self) -> None:
        self._queue: Queue[bytes | BaseException | None] = Queue(maxsize=4)
        self._rows: list[bytes] = []
        self._size = 0
        self._abandoned = False
        self.drained = False

    def write(self, row: bytes) -> None:
        self._rows.append(row)
        self._size += len(row)
        if self._size >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._abandoned:
            raise _Abandoned
        self._queue.put(b"".join(self._rows))
        self._rows, self._size = [], 0

    def end(self, error: BaseException | None) -> None:
        """The last word of the writer: all was written, or `error` came instead."""
        if error is None and self._rows:
            with suppress(_Abandoned):
                self._flush()
        self._queue.put(error)

    def chunks(self) -> Iterator[bytes]:
        while isinstance(item := self._queue.get(), bytes):
            yield item
        self.drained = True
        if item is not None:
            raise item

    def abandon(self) -> None:
        """Let the writer run into _Abandoned: it may be waiting for a place in the queue."""
        self._abandoned = True
        with suppress(Empty):
            while True:
                self._queue.get_nowait()


Bind = Callable[[str | date], str]
"""Gives what stands for a value in SQL: `literal`, or that of `Parameters`."""


def literal(value: str | date) -> str:
    """The value as an SQL literal: for COPY, which takes no parameters, and where the best plan depends on it."""
    return str(pg8000.native.literal(value))


class Parameters:
    """Values that go beside a statement, as `run_prepared` takes them."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def bind(self, value: str | date) -> str:
        """Keep the value, and return the parameter that stands for it."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f":{name}"


def _socket(settings: RecordsSettings) -> socket.socket:
    """A connected socket, whose timeout is that of logging in."""
    connected = socket.create_connection((settings.postgres_host, settings.postgres_port), timeout=_LOGIN)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _CLIENT_KEEPALIVES.items():
        if hasattr(socket, option):  # macOS calls the first one otherwise
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each COPY waits 40 ms for an ACK
    return connected


@lru_cache(maxsize=1)  # reading the system's authorities takes 30 ms
def _tls(settings: RecordsSettings) -> ssl.SSLContext | Literal[False]:
    """What pg8000 insists on before it sends anything; with False it does not ask for TLS.

    `require` means what it means to libpq: it checks the chain if an authority is given, and the name never.
    """
    if settings.postgres_sslmode == "disable":
        return False
    context = make_context("postgres_ca_file", settings.postgres_ca_file)
    if settings.postgres_sslmode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if settings.postgres_ca_file else ssl.CERT_NONE
    return context


# SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html: by class or by whole code
_UNAVAILABLE = ("08", "53", "57", "58", "40001", "40P01", "55P03")
_REFUSED = ("28", "3D", "42501", "25006")
_SCHEMA_MISSING = ("42P01", "3F000", "42703", "42883")


def _from_server(error: DatabaseError) -> StorageError:
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    code, message = details.get("C", ""), details.get("M", str(error))
    if code.startswith(_UNAVAILABLE):
        return Unavailable("postgresql", f"PostgreSQL: {message}")
    if code.startswith(_REFUSED):
        return Refused("postgresql", f"PostgreSQL: {message}")
    if code in _SCHEMA_MISSING:
        return SchemaMissing(f"PostgreSQL: {message}")
    return StorageError(f"PostgreSQL {code}: {message}")
