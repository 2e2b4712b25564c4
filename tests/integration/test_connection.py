"""Sessions of PostgreSQL: COPY, timeouts, errors, reuse by the pool, and prepared statements."""

import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from select import select

import pytest
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.errors import SchemaMissing, StorageError, Unavailable
from process_data.shared.storage.pool import Pool
from process_data.shared.storage.settings import PostgresSettings, load

from tests.stack import Stack

TIMEOUTS = [
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
    "tcp_user_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "client_connection_check_interval",
]
LAST_STATEMENT_AT = "select state_change from pg_stat_activity where pid = :pid"
MILLION = "copy (select generate_series(1, 1000000)) to stdout"


@pytest.fixture
def settings(stack: Stack) -> PostgresSettings:
    return load(PostgresSettings, {**stack.process_settings, "postgres_timeout": "2"})


@pytest.fixture
def connection(settings: PostgresSettings) -> Iterator[Connection]:
    with Connection(settings) as connection:
        yield connection


@pytest.fixture
def pool(settings: PostgresSettings) -> Iterator[Pool]:
    pool = Pool(settings)
    yield pool
    pool.close()


def test_copy_out_yields_everything_in_large_chunks(stack: Stack) -> None:
    with Connection(load(PostgresSettings, stack.process_settings)) as connection:
        with connection.copy_out(MILLION) as chunks:
            data = list(chunks)
        assert b"".join(data).split() == [b"%d" % number for number in range(1, 1_000_001)]
        assert len(data) < 200
        assert connection.run("select 1") == [[1]]


def test_a_copy_yields_the_rows_of_an_unfinished_chunk_before_it_times_out(connection: Connection) -> None:
    slow = "copy (select repeat('x', 9000) from generate_series(1, 2) n where n = 1 or pg_sleep(600) is null) to stdout"
    with pytest.raises(Unavailable), connection.copy_out(slow, seconds=1) as chunks:
        assert len(next(chunks)) == 9001
        next(chunks)


def test_closing_a_session_stops_its_statement(stack: Stack) -> None:
    settings = load(PostgresSettings, {**stack.process_settings, "postgres_timeout": "300"})
    with Connection(settings) as connection, connection.time_limit(0), pytest.raises(Unavailable, match="in time"):
        connection.run("select pg_sleep(299)")
    stack.wait_until(lambda: stack.sql("select from pg_stat_activity where query like 'select pg_sleep(299)%'") == [])


def test_leaving_a_copy_early_breaks_its_connection_and_the_pool_opens_another(pool: Pool) -> None:
    with pool.connection() as connection:
        with connection.copy_out(MILLION) as chunks:
            assert next(chunks).startswith(b"1\n2\n")
        assert connection.broken
    with pool.connection() as other:
        assert other is not connection
        assert other.run("select 1") == [[1]]


def forward(listening: socket.socket, port: int) -> bool:
    """Forward one connection to PostgreSQL until it ends. Return whether the client reset it."""
    client, _ = listening.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        while True:
            for source in select([client, server], [], [])[0]:
                try:
                    data = source.recv(64 * 1024)
                except ConnectionResetError:
                    return source is client
                if not data:
                    return False
                (server if source is client else client).sendall(data)


def test_leaving_a_copy_early_resets_the_connection(stack: Stack) -> None:
    """After an ordinary close, a server that waits for room to send could stay in its COPY for a minute."""
    slow = "copy (select repeat('x', 70000) from generate_series(1, 2) n where n = 1 or pg_sleep(9) is null) to stdout"
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as executor:
        is_reset = executor.submit(forward, listening, int(stack.process_settings["postgres_port"]))
        port = str(listening.getsockname()[1])
        with (
            Connection(load(PostgresSettings, {**stack.process_settings, "postgres_port": port})) as connection,
            connection.copy_out(slow) as chunks,
        ):
            assert len(next(chunks)) == 70001
        assert is_reset.result()


def test_a_failed_copy_raises_a_storage_error_and_keeps_the_session(connection: Connection) -> None:
    failing = connection.copy_out("copy (select 1/0) to stdout")
    with pytest.raises(StorageError, match="division by zero"), failing as chunks:
        list(chunks)
    assert not connection.broken
    assert connection.run("select 1") == [[1]]


def test_a_statement_timeout_raises_unavailable(connection: Connection) -> None:
    with pytest.raises(Unavailable, match="statement timeout"):
        connection.run("select pg_sleep(10)")


def test_a_time_limit_ends_with_its_body_even_after_an_error(stack: Stack) -> None:
    settings = load(PostgresSettings, {**stack.process_settings, "postgres_timeout": "300"})
    with Connection(settings) as connection:
        with pytest.raises(ValueError), connection.time_limit(0):
            raise ValueError
        assert connection.run("select pg_sleep(3), 1")[0][1] == 1  # longer than a statement may always take


