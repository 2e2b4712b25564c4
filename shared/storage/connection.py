"""One PostgreSQL session: statements, transactions, COPY to the client, timeouts and errors."""

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from math import inf
from select import POLLIN, poll
from threading import Thread
from time import monotonic
from typing import Any, Literal

import pg8000.native
from pg8000.exceptions import DatabaseError, Error

from .errors import AccessDenied, SchemaMissing, StorageError, Unavailable
from .pipe import Pipe
from .settings import PostgresSettings
from .tls import describe, make_context

_CONNECT_TIMEOUT = 5  # seconds to connect, and to wait for each response during the login
_PING_TIMEOUT = 2  # seconds for an idle session to respond
_PING_INTERVAL = 1  # minimum seconds between pings
TIMEOUT_MARGIN = 4
"""Seconds that the client waits beyond `postgres_timeout`, so that the server gives up first and reports the cause."""

_MIN_TIMEOUT = 2  # seconds that a statement may wait for the server even if `time_limit` leaves fewer
_KEEP_ALIVE_INTERVAL = 15  # seconds without a statement after which `keep_alive` sends one
_MAX_PREPARED = 32  # maximum number of prepared statements in a session; each takes some 100 KB in the server

# With these, the server ends the session of a client that has vanished or is frozen, and so releases its locks, within
# about a minute. Keepalives detect a host that is gone. The two idle timeouts detect a frozen process, whose kernel
# still acknowledges packets. tcp_user_timeout detects both while the server is sending. With
# client_connection_check_interval the server stops the statement of a client that has closed the connection.
_SERVER_TIMEOUTS = {
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60s",
    "client_connection_check_interval": "5s",
    "idle_in_transaction_session_timeout": "60s",
    "idle_session_timeout": "60s",
}
# The client's keepalives by socket option; the times are in seconds
_CLIENT_KEEPALIVES = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}

_RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: on, 0 seconds


class Connection:
    """One session, for one thread at a time. After Unavailable it is broken and must be closed."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._server = f"PostgreSQL at {settings.postgres_host}:{settings.postgres_port}"
        self.broken = False
        self._alive_at = -inf  # monotonic time of the last response to a ping
        self._used_at = monotonic()  # monotonic time at which the last statement ended
        self._prepared: dict[str, pg8000.native.PreparedStatement] = {}  # by SQL, least recently used first
        self._timeout, self._expires_at = settings.postgres_timeout + TIMEOUT_MARGIN, inf
        context = _tls(settings)
        with self._translate_errors():
            self._session = _Session(
                user=settings.postgres_user,
                password=settings.postgres_password.reveal(),
                host=settings.postgres_host,
                port=settings.postgres_port,
                database=settings.postgres_database,
                sock=_connect(settings),
                ssl_context=context,
                application_name="rollcall",
                startup_params={
                    "statement_timeout": f"{settings.postgres_timeout}s",
                    "DateStyle": "ISO, YMD",
                    "TimeZone": "UTC",
                    **_SERVER_TIMEOUTS,
                },
            )
        self._socket = self._session.transport

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, sql: str, **parameters: object) -> list[list[Any]]:
        """Run a statement with its `:name` parameters; return all rows."""
        with self._statement():
            return self._session.run(sql, **parameters) or []

    def run_prepared(self, sql: str, **parameters: object) -> list[list[Any]]:
        """Run a statement that the session keeps prepared: one round trip instead of three, parsed and planned once.

        The plan is generic, so use this only for statements whose best plan does not depend on the values. From the
        first call on, `run` uses generic plans too, for statements with parameters.
        """
        with self._statement():
            return self._prepare(sql).run(**parameters) or []

    def _prepare(self, sql: str) -> pg8000.native.PreparedStatement:
        statement = self._prepared.pop(sql, None)
        if statement is None:
            if not self._prepared:
                self._session.run("set plan_cache_mode = force_generic_plan")
            elif len(self._prepared) == _MAX_PREPARED:
                self._prepared.pop(next(iter(self._prepared))).close()
            statement = self._session.prepare(sql)
        self._prepared[sql] = statement
        return statement

    @contextmanager
    def _statement(self, timeout: float | None = None) -> Iterator[None]:
        """Let the body run a statement. Raises Unavailable if the server is silent for `timeout` seconds.

        The default is `postgres_timeout` plus TIMEOUT_MARGIN, or what `time_limit` leaves if that is less, but at least
        _MIN_TIMEOUT.
        """
        remaining = max(_MIN_TIMEOUT, min(self._timeout, self._expires_at - monotonic()))
        with self._translate_errors():
            self._socket.settimeout(timeout or remaining)
            yield
        self._used_at = monotonic()

    @contextmanager
    def time_limit(self, seconds: float) -> Iterator[None]:
        """In the body, stop waiting for a silent server about `seconds` from now.

        Each statement's own timeout still applies.
        """
        self._expires_at = monotonic() + seconds
        try:
            yield
        finally:
            self._expires_at = inf

    def keep_alive(self) -> None:
        """Keep an idle session from timing out. Call it every few seconds."""
        if monotonic() - self._used_at >= _KEEP_ALIVE_INTERVAL:
            self.run("")

    def is_alive(self) -> bool:
        """Whether the server responds to a ping within 2 seconds.

        A session that responded to a ping within the last second is not pinged again, unless there is something to
        read: an error, or the end of the connection.
        """
        if monotonic() - self._alive_at < _PING_INTERVAL and not self._has_pending_input():
            return True
        try:
            with self._statement(_PING_TIMEOUT):
                self._session.run("")
        except StorageError:
            return False
        self._alive_at = monotonic()
        return True

    def _has_pending_input(self) -> bool:
        """Whether there is anything to read, including the end of the connection."""
        poller = poll()
        poller.register(self._socket, POLLIN)
        return bool(poller.poll(0))

    @contextmanager
    def transaction(self, mode: str = "") -> Iterator[None]:
        """Commit at the end; roll back on any exception. `mode` is what follows BEGIN, such as `read only`."""
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
    def copy_out(self, sql: str, seconds: float = inf) -> Iterator[Iterator[bytes]]:
        """Run a COPY … TO STDOUT; yield an iterator over its output, in chunks of about 64 KiB.

        Only a few chunks are buffered, so the server waits for a slow reader. Leaving the body before the iterator ends
        stops the COPY and breaks the connection. Once `seconds` have passed since the first chunk was requested, the
        iterator no longer waits: if no chunk is ready, it yields the rows received so far and then raises TimeoutError,
        which becomes Unavailable unless the body catches it.
        """
        pipe = Pipe()
        writer = Thread(target=self._copy_into, args=(sql, pipe), name="copy_out", daemon=True)
        writer.start()
        try:
            yield pipe.chunks(seconds)
        except TimeoutError as error:
            raise Unavailable("postgresql", f"{self._server} did not respond within {seconds:g} s") from error
        finally:
            if not pipe.drained:
                self.broken = True
                pipe.close()
                self._abort()
            writer.join()

    def _copy_into(self, sql: str, pipe: Pipe) -> None:
        try:
            with self._statement():
                self._session.run(sql, stream=pipe)
        except BaseException as error:  # noqa: BLE001 - raised again where the chunks are read
            pipe.end(error)
        else:
            pipe.end(None)

    def _abort(self) -> None:
        """Wake the thread that waits for the server, and let `close` reset the connection.

        The reset makes the server stop its COPY at once, and release its lock on the table.
        """
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # not SSLSocket.shutdown: after it, the thread would read encrypted data as plain text
            socket.socket.shutdown(self._socket, socket.SHUT_RD)

    def close(self) -> None:
        """End the session; does nothing if it has ended already."""
        self._session.end()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate pg8000's exceptions into those of `errors`, and set `broken` if the session is unusable."""
        try:
            yield
        except DatabaseError as error:
            translated = _to_storage_error(error)
            if isinstance(translated, Unavailable):
                self.broken = True
            raise translated from error
        except (Error, OSError, UnicodeError) as error:
            self.broken = True
            cause = error.__cause__ or error
            is_timeout = isinstance(cause, TimeoutError)
            problem = "did not respond in time" if is_timeout else f"cannot be reached: {describe(cause)}"
            raise Unavailable("postgresql", f"{self._server} {problem}") from error
        except Exception as error:  # any: pg8000 does not check messages, so an unexpected one can fail anywhere
            self.broken = True
            raise Unavailable("postgresql", f"{self._server} sent an invalid message: {error!r}") from error


