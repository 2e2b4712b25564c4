"""The pool of PostgreSQL sessions: sessions that have ended, do not respond or had an error are not reused."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from math import inf
from random import Random

import pytest
from process_data.shared.storage import connection as connection_module
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.errors import StorageError
from process_data.shared.storage.pool import Pool
from process_data.shared.storage.settings import PostgresSettings, load

from tests.stack import HANG_TIMEOUT, Stack
from tests.tcp_proxy import VANISH, Fault, Proxy


@pytest.fixture
def settings(stack: Stack) -> PostgresSettings:
    return load(PostgresSettings, {**stack.process_settings, "postgres_timeout": "2"})


@pytest.fixture
def pool(settings: PostgresSettings) -> Iterator[Pool]:
    pool = Pool(settings)
    yield pool
    pool.close()


def test_leaving_a_copy_early_breaks_its_connection_and_the_pool_opens_another(stack: Stack, pool: Pool) -> None:
    # one chunk is read, up to 4 are queued
    seven_chunks = "copy (select repeat('x', 66000) from generate_series(1, 7)) to stdout"
    idle = "select from pg_stat_activity where pid = :pid and state = 'idle'"

    def read_one(connection: Connection) -> None:
        [[pid]] = connection.run("select pg_backend_pid()")
        with connection.copy_out(seven_chunks) as chunks:
            assert len(next(chunks)) == 66001
            stack.wait_until(lambda: stack.sql(idle, pid=pid))

    with pool.connection() as connection:
        reading = threading.Thread(target=read_one, args=[connection], daemon=True)
        reading.start()
        reading.join(HANG_TIMEOUT)
        assert not reading.is_alive()
        assert connection.broken
    with pool.connection() as other:
        assert other is not connection
        assert other.run("select 1") == [[1]]


def test_a_session_that_the_server_ended_is_not_reused(stack: Stack, pool: Pool) -> None:
    with pool.connection() as connection:
        [[pid]] = connection.run("select pg_backend_pid()")
    stack.sql("select pg_terminate_backend(:pid)", pid=pid)
    with pool.connection() as connection:
        assert connection.run("select pg_backend_pid()") != [[pid]]


def test_a_session_that_ended_just_after_its_last_response_is_not_reused(
    stack: Stack, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an infinite interval a session is pinged only once, unless there is something to read.

    Here, the end of the connection can be read.
    """
    monkeypatch.setattr(connection_module, "_PING_INTERVAL", inf)
    pings = set()  # the pid of each borrowed session, and the time of its last ping
    for _ in range(3):
        with pool.connection() as connection:  # the second iteration pings the session, the third does not
            pings.add((connection.run("select pg_backend_pid()")[0][0], connection._alive_at))
    assert len(pings) == 2
    [pid] = {pid for pid, _ in pings}
    stack.sql("select pg_terminate_backend(:pid, 5000)", pid=pid)
    with pool.connection() as connection:
        assert connection.run("select pg_backend_pid()") != [[pid]]


def test_a_session_that_does_not_respond_to_a_ping_is_not_reused(
    stack: Stack, settings: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_PING_TIMEOUT", 0.1)
    with (
        closing(Proxy(settings.postgres_host, settings.postgres_port, Random(0))) as proxy,
        closing(Pool(replace(settings, postgres_port=proxy.port, postgres_timeout=3600))) as pool,
    ):
        with pool.connection() as connection:
            [[pid]] = connection.run("select pg_backend_pid()")
        with proxy.faulty(Fault(VANISH, close_after=HANG_TIMEOUT)), pool.connection() as other:
            assert other.run("select pg_backend_pid()") != [[pid]]
            # the server has not ended the old session
            assert stack.sql("select from pg_stat_activity where pid = :pid", pid=pid)


def test_finding_a_dead_session_closes_the_other_idle_ones(stack: Stack, pool: Pool) -> None:
    """Otherwise each of the next requests would wait for the ping of a session that is probably dead, too."""
    with pool.connection() as first, pool.connection() as second:
        pids = [connection.run("select pg_backend_pid()")[0][0] for connection in (first, second)]
    stack.sql("select pg_terminate_backend(:pid, 5000)", pid=pids[0])  # the session that is borrowed next
    with pool.connection(), pool.connection() as other:
        assert other.run("select pg_backend_pid()") != [[pids[1]]]


def test_a_session_is_not_reused_after_an_error(pool: Pool) -> None:
    """The session may hold a lock that nobody releases."""
    with pytest.raises(StorageError), pool.connection() as connection:
        [[pid]] = connection.run("select pg_backend_pid()")
        connection.run("select pg_advisory_lock(1), 1 / 0")
    with pool.connection() as connection:
        assert connection.run("select pg_backend_pid()") != [[pid]]
