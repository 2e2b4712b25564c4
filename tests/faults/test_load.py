"""query-data stays available and correct under overload, while files change and runs write."""

import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import pytest
import urllib3
from query_data.application import MAX_HEALTH, MAX_PHOTOS, MAX_REQUESTS, MAX_STREAMS, MAX_WAITING, THREADS

from infra.local.config.stack import read_stack
from infra.local.gateway.proxy import MAX_CALLS
from tests import load
from tests.load import run_in_thread
from tests.memory import MEBIBYTE, peak_memory
from tests.replica import query_replica
from tests.stack import ROOT, Stack, connected
from tests.workload import TIMEOUT, Files, Workload

CLIENTS = MAX_REQUESTS + MAX_WAITING  # enough to reach query-data's maximum rate
MAX_SESSIONS = MAX_REQUESTS + MAX_PHOTOS + MAX_STREAMS + MAX_HEALTH

INSERT_USERS = """
insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified)
select n::text, repeat('F', 200), repeat('L', 200), n, 'etag', now() from generate_series(1, 200000) n
"""
"""About 110 MB: more than the socket buffers between query-data and a stalled client can hold."""


@pytest.fixture
def files(rollcall: Stack) -> Files:
    files = Files(rollcall)
    files.fill()
    rollcall.run_until_done()
    return files


@contextmanager
def changing(stack: Stack, files: Files) -> Iterator[Counter[int]]:
    """Change files and run process-data until the end of the block. Yield the number of its responses by status."""
    stopped, statuses = Event(), Counter[int]()

    def change() -> None:
        while not stopped.wait(0.02):
            files.change()

    def process() -> None:
        while not stopped.is_set():
            response = stack.request("POST", "/function/process-data")
            statuses[response.status] += 1
            assert response.status == 200 or response.is_transient, response.body

    with ThreadPoolExecutor(2) as executor:
        futures = [executor.submit(change), executor.submit(process)]
        try:
            yield statuses
        finally:
            stopped.set()
        for future in futures:
            future.result()


@pytest.mark.skipif(sys.platform != "linux", reason="memory and descriptors are read from /proc")
def test_under_overload_responses_are_correct_or_documented_errors_and_resources_are_bounded(
    rollcall: Stack, files: Files, request: pytest.FixtureRequest
) -> None:
    workload, duration = Workload(rollcall, files), request.config.getoption("--load-seconds") / 4
    pid = rollcall.pid("query-data")
    [query_data] = [spec for spec in read_stack(ROOT, {}).functions if spec.name == "query-data"]
    before, peaks = descriptors(pid), []
    with changing(rollcall, files) as runs:
        run_in_thread(load.closed_loop(CLIENTS, 1, workload.request))  # warm-up: connections and lazy imports
        rate = run_in_thread(load.closed_loop(CLIENTS, 5, workload.request))
        print(f"\n{rate:.0f} requests per second with {CLIENTS} clients")
        for factor in (1, 3, 1, 3):
            workload.clear_figures()
            run_in_thread(load.open_loop(factor * rate, duration, workload.request))
            print(f"{factor} × for {duration} s{workload.figures()}")
            total = sum(map(len, workload.durations.values()))
            succeeded = len(workload.durations[200]) + len(workload.durations[304])
            assert succeeded > total / factor / 2, f"{factor} ×: only {succeeded} of {total} requests succeeded"
            if factor == 3:
                peaks.append(peak_memory(pid) // MEBIBYTE)
    print(f"query-data's peak memory in MiB: {peaks}, descriptors: {before}, then {descriptors(pid)}")
    print(f"process-data's statuses: {dict(runs)}")
    assert not workload.errors, "".join(workload.errors[:5])
    assert runs[200]
    first_half, last_half = peaks
    assert last_half < first_half + 16  # MiB: peak memory does not grow with the number of requests
    assert last_half < int(query_data.limits["memory"].removesuffix("Mi"))
    # sessions, connections to S3 (at most one per thread), and connections from the gateway
    assert descriptors(pid) <= before + MAX_SESSIONS + THREADS + MAX_CALLS
    assert sessions(rollcall) <= MAX_SESSIONS
    rollcall.wait_until(lambda: sessions(rollcall, "idle") == sessions(rollcall))


@pytest.mark.parametrize("target", ["gateway", "replica"])
def test_stalled_slow_and_silent_clients_do_not_block_health_checks_pages_and_statistics(
    rollcall: Stack, target: str
) -> None:
    rollcall.sql(INSERT_USERS)
    with ExitStack() as stack:
        url = f"{rollcall.url}/function/query-data"
        if target == "replica":
            url = stack.enter_context(query_replica(rollcall)).url
        location = urllib3.util.parse_url(url)
        address = ("127.0.0.1", int(location.port or 0))
        stalled = [
            urllib3.request("GET", url, preload_content=False, retries=False, timeout=TIMEOUT) for _ in range(64)
        ]
        for response in stalled:
            stack.callback(response.close)
        assert Counter(response.status for response in stalled) == {200: MAX_STREAMS, 503: 64 - MAX_STREAMS}
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(64)]
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(200)]
        for connection in slow[:32]:  # these send a body slowly, the others a request line
            connection.send(b"POST / HTTP/1.1\r\nHost: rollcall\r\nContent-Length: 1000\r\n\r\n")
        longest = 0.0
        for index in range(6):
            for connection in slow:
                connection.send(b"GET / HTTP/1.1"[index : index + 1])
            for path in ("/healthz", "/?limit=100", "/?user_id=7", "/stats"):
                timed = run_in_thread(load.get(address[1], (location.path or "") + path, TIMEOUT))
                assert timed.status == 200
                longest = max(longest, timed.seconds)
            time.sleep(1)
        print(
            f"\nthe slowest normal request took {longest:.3f} s with {len(stalled + slow + silent)} misbehaving clients"
        )


def sessions(stack: Stack, *states: str) -> int:
    """Return the number of query-data's PostgreSQL sessions, optionally only those in these states."""
    condition = "usename = 'rollcall_query' and (state = any(:states) or :states = '{}')"
    with connected(stack.query_settings) as connection:  # a role can see the states of its own sessions
        condition += " and pid <> pg_backend_pid()"
        [[count]] = connection.run(f"select count(*) from pg_stat_activity where {condition}", states=list(states))
    return int(count)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
