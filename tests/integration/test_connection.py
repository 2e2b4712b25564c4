"""PostgreSQL sessions: COPY, timeouts, errors, and prepared statements."""

import socket
import struct
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from queue import Empty
from random import Random
from select import select

import pytest
from process_data.shared.storage import connection as connection_module
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.errors import SchemaMissing, StorageError, Unavailable
from process_data.shared.storage.pipe import CHUNK, Pipe
from process_data.shared.storage.settings import PostgresSettings, load

from tests.runs import set_at_end
from tests.stack import HANG_TIMEOUT, Stack
from tests.tcp_proxy import REFUSE, Fault, Proxy

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
SLOW_SECOND_ROW = (
    "copy (select repeat('x', 70000) from generate_series(1, 2) n where n = 1 or pg_sleep(9) is not null) to stdout"
)


def message(kind: bytes, body: bytes) -> bytes:
    """Return a message of PostgreSQL's protocol."""
    return kind + struct.pack("!i", 4 + len(body)) + body


@pytest.fixture
def settings(stack: Stack) -> PostgresSettings:
    return load(PostgresSettings, {**stack.process_settings, "postgres_timeout": "2"})


@pytest.fixture
def connection(settings: PostgresSettings) -> Iterator[Connection]:
    with Connection(settings) as connection:
        yield connection


def test_copy_out_yields_everything_in_large_chunks(stack: Stack) -> None:
    with Connection(load(PostgresSettings, stack.process_settings)) as connection:
        with connection.copy_out("copy (select generate_series(1, 100000)) to stdout") as chunks:
            data = list(chunks)
        assert b"".join(data).split() == [b"%d" % number for number in range(1, 100_001)]
        assert len(data) < 20
        assert connection.run("select 1") == [[1]]


def test_a_copy_yields_the_rows_of_an_unfinished_chunk_before_it_times_out(connection: Connection) -> None:
    # the server sends 8 KiB at a time, so only some of the first 300 rows arrive before the timeout
    slow = (
        "copy (select repeat('x', 99) from generate_series(1, 301) n where n < 301 or pg_sleep(600) is null) to stdout"
    )
    read: list[bytes] = []
    with pytest.raises(Unavailable, match="within 1 s"), connection.copy_out(slow, seconds=1) as chunks:
        read.extend(chunks)
    [rows] = read
    assert rows.endswith(b"\n")
    assert set(rows.splitlines()) == {b"x" * 99}


def test_a_pipe_that_times_out_discards_rows_that_follow_an_unread_chunk() -> None:
    """The chunk is queued just after the time has run out."""

    class Late(Pipe):
        def _next(self, expires_at: float) -> bytes | BaseException | None:
            self.write(bytes(CHUNK))
            self.write(b"next row")
            raise Empty

    with pytest.raises(TimeoutError):
        next(Late().chunks(1))


def test_the_writer_of_a_pipe_waits_for_a_slow_reader() -> None:
    pipe, written = Pipe(), []

    def write() -> None:
        for number in range(100):
            pipe.write(bytes(CHUNK))
            written.append(number)
        pipe.end(None)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(0.5)  # without a limit the writer would have written everything
    for read, _ in enumerate(pipe.chunks(), start=1):
        assert len(written) <= read + 5
    assert len(written) == 100


def test_a_copy_that_has_reached_its_time_limit_does_not_wait(connection: Connection) -> None:
    silent = connection.copy_out("copy (select pg_sleep(600)) to stdout", seconds=0)
    with pytest.raises(Unavailable, match="within 0 s"), silent as chunks:
        next(chunks)


def test_closing_a_session_stops_its_statement(stack: Stack) -> None:
    settings = load(PostgresSettings, {**stack.process_settings, "postgres_timeout": "300"})
    with Connection(settings) as connection, connection.time_limit(0), pytest.raises(Unavailable, match="in time"):
        connection.run("select pg_sleep(299)")
    stack.wait_until(lambda: stack.sql("select from pg_stat_activity where query like 'select pg_sleep(299)%'") == [])


def test_leaving_a_copy_whose_connection_was_reset_raises_no_error(stack: Stack, settings: PostgresSettings) -> None:
    with (
        closing(Proxy(settings.postgres_host, settings.postgres_port, Random(0))) as proxy,
        Connection(replace(settings, postgres_port=proxy.port)) as connection,
        connection.copy_out(SLOW_SECOND_ROW) as chunks,
    ):
        assert len(next(chunks)) == 70001
        with proxy.faulty(Fault(REFUSE)):
            stack.wait_until(lambda: connection.broken)


def forward(listening: socket.socket, port: int) -> tuple[bool, int]:
    """Forward one connection to PostgreSQL until it ends.

    Return whether the client reset the connection, and how many bytes were sent to the client.
    """
    sent = 0
    client, _ = listening.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        while True:
            for source in select([client, server], [], [])[0]:
                try:
                    data = source.recv(64 * 1024)
                except ConnectionResetError:
                    return source is client, sent
                if not data:
                    return False, sent
                if source is client:
                    server.sendall(data)
                else:
                    client.sendall(data)
                    sent += len(data)