class _Session(pg8000.native.Connection):  # type: ignore[misc]
    """pg8000's connection. Only this class uses its private attributes."""

    @property
    def transport(self) -> socket.socket:
        """The TCP or TLS socket."""
        transport: socket.socket = self._usock
        return transport

    def end(self) -> None:
        """Close the connection, and its file object, which pg8000 leaves open."""
        stream = self._sock
        with suppress(Error, OSError, AttributeError, ValueError):
            self.close()
        with suppress(OSError, AttributeError, ValueError):
            stream.close()


def _connect(settings: PostgresSettings) -> socket.socket:
    """Return a connected socket. Its timeout also applies to the login."""
    address = (settings.postgres_host, settings.postgres_port)
    sock = socket.create_connection(address, timeout=_CONNECT_TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _CLIENT_KEEPALIVES.items():
        if hasattr(socket, option):  # macOS has no TCP_KEEPIDLE
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each COPY waits 40 ms for an ACK
    return sock


@lru_cache(maxsize=1)  # loading the system's CA certificates takes 30 ms
def _tls(settings: PostgresSettings) -> ssl.SSLContext | Literal[False]:
    """Return the TLS context for pg8000, or False for no TLS.

    As in libpq, `require` verifies the certificate only if a CA file is given, and never the host name.
    """
    if settings.postgres_sslmode == "disable":
        return False
    context = make_context("postgres_ca_file", settings.postgres_ca_file)
    if settings.postgres_sslmode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if settings.postgres_ca_file else ssl.CERT_NONE
    return context


# SQLSTATE codes, or classes of them: https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNAVAILABLE = ("08", "53", "57", "58", "25P03", "40001", "40P01", "55P03")  # a retry may help
_ACCESS_DENIED = ("28", "3D", "42501", "25006")  # 3D: no such database; 25006: read-only
_SCHEMA_MISSING = ("42P01", "3F000", "42703", "42883")


def _to_storage_error(error: DatabaseError) -> StorageError:
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    code, message = details.get("C", ""), details.get("M", str(error))
    if code.startswith(_UNAVAILABLE):
        return Unavailable("postgresql", f"PostgreSQL: {message}")
    if code.startswith(_ACCESS_DENIED):
        return AccessDenied("postgresql", f"PostgreSQL: {message}")
    if code in _SCHEMA_MISSING:
        return SchemaMissing(f"PostgreSQL: {message}")
    return StorageError(f"PostgreSQL {code}: {message}")
