"""The TCP proxy injects the faults that it documents."""

import socket
import socketserver
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from random import Random
from threading import Thread

import pytest

from tests.tcp_proxy import CUT, DELAY, HANG, REFUSE, RESET, THROTTLE, VANISH, Fault, Proxy

SIZE = 100_000


class Server(socketserver.ThreadingTCPServer):
    """Sends SIZE bytes for each byte received; `ended` counts the closed connections."""

    daemon_threads, ended = True, 0


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            while received := self.request.recv(1):
                self.request.sendall(received * SIZE)
        assert isinstance(self.server, Server)
        self.server.ended += 1


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with closing(Proxy("127.0.0.1", server.server_address[1], Random(1))) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=30)


def request(client: socket.socket) -> int:
    """Send a request and return the number of bytes received."""
    client.sendall(b"x")
    received = 0
    while received < SIZE and (data := client.recv(65536)):
        received += len(data)
    return received


def test_without_a_fault_everything_passes(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert [request(client), request(client)] == [SIZE, SIZE]


@pytest.mark.parametrize("fault", [Fault(DELAY, seconds=0.3), Fault(THROTTLE, rate=SIZE)])
def test_a_slow_network_loses_no_data(proxy: Proxy, fault: Fault) -> None:
    with connect(proxy) as client, proxy.faulty(fault):
        started_at = time.monotonic()
        assert request(client) == SIZE
        assert time.monotonic() - started_at >= 0.6  # DELAY: 0.3 s in each direction; THROTTLE: 1 s


def test_a_cut_connection_ends_early(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert request(client) == SIZE
        with proxy.faulty(Fault(CUT)):
            assert request(client) < SIZE


def test_a_reset_connection_raises_an_error(proxy: Proxy) -> None:
    with connect(proxy) as client, proxy.faulty(Fault(RESET)), pytest.raises(ConnectionResetError):
        request(client)


def test_connections_are_refused_until_the_fault_ends(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert request(client) == SIZE
        with proxy.faulty(Fault(REFUSE)):
            with pytest.raises(ConnectionError):
                connect(proxy)
            with pytest.raises(ConnectionError):
                request(client)
    with connect(proxy) as client:
        assert request(client) == SIZE


def test_hanging_traffic_passes_once_the_fault_ends(proxy: Proxy) -> None:
    with connect(proxy) as first, connect(proxy) as second:
        with proxy.faulty(Fault(HANG)):
            for client in (first, second):
                client.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    request(client)
                client.settimeout(30)
        assert first.recv(1) == second.recv(1) == b"x"


def test_the_server_does_not_notice_a_vanished_client_at_once(server: Server, proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert request(client) == SIZE
        with proxy.faulty(Fault(VANISH, close_after=1)):
            pass  # connections that are open now pass no data after the fault either
        client.sendall(b"x")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert server.ended == 0
    deadline = time.monotonic() + 30
    while not server.ended:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_closing_the_proxy_resets_connections_that_it_has_not_forwarded_yet(server: Server) -> None:
    proxy = Proxy("127.0.0.1", server.server_address[1], Random(1))
    proxy._call(proxy._begin(Fault(HANG)))
    with connect(proxy) as client:
        client.sendall(b"x")
        proxy.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