def test_a_transaction_is_atomic(connection: Connection) -> None:
    connection.run("create temp table t (n int)")
    with pytest.raises(StorageError), connection.transaction():
        connection.run("insert into t values (1)")
        connection.run("insert into t values (1 / 0)")
    assert connection.run("select count(*) from t") == [[0]]


def test_a_session_that_the_server_ended_is_not_reused(stack: Stack, pool: Pool) -> None:
    with pool.connection() as connection:
        [[pid]] = connection.run("select pg_backend_pid()")
    stack.sql("select pg_terminate_backend(:pid)", pid=pid)
    with pool.connection() as connection:
        assert connection.run("select pg_backend_pid()") != [[pid]]


def test_a_session_that_ended_just_after_its_last_response_is_not_reused(stack: Stack, pool: Pool) -> None:
    """The last ping was less than a second ago, so the session is pinged only because there is something to read."""
    for _ in range(2):
        with pool.connection() as connection:  # pings the session the second time
            [[pid]] = connection.run("select pg_backend_pid()")
    stack.sql("select pg_terminate_backend(:pid, 5000)", pid=pid)
    with pool.connection() as connection:
        assert connection.run("select pg_backend_pid()") != [[pid]]


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


def test_keep_alive_sends_a_statement_only_in_an_idle_session(stack: Stack, connection: Connection) -> None:
    [[pid]] = connection.run("select pg_backend_pid()")
    for seconds, is_sent in ((14, False), (2, True), (14, False)):  # idle for 14, 16, and again 14 seconds
        connection._used_at -= seconds
        before = stack.sql(LAST_STATEMENT_AT, pid=pid)
        connection.keep_alive()
        assert (stack.sql(LAST_STATEMENT_AT, pid=pid) != before) is is_sent


def test_a_missing_table_raises_schema_missing(connection: Connection) -> None:
    with pytest.raises(SchemaMissing):
        connection.run("select * from nowhere")


def test_a_prepared_statement_has_one_plan_for_all_values(connection: Connection) -> None:
    for number in range(10):
        assert connection.run_prepared("select :number::int + 1", number=number) == [[number + 1]]
    assert connection.run("select generic_plans, custom_plans from pg_prepared_statements") == [[10, 0]]


def test_a_session_keeps_the_most_recently_used_prepared_statements(connection: Connection) -> None:
    for number in range(100):
        assert connection.run_prepared(f"select {number} + :number::int", number=1) == [[number + 1]]
        assert connection.run_prepared("select :number::int", number=number) == [[number]]
    statements = [sql for (sql,) in connection.run("select statement from pg_prepared_statements")]  # at most 32
    assert sorted(statements) == sorted(
        ["select $1::int", *(f"select {number} + $1::int" for number in range(69, 100))]
    )


def test_a_prepared_statement_survives_errors_and_table_changes(connection: Connection) -> None:
    sql = "select (10 / n)::text from t where n = :number"
    for table in ("t (n int)", "t (more text, n bigint)"):
        connection.run(f"create temp table {table}")
        connection.run("insert into t (n) values (0), (5)")
        with pytest.raises(StorageError, match="division by zero"):
            connection.run_prepared(sql, number=0)
        assert connection.run_prepared(sql, number=5) == [["2"]]
        connection.run("drop table t")
        with pytest.raises(SchemaMissing):
            connection.run_prepared(sql, number=5)


def test_the_servers_timeouts_for_vanished_clients_are_at_most_a_minute(connection: Connection) -> None:
    """Tests in which clients vanish are in tests/faults."""
    rows = connection.run("select name, setting::int, unit from pg_settings where name = any(:names)", names=TIMEOUTS)
    values = {name: value / 1000 if unit == "ms" else value for name, value, unit in rows}  # times in seconds
    keepalives = values["tcp_keepalives_idle"] + values["tcp_keepalives_interval"] * values["tcp_keepalives_count"]
    assert 0 < keepalives <= 60
    assert all(0 < values[name] <= 60 for name in TIMEOUTS)


@pytest.mark.skipif(sys.platform != "linux", reason="the timers of sockets are read from /proc")
def test_the_client_sends_keepalives(connection: Connection, stack: Stack) -> None:
    server = f"0100007F:{int(stack.process_settings['postgres_port']):04X}"
    assert connection.run("select 1") == [[1]]
    sockets = [line.split() for line in Path("/proc/self/net/tcp").read_text(encoding="utf-8").splitlines()[1:]]
    # fields 2, 3 and 5: the remote address, the state (01: established), and the timer as kind:time (02: keepalive)
    timers = {fields[5].partition(":")[0] for fields in sockets if fields[2] == server and fields[3] == "01"}
    assert "02" in timers
