"""Overload: excess requests soon get an error, and slow clients cost little memory."""

import socket
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from process_data.application import MAX_ANONYMOUS
from process_data.application import MAX_REQUESTS as MAX_RUNS
from query_data.application import MAX_HEALTH, MAX_REQUESTS, MAX_WAITING

from tests.memory import MEBIBYTE, peak_memory
from tests.replica import Replica, query_replica, replica, wait_until_ready
from tests.stack import Response, Stack, connected

COUNT_WAITING = "select count(*) from pg_locks where relation = 'runs'::regclass and not granted"


def codes(responses: list[Response]) -> Counter[str]:
    """Count the responses by error code, and check Retry-After."""
    for response in responses:
        assert (response.status == 200) == ("error" not in response.json())
        if response.status == 503:
            assert response.headers["Retry-After"] == "1"
    return Counter("ok" if response.status == 200 else response.json()["error"]["code"] for response in responses)


@pytest.mark.parametrize(
    ("path", "accepted"), [("/?limit=1", MAX_REQUESTS), ("/healthz", MAX_HEALTH)], ids=["pages", "health"]
)
def test_query_data_returns_busy_while_all_slots_are_taken(rollcall: Stack, path: str, accepted: int) -> None:
    """The requests in the slots wait for a database lock. The others fail at once, or after waiting for a second."""
    total = MAX_REQUESTS + MAX_WAITING + 40
    with (
        query_replica(rollcall) as function,
        connected(rollcall.settings) as locking,
        ThreadPoolExecutor(total) as executor,
    ):
        locking.run("begin")
        locking.run("lock table users in access exclusive mode")
        requests = [executor.submit(function.request, "GET", path) for _ in range(total)]
        rollcall.wait_until(lambda: sum(request.done() for request in requests) == total - accepted)
        # pages take the slots that this request needs; health checks do not
        assert function.request("GET", "/openapi.json").status == (503 if accepted == MAX_REQUESTS else 200)
        locking.run("rollback")
        assert codes([request.result() for request in requests]) == {"ok": accepted, "busy": total - accepted}
        assert function.request("GET", path).status == 200


def test_health_checks_have_their_own_slots(rollcall: Stack) -> None:
    with (
        query_replica(rollcall) as function,
        connected(rollcall.settings) as locking,
        ThreadPoolExecutor(100) as executor,
    ):
        locking.run("begin")
        locking.run("lock table runs in access exclusive mode")
        requests = [executor.submit(function.request, "GET", "/runs") for _ in range(100)]
        rollcall.wait_until(lambda: sum(request.done() for request in requests) == 100 - MAX_REQUESTS)
        assert function.request("GET", "/healthz").status == 200
        locking.run("rollback")
        assert codes([request.result() for request in requests])["ok"] == MAX_REQUESTS


def test_process_data_returns_busy_while_all_slots_are_taken(rollcall: Stack) -> None:
    package = rollcall.state / "build/process-data"
    with replica(package, rollcall.process_settings) as function:
        assert wait_until_ready(function, "/").status == 405
        with connected(rollcall.settings) as locking, ThreadPoolExecutor(MAX_RUNS + 8) as executor:
            locking.run("begin")
            locking.run("lock table runs in access exclusive mode")
            requests = [executor.submit(post, function) for _ in range(MAX_RUNS + 8)]
            rollcall.wait_until(lambda: sum(request.done() for request in requests) == 8)
            locking.run("rollback")
            assert codes([request.result() for request in requests]) == {"ok": MAX_RUNS, "busy": 8}


def test_requests_without_the_token_leave_slots_for_those_with_it(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    settings = rollcall.process_settings | {"auth": "token", "api_token": "s3cret"}
    with replica(rollcall.state / "build/process-data", settings) as function:
        assert wait_until_ready(function, "/").status == 405
        with connected(rollcall.settings) as locking, ThreadPoolExecutor(MAX_RUNS + MAX_ANONYMOUS + 9) as executor:
            locking.run("begin")
            locking.run("lock table runs in access exclusive mode")
            anonymous = [executor.submit(post, function) for _ in range(MAX_ANONYMOUS + 8)]
            rollcall.wait_until(lambda: sum(request.done() for request in anonymous) == 8)
            erasure = executor.submit(post, function, "/erase?user_id=1", Authorization="Bearer s3cret")
            rollcall.wait_until(lambda: rollcall.sql(COUNT_WAITING) == [[MAX_ANONYMOUS + 1]])  # the erasure has a slot
            authorized = [executor.submit(post, function, Authorization="Bearer s3cret") for _ in range(MAX_RUNS)]
            # one of them gets the error busy, as the erasure has a slot
            rollcall.wait_until(lambda: sum(request.done() for request in authorized) == 1)
            assert not erasure.done()
            locking.run("rollback")
            assert codes([request.result() for request in anonymous]) == {"ok": MAX_ANONYMOUS, "busy": 8}
            assert codes([request.result() for request in authorized]) == {"ok": MAX_RUNS - 1, "busy": 1}
            assert erasure.result().json()["erased"] == ["1"]


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("function", ["query-data", "process-data"])
def test_slow_clients_cost_little_memory(rollcall: Stack, function: str) -> None:
    """Clients of query-data never read the photo; clients of process-data never finish the body."""
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("1.png", bytes(MEBIBYTE - 1))  # buffered by the server, unlike photos over 1 MiB
    rollcall.run_until_done()
    requests = {
        "query-data": b"GET /photo/1 HTTP/1.1\r\nHost: rollcall\r\n\r\n",
        "process-data": b"POST / HTTP/1.1\r\nHost: rollcall\r\nContent-Length: 1000000\r\n\r\n" + bytes(500_000),
    }
    settings = rollcall.query_settings if function == "query-data" else rollcall.process_settings
    with replica(rollcall.state / "build" / function, settings) as running, ExitStack() as stack:
        wait_until_ready(running, "/healthz")
        for _ in range(300):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(("127.0.0.1", int(running.url.rpartition(":")[2])))
            client.sendall(requests[function])
            if function == "query-data":
                assert client.recv(8) == b"HTTP/1.1"
        assert running.request("GET", "/healthz").status < 500
        assert peak_memory(running.process.pid) < 150 * MEBIBYTE


def post(function: Replica, path: str = "/", **headers: str) -> Response:
    return function.request("POST", path, **headers)
