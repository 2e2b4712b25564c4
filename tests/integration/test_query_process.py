"""A replica's process: its imports, its log, and the memory used by a request."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
import urllib3

from tests.memory import MEBIBYTE, peak_memory
from tests.packages import PACKAGES
from tests.replica import Replica, query_replica, replica, wait_until_ready
from tests.stack import HANG_TIMEOUT, Stack


def test_the_log_has_call_ids_but_no_names_and_no_health_checks(rollcall: Stack) -> None:
    with query_replica(rollcall) as replica:
        started_at = time.perf_counter()
        replica.request("GET", "/?name=secret", X_Call_Id="call-1")
        replica.request("HEAD", "/?limit=0", X_Call_Id="call-2")
        replica.request("GET", "/healthz", X_Call_Id="call-3")
        elapsed = time.perf_counter() - started_at
        lines = [json.loads(line) for line in replica.lines()]
    assert [(line["call_id"], line["method"], line["path"], line["status"]) for line in lines] == [
        ("call-1", "GET", "/", 200),
        ("call-2", "HEAD", "/", 400),
    ]
    assert all(0 < line["seconds"] < elapsed for line in lines)
    assert "secret" not in json.dumps(lines)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("function", ["query-data", "process-data"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("target", ["replica", "replica with token", "gateway"])
def test_a_huge_body_uses_little_extra_memory(rollcall: Stack, function: str, chunked: bool, target: str) -> None:
    with ExitStack() as stack:
        if target == "gateway":
            pid, url = rollcall.pid(function), f"{rollcall.url}/function/{function}"
        else:
            settings = rollcall.query_settings if function == "query-data" else rollcall.process_settings
            package = rollcall.state / "build" / function
            running = stack.enter_context(replica(package, settings | {"auth": "token", "api_token": "secret"}))
            wait_until_ready(running, "/healthz")
            pid, url = running.process.pid, running.url
        before = peak_memory(pid)
        headers = {"Authorization": "Bearer secret"} if target == "replica with token" else {}
        assert post(url, bytes(1024 * 1024), 500, chunked, headers) in (413, 500, None)
        assert peak_memory(pid) < before + 16 * MEBIBYTE
        response = urllib3.request("GET", url + "/healthz", retries=False, timeout=HANG_TIMEOUT)
        assert response.status in (200, 401, 404, 405)


def test_query_data_rejects_a_body_of_64_kib_and_ignores_a_shorter_one(query_function: Replica) -> None:
    assert post(query_function.url, bytes(64 * 1024 - 1), 1, chunked=False, headers={}) == 405
    assert post(query_function.url, bytes(64 * 1024), 1, chunked=False, headers={}) in (413, None)


def post(url: str, chunk: bytes, count: int, chunked: bool, headers: dict[str, str]) -> int | None:
    """Send a body of `count` chunks. Return the status, or None if the server closed the connection meanwhile."""
    if not chunked:
        headers = headers | {"Content-Length": str(count * len(chunk))}
    body = (chunk for _ in range(count))
    try:
        return urllib3.request("POST", url, body=body, headers=headers, retries=False, timeout=60).status
    except urllib3.exceptions.HTTPError:
        return None


PRINT_MODULES = "import sys; from query_data import handler; print(*sys.modules)"


def test_no_heavy_package_is_loaded() -> None:
    modules = subprocess.run(
        [sys.executable, "-c", PRINT_MODULES],
        env={"PYTHONPATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    loaded = {name.partition(".")[0] for name in modules}
    assert {"flask", "pg8000"} <= loaded
    assert not [name for name in modules if name.startswith("query_data.web")], "pages must be imported lazily"
    assert not {"pandas", "numpy", "minio", "urllib3", "requests", "yaml"} & loaded