def test_leaving_a_copy_early_resets_the_connection_at_once(stack: Stack) -> None:
    """After an ordinary close, a server whose send buffer is full could stay in its COPY for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as executor:
        forwarded = executor.submit(forward, listening, int(stack.process_settings["postgres_port"]))
        port = str(listening.getsockname()[1])
        with (
            Connection(load(PostgresSettings, {**stack.process_settings, "postgres_port": port})) as connection,
            connection.copy_out(SLOW_SECOND_ROW) as chunks,
        ):
            assert len(next(chunks)) == 70001
        is_reset, sent = forwarded.result()
    assert is_reset
    assert sent < 2 * 70000, "the client must not wait for the second row"


def test_times_are_in_utc_and_iso_format_whatever_the_settings_of_the_role(
    stack: Stack, settings: PostgresSettings
) -> None:
    """query-data casts times to text, and so do the exports."""
    role_settings = {"timezone": "Asia/Tokyo", "datestyle": "SQL, DMY"}
    for name, value in role_settings.items():
        stack.sql(f"alter role {settings.postgres_user} set {name} = '{value}'")
    try:
        with Connection(settings) as connection:
            assert connection.run("select '2026-11-28 12:00+00'::timestamptz::text") == [["2026-11-28 12:00:00+00"]]
    finally:
        for name in role_settings:
            stack.sql(f"alter role {settings.postgres_user} reset {name}")


def test_a_failed_copy_raises_a_storage_error_and_keeps_the_session(connection: Connection) -> None:
    failing = connection.copy_out("copy (select 1/0) to stdout")
    with pytest.raises(StorageError, match="division by zero"), failing as chunks:
        list(chunks)
    assert not connection.broken
    assert connection.run("select 1") == [[1]]


def test_a_statement_timeout_raises_unavailable(connection: Connection) -> None:
    with pytest.raises(Unavailable, match="statement timeout"):
        connection.run("select pg_sleep(10)")


def test_a_login_without_a_response_raises_unavailable(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_CONNECT_TIMEOUT", 0.1)
    raised = threading.Event()

    def accept() -> None:
        with silent.accept()[0]:
            raised.wait(HANG_TIMEOUT)

    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as executor, set_at_end(raised):
        executor.submit(accept)
        port = str(silent.getsockname()[1])
        with pytest.raises(Unavailable, match="did not respond in time"):
            Connection(load(PostgresSettings, {**stack.process_settings, "postgres_port": port}))


@pytest.mark.parametrize(
    "response",
    [
        *(b"-ERR unknown command\r\n" * 9, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"R\0\0\0\x06\0\0"),
        message(b"R", struct.pack("!i", 10) + b"UNKNOWN-MECHANISM\0\0"),
        message(b"d", b"row"),
        b"R" + struct.pack("!i", -5),
    ],
)
def test_a_server_that_is_not_postgresql_is_unavailable(stack: Stack, response: bytes) -> None:
    def respond() -> None:
        with server.accept()[0] as client:
            client.sendall(response)
            client.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as executor:
        executor.submit(respond)
        port = str(server.getsockname()[1])
        with pytest.raises(Unavailable, match=port):
            Connection(load(PostgresSettings, {**stack.process_settings, "postgres_port": port}))


@pytest.mark.parametrize("response", [b"?\0\0\0\4", message(b"d", b"row"), message(b"D", b"\0\1\0\0\0\1x")])
def test_an_invalid_message_in_a_response_breaks_the_session(stack: Stack, response: bytes) -> None:
    def respond() -> None:
        with server.accept()[0] as client:
            client.recv(4096)
            client.sendall(message(b"R", bytes(4)) + message(b"Z", b"I"))  # the login succeeds
            client.recv(4096)
            client.sendall(response)
            client.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as executor:
        executor.submit(respond)
        port = str(server.getsockname()[1])
        connection = Connection(load(PostgresSettings, {**stack.process_settings, "postgres_port": port}))
        with pytest.raises(Unavailable, match="invalid message"):
            connection.run("select 1")
        assert connection.broken
        connection.close()


def test_a_time_limit_ends_with_its_block_even_after_an_error(stack: Stack) -> None:
    settings = load(PostgresSettings, {**stack.process_settings, "postgres_timeout": "300"})
    with Connection(settings) as connection:
        with pytest.raises(ValueError), connection.time_limit(0):
            raise ValueError
        assert connection.run("select pg_sleep(3), 1")[0][1] == 1  # longer than _MIN_TIMEOUT


def test_a_failed_transaction_is_rolled_back(connection: Connection) -> None:
    connection.run("create temp table t (n int)")
    with pytest.raises(StorageError), connection.transaction():
        connection.run("insert into t values (1)")
        connection.run("insert into t values (1 / 0)")
    with pytest.raises(KeyError), connection.transaction():
        connection.run("insert into t values (1)")
        raise KeyError
    [[transaction]] = connection.run("select pg_current_xact_id_if_assigned()::text")
    assert (transaction, connection.run("select count(*) from t")) == (None, [[0]])


def test_an_error_in_a_transaction_is_raised_even_if_its_session_has_ended(
    stack: Stack, connection: Connection
) -> None:
    [[pid]] = connection.run("select pg_backend_pid()")
    with pytest.raises(ValueError), connection.transaction():
        stack.sql("select pg_terminate_backend(:pid, 5000)", pid=pid)
        raise ValueError


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


@pytest.mark.skipif(sys.platform != "linux", reason="the names of the options differ")
def test_the_clients_keepalives_detect_a_vanished_server_within_a_minute(connection: Connection) -> None:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    idle, interval, count = (connection._socket.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names)
    assert 0 < idle + interval * count <= 60
    assert connection._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_small_messages_are_sent_at_once(connection: Connection) -> None:
    """Otherwise the server's delayed acknowledgements would slow down each COPY by 40 ms."""
    assert connection._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
