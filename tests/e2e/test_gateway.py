"""The local gateway and function host call functions as OpenFaaS does, directly and through the queue.

The statuses of the queue's errors are the local gateway's own: OpenFaaS CE returns 500 for all of them.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from queue import Queue

import pytest
import urllib3

from tests.e2e.conftest import ProjectStack
from tests.loopback import Quiet, serving
from tests.memory import MEBIBYTE, peak_memory
from tests.stack import HANG_TIMEOUT, Response


def gateway_log(toy: ProjectStack) -> str:
    return (toy.state / "logs/up.log").read_text()


def check_no_response(response: Response, status: int) -> None:
    """Check for the response that of-watchdog sends when the function does not respond."""
    assert (response.status, response.body) == (status, b"")
    assert response.headers["X-OpenFaaS-Internal"] == "of-watchdog"
    assert "Content-Type" not in response.headers


def test_the_handler_gets_the_method_path_query_body_and_headers_of_the_request(toy: ProjectStack) -> None:
    echo = toy.request("PATCH", "/function/echo/a%20b//c?x=1&x=%C3%A9&y=", b"body", X_Own="kept").json()
    assert echo["method"] == "PATCH"
    assert echo["path"] == "/a b//c"
    assert echo["query"] == [["x", "1"], ["x", "é"], ["y", ""]]
    assert echo["body"] == "body"
    assert echo["headers"]["X-Own"] == "kept"


@pytest.mark.parametrize("path", ["/function/echo", "/function/echo/", "/function/echo.openfaas-fn"])
def test_each_form_of_a_functions_url_maps_to_the_root_path(toy: ProjectStack, path: str) -> None:
    assert toy.request("GET", path).json()["path"] == "/"


def test_hop_by_hop_headers_are_not_forwarded(toy: ProjectStack) -> None:
    echo = toy.request("GET", "/function/echo", Connection="X-Mine", X_Mine="1", TE="trailers").json()
    assert not {"Connection", "X-Mine", "Te"} & echo["headers"].keys()


def test_every_call_has_an_id_and_a_start_time(toy: ProjectStack) -> None:
    first, second = (toy.request("GET", "/function/echo") for _ in range(2))
    assert first.headers["X-Call-Id"] != second.headers["X-Call-Id"]
    assert first.json()["headers"]["X-Call-Id"] == first.headers["X-Call-Id"]
    assert int(first.headers["X-Start-Time"]) > 1_600_000_000 * 10**9  # nanoseconds since 1970
    assert toy.request("GET", "/function/echo", X_Call_Id="mine").headers["X-Call-Id"] == "mine"


def test_handler_results_become_responses_as_in_the_template(toy: ProjectStack) -> None:
    response = toy.request("GET", "/function/echo?do=dict")
    assert (response.status, response.headers["X-From"], response.json()) == (201, "dict", {"from": "a dict"})
    nothing = toy.request("GET", "/function/echo?do=nothing")
    assert (nothing.status, nothing.body) == (200, b"")
    failed = toy.request("GET", "/function/echo?do=raise")
    assert (failed.status, failed.headers["Content-Type"]) == (500, "text/html; charset=utf-8")
    assert b"a requested error" not in failed.body
    assert toy.request("HEAD", "/function/echo").body == b""


def test_a_function_gets_only_its_own_environment_and_secrets(toy: ProjectStack) -> None:
    environment = toy.request("GET", "/function/echo").json()["environment"]
    assert environment["greeting"] == "hello"
    assert Path(environment["token_file"]).read_text() == toy.env("echo")["token"]
    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "PYTHONPATH", "PYTHONUNBUFFERED"}
    assert environment.keys() - allowed == {"exec_timeout", "write_timeout", "greeting", "token_file"}


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_the_gateway_does_not_hold_large_bodies_in_memory(toy: ProjectStack) -> None:
    toy.request("GET", "/function/long-timeout?do=stream&n=30")
    before = peak_memory(toy.state_file()["pid"])
    assert len(toy.request("GET", "/function/long-timeout?do=stream&n=300").body) == 300_000_000
    response = toy.request("POST", "/function/long-timeout?do=length", bytes(300_000_000))
    assert response.body == b"300000000"
    assert peak_memory(toy.state_file()["pid"]) - before < 64 * MEBIBYTE


def test_a_crash_truncates_the_response_without_an_error_and_the_function_restarts(toy: ProjectStack) -> None:
    """As with OpenFaaS, where of-watchdog ends the response as if it were complete."""
    process, logged = toy.identity("echo"), gateway_log(toy).count("response interrupted")
    truncated = toy.request("GET", "/function/echo?do=die")
    assert (truncated.status, len(truncated.body)) == (200, 1_000_000)
    assert gateway_log(toy).count("response interrupted") == logged + 1
    toy.wait_until(lambda: toy.identity("echo") != process and toy.state_file()["components"]["echo"]["ready"])
    assert toy.request("GET", "/function/echo").status == 200


def test_a_truncated_response_with_a_content_length_breaks_the_connection(toy: ProjectStack) -> None:
    process = toy.identity("echo")
    with pytest.raises(urllib3.exceptions.ProtocolError):
        toy.request("GET", "/function/echo?do=die&n=2000000")
    toy.wait_until(lambda: toy.identity("echo") != process and toy.state_file()["components"]["echo"]["ready"])


def test_a_killed_function_is_a_500_without_a_body_until_it_restarts(toy: ProjectStack) -> None:
    process = toy.identity("echo")
    with ThreadPoolExecutor(1) as executor:
        caller = executor.submit(toy.request, "GET", "/function/echo?do=sleep&n=1.5")
        time.sleep(0.5)  # usually the function has the request by then; if not, the response is the same
        process.send(signal.SIGKILL)
        responses = [caller.result()]
    toy.wait_until(lambda: not process.alive())
    while responses[-1].status != 200:
        check_no_response(responses[-1], 500)
        responses.append(toy.request("GET", "/function/echo"))
    assert responses[0].status == 500
    assert "echo exited without a response" in gateway_log(toy)


def start_stream(toy: ProjectStack) -> urllib3.BaseHTTPResponse:
    url = f"{toy.url}/function/echo?do=stream&n=100000"
    return urllib3.request("GET", url, preload_content=False, retries=False, timeout=HANG_TIMEOUT)


def test_a_disconnected_client_ends_the_functions_stream(toy: ProjectStack) -> None:
    before = toy.log().count("the client disconnected")
    response = start_stream(toy)
    response.read(1000)
    response.close()
    toy.wait_until(lambda: toy.log().count("the client disconnected") > before)


def test_a_response_that_its_client_does_not_read_is_aborted(toy: ProjectStack) -> None:
    before = toy.log().count("the client disconnected")
    response = start_stream(toy)
    toy.wait_until(lambda: toy.log().count("the client disconnected") > before)  # after the exec_timeout
    response.close()


def test_exec_timeout_is_a_504_without_a_body(toy: ProjectStack) -> None:
    check_no_response(toy.request("GET", "/function/echo?do=sleep&n=3"), 504)
    assert "exec_timeout of 2 s" in gateway_log(toy)


def test_exec_timeout_truncates_a_response_without_an_error(toy: ProjectStack) -> None:
    response = toy.request("GET", "/function/echo?do=drip")
    assert response.status == 200
    assert set(response.body) == set(b"x")
    assert "echo: response interrupted: its exec_timeout has expired" in gateway_log(toy)


def test_ndjson_requests_ignore_exec_timeout_and_get_an_empty_200_after_a_crash(toy: ProjectStack) -> None:
    """of-watchdog uses another proxy for them, which ignores exec_timeout and does not report errors."""

    def call(seconds: float) -> Response:
        return toy.request("GET", f"/function/echo?do=sleep&n={seconds}", Accept="application/x-ndjson")

    assert (call(3).status, call(5).status) == (200, 502)  # exec_timeout is 2 s, write_timeout 4 s
    process = toy.identity("echo")
    with ThreadPoolExecutor(1) as executor:
        caller = executor.submit(call, 1.5)
        time.sleep(0.5)  # usually the function has the request by then; if not, the response is the same
        process.send(signal.SIGKILL)
        response = caller.result()
    assert (response.status, response.body) == (200, b"")
    toy.wait_until(lambda: toy.identity("echo") != process and toy.state_file()["components"]["echo"]["ready"])


class Callbacks(Quiet, BaseHTTPRequestHandler):
    """Receives the responses of asynchronous calls."""

    received: Queue[tuple[dict[str, str], bytes]] = Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.put((dict(self.headers), body))
        self.send_response(200)
        self.end_headers()


@pytest.fixture
def callbacks() -> Iterator[str]:
    with serving(Callbacks) as url:
        yield f"{url}/done"


def test_an_asynchronous_call_sends_its_response_to_the_callback(toy: ProjectStack, callbacks: str) -> None:
    accepted = toy.request("POST", "/async-function/echo/later?x=1", b"body", X_Callback_Url=callbacks)
    assert accepted.status == 202
    headers, body = Callbacks.received.get(timeout=10)
    echo = json.loads(body)
    assert (echo["path"], echo["query"], echo["body"]) == ("/later", [["x", "1"]], "body")
    assert headers["X-Call-Id"] == accepted.headers["X-Call-Id"] == echo["headers"]["X-Call-Id"]
    assert (headers["X-Function-Name"], headers["X-Function-Status"]) == ("echo", "200")
    toy.request("POST", "/async-function/echo?do=sleep&n=3", X_Callback_Url=callbacks)
    assert Callbacks.received.get(timeout=10)[0]["X-Function-Status"] == "504"


def test_the_queue_rejects_large_bodies_invalid_callbacks_and_requests_beyond_its_capacity(toy: ProjectStack) -> None:
    assert toy.request("POST", "/async-function/echo", bytes(256_000)).status == 202
    assert toy.request("POST", "/async-function/echo", bytes(256_001)).status == 413
    for url in ("ftp://host/", "http://["):
        assert toy.request("POST", "/async-function/echo", X_Callback_Url=url).status == 400
    statuses = [toy.request("POST", "/async-function/echo?do=sleep&n=0.2").status for _ in range(14)]
    assert statuses[:9] == [202] * 9  # 10 may wait, and one of them may be the request with 256,000 bytes
    assert 429 in statuses
    toy.wait_until(lambda: toy.request("POST", "/async-function/echo?do=nothing").status == 202)
