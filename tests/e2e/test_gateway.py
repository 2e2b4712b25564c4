"""The gateway and the function host behave like OpenFaaS."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest
import urllib3

from tests.e2e.conftest import Toy, wait_until
from tests.memory import MEBIBYTE, peak_memory
from tests.stack import Response

FAAS_CLI = os.environ.get("FAAS_CLI") or shutil.which("faas-cli")
CRON_CONNECTOR = os.environ.get("CRON_CONNECTOR") or shutil.which("cron-connector")

needs_faas_cli = pytest.mark.skipif(not FAAS_CLI, reason="no faas-cli on PATH or in $FAAS_CLI")
needs_cron_connector = pytest.mark.skipif(not CRON_CONNECTOR, reason="no cron-connector on PATH or in $CRON_CONNECTOR")


def log(toy: Toy) -> str:
    return toy.cli("logs", "echo").stdout


def gateway_log(toy: Toy) -> str:
    return (toy.state / "logs/up.log").read_text()


def check_no_response(response: Response, status: int) -> None:
    """Check the response that of-watchdog sends when the function does not respond."""
    assert (response.status, response.body) == (status, b"")
    assert response.headers["X-OpenFaaS-Internal"] == "of-watchdog"
    assert "Content-Type" not in response.headers


def test_a_request_reaches_the_handler_unchanged(toy: Toy) -> None:
    echo = toy.request("PATCH", "/function/echo/a%20b//c?x=1&x=%C3%A9&y=", b"body", X_Own="kept").json()
    assert echo["method"] == "PATCH"
    assert echo["path"] == "/a b//c"
    assert echo["query"] == [["x", "1"], ["x", "é"], ["y", ""]]
    assert echo["body"] == "body"
    assert echo["headers"]["X-Own"] == "kept"


@pytest.mark.parametrize("path", ["/function/echo", "/function/echo/", "/function/echo.openfaas-fn"])
def test_a_function_responds_at_its_root(toy: Toy, path: str) -> None:
    assert toy.request("GET", path).json()["path"] == "/"


def test_hop_by_hop_headers_are_not_forwarded(toy: Toy) -> None:
    echo = toy.request("GET", "/function/echo", Connection="X-Mine", X_Mine="1", TE="trailers").json()
    assert not {"Connection", "X-Mine", "Te"} & echo["headers"].keys()


def test_every_call_has_an_id_and_a_start_time(toy: Toy) -> None:
    first, second = (toy.request("GET", "/function/echo") for _ in range(2))
    assert first.headers["X-Call-Id"] != second.headers["X-Call-Id"]
    assert first.json()["headers"]["X-Call-Id"] == first.headers["X-Call-Id"]
    assert int(first.headers["X-Start-Time"]) > 1_600_000_000 * 10**9
    assert toy.request("GET", "/function/echo", X_Call_Id="mine").headers["X-Call-Id"] == "mine"


def test_handler_results_become_responses_as_in_the_template(toy: Toy) -> None:
    result = toy.request("GET", "/function/echo?do=dict")
    assert (result.status, result.headers["X-From"], result.json()) == (201, "dict", {"from": "a dict"})
    nothing = toy.request("GET", "/function/echo?do=nothing")
    assert (nothing.status, nothing.body) == (200, b"")
    failed = toy.request("GET", "/function/echo?do=raise")
    assert (failed.status, failed.headers["Content-Type"]) == (500, "text/html; charset=utf-8")
    assert b"a requested error" not in failed.body
    assert toy.request("HEAD", "/function/echo").body == b""


def test_a_function_gets_its_own_environment_and_secrets(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = toy.request("GET", "/function/echo").json()["environment"]
    assert environment["greeting"] == "hello"
    assert Path(environment["token_file"]).read_text() == toy.env("echo")["token"]
    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "PYTHONPATH", "PYTHONUNBUFFERED"}
    assert environment.keys() - allowed == {"exec_timeout", "greeting", "token_file"}


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_large_bodies_are_streamed_in_constant_memory(toy: Toy) -> None:
    toy.request("GET", "/function/patient?do=stream&n=30")
    before = peak_memory(toy.record()["pid"])
    assert len(toy.request("GET", "/function/patient?do=stream&n=300").body) == 300_000_000
    response = toy.request("POST", "/function/patient?do=length", bytes(300_000_000))
    assert response.body == b"300000000"
    assert peak_memory(toy.record()["pid"]) - before < 64 * MEBIBYTE


def test_a_crash_truncates_the_response_without_an_error_and_the_function_restarts(toy: Toy) -> None:
    """As with of-watchdog and OpenFaaS's gateway: both log the error and terminate the response correctly."""
    before, logged = toy.identity("echo"), gateway_log(toy).count("interrupted in its response")
    truncated = toy.request("GET", "/function/echo?do=die")
    assert (truncated.status, len(truncated.body)) == (200, 1_000_000)
    assert gateway_log(toy).count("interrupted in its response") == logged + 1
    wait_until(lambda: toy.identity("echo") != before and toy.record()["parts"]["echo"]["ready"])
    assert toy.request("GET", "/function/echo").status == 200


def test_a_truncated_response_with_a_content_length_breaks_the_connection(toy: Toy) -> None:
    before = toy.identity("echo")
    with pytest.raises(urllib3.exceptions.ProtocolError):
        toy.request("GET", "/function/echo?do=die&n=2000000")
    wait_until(lambda: toy.identity("echo") != before and toy.record()["parts"]["echo"]["ready"])


def test_a_killed_function_is_a_500_without_a_body_until_it_restarts(toy: Toy) -> None:
    before = toy.identity("echo")
    with ThreadPoolExecutor(1) as executor:
        caller = executor.submit(toy.request, "GET", "/function/echo?do=sleep&n=1.5")
        time.sleep(0.5)  # usually during the call; otherwise the response is the same
        before.send(signal.SIGKILL)
        responses = [caller.result()]
    wait_until(lambda: not before.alive())
    while responses[-1].status != 200:
        check_no_response(responses[-1], 500)
        responses.append(toy.request("GET", "/function/echo"))
    assert responses[0].status == 500
    assert "echo ended without a response" in gateway_log(toy)


def test_a_disconnected_client_stops_the_function(toy: Toy) -> None:
    before = log(toy).count("the client disconnected")
    response = urllib3.request(
        "GET", f"{toy.url}/function/echo?do=stream&n=100000", preload_content=False, retries=False
    )
    response.read(1000)
    response.close()
    wait_until(lambda: log(toy).count("the client disconnected") > before)


def test_a_stalled_client_is_disconnected_after_exec_timeout(toy: Toy) -> None:
    before = log(toy).count("the client disconnected")
    response = urllib3.request(
        "GET", f"{toy.url}/function/echo?do=stream&n=100000", preload_content=False, retries=False
    )
    wait_until(lambda: log(toy).count("the client disconnected") > before)
    response.close()


def test_exec_timeout_is_a_504_without_a_body(toy: Toy) -> None:
    check_no_response(toy.request("GET", "/function/echo?do=sleep&n=3"), 504)
    assert "exec_timeout of 2 s" in gateway_log(toy)


def test_exec_timeout_truncates_a_response_without_an_error(toy: Toy) -> None:
    response = toy.request("GET", "/function/echo?do=drip")
    assert response.status == 200
    assert set(response.body) == set(b"x")
    assert "echo was interrupted in its response: its exec_timeout has passed" in gateway_log(toy)


def test_an_ndjson_request_without_a_response_is_an_empty_200(toy: Toy) -> None:
    """of-watchdog forwards such requests by another proxy, which does not report errors."""
    response = toy.request("GET", "/function/echo?do=sleep&n=3", Accept="application/x-ndjson")
    assert (response.status, response.body) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/function/nobody", 404, "unknown_function"),
        ("POST", "/async-function/nobody", 404, "unknown_function"),
        ("GET", "/system/function/nobody", 404, "unknown_function"),
        ("GET", "/system/logs", 404, "unknown_function"),
        ("GET", "/system/logs?name=echo&tail=few", 400, "bad_parameter"),
        ("GET", "/system/logs?name=echo&since=yesterday", 400, "bad_parameter"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/system/info", 405, "method_not_allowed"),
        ("TRACE", "/function/echo", 405, "method_not_allowed"),
        ("POST", "/system/functions", 501, "not_supported"),
        ("PUT", "/system/functions", 501, "not_supported"),
        ("DELETE", "/system/functions", 501, "not_supported"),
        ("POST", "/system/secrets", 501, "not_supported"),
    ],
)
def test_errors_are_json(toy: Toy, method: str, path: str, status: int, code: str) -> None:
    response = toy.request(method, path)
    assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
    error = response.json()["error"]
    assert error["code"] == code
    assert error["message"]
    if code == "unknown_function":
        assert "echo" in error["message"]
    if status == 405:
        assert "GET" in response.headers["Allow"]


def test_the_function_is_described(toy: Toy) -> None:
    listed, _ = toy.request("GET", "/system/functions").json()
    described = toy.request("GET", "/system/function/echo").json()
    assert listed["name"] == described["name"] == "echo"
    assert described["image"] == "docker.io/rollcall/echo:1"
    assert described["annotations"] == {"topic": "cron-function", "schedule": "@every 2s"}
    assert described["labels"] == {"kind": "toy"}
    assert described["limits"] == {"memory": "64Mi", "cpu": "500m"}
    assert described["envVars"]["token_file"] == "/var/openfaas/secrets/echo-token"
    assert described["secrets"] == ["echo-token"]
    assert (described["replicas"], described["availableReplicas"]) == (1, 1)
    assert toy.request("GET", "/system/functions?namespace=other").json() == []


def test_invocations_are_counted(toy: Toy) -> None:
    def count() -> int:
        return int(toy.request("GET", "/system/function/echo").json()["invocationCount"])

    before = count()
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda _: toy.request("GET", "/function/echo?do=nothing"), range(40)))
    assert before + 40 <= count() <= before + 45  # the schedule invokes the function too


def test_the_gateway_describes_itself(toy: Toy) -> None:
    assert toy.request("GET", "/system/info").json()["provider"]["orchestration"] == "processes"
    assert toy.request("GET", "/system/namespaces").json() == ["openfaas-fn"]
    assert toy.request("GET", "/healthz").status == 200


def test_logs_are_json_messages_one_per_line(toy: Toy) -> None:
    for _ in range(3):
        toy.request("GET", "/function/echo")

    def messages(query: str) -> list[dict[str, Any]]:
        body = toy.request("GET", f"/system/logs?name=echo{query}").body
        return [json.loads(line) for line in body.splitlines()]

    wait_until(lambda: len(messages("")) >= 3)
    last = messages("&tail=2")
    assert len(last) == 2
    assert last[0].keys() == {"name", "namespace", "instance", "timestamp", "text"}
    assert messages(f"&since={last[1]['timestamp'].replace('Z', '%2B00:00')}")[0] == last[1]
    assert messages("&instance=1") == []
    assert messages("&since=2100-01-01T00:00:00Z") == []


class Callbacks(BaseHTTPRequestHandler):
    """Receives the responses of asynchronous calls."""

    received: Queue[tuple[dict[str, str], bytes]] = Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.put((dict(self.headers), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def callbacks() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Callbacks) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/done"
        server.shutdown()


def test_an_asynchronous_call_sends_its_response_to_the_callback(toy: Toy, callbacks: str) -> None:
    accepted = toy.request("POST", "/async-function/echo/later?x=1", b"body", X_Callback_Url=callbacks)
    assert accepted.status == 202
    headers, body = Callbacks.received.get(timeout=10)
    echo = json.loads(body)
    assert (echo["path"], echo["query"], echo["body"]) == ("/later", [["x", "1"]], "body")
    assert headers["X-Call-Id"] == accepted.headers["X-Call-Id"] == echo["headers"]["X-Call-Id"]
    assert (headers["X-Function-Name"], headers["X-Function-Status"]) == ("echo", "200")
    toy.request("POST", "/async-function/echo?do=sleep&n=3", X_Callback_Url=callbacks)
    assert Callbacks.received.get(timeout=10)[0]["X-Function-Status"] == "504"


def test_the_queue_has_limits(toy: Toy) -> None:
    assert toy.request("POST", "/async-function/echo", bytes(256 * 1024)).status == 202
    assert toy.request("POST", "/async-function/echo", bytes(256 * 1024 + 1)).status == 413
    assert toy.request("POST", "/async-function/echo", X_Callback_Url="ftp://host/").status == 400
    statuses = [toy.request("POST", "/async-function/echo?do=sleep&n=0.2").status for _ in range(14)]
    assert statuses[:9] == [202] * 9
    assert statuses[-1] == 429
    wait_until(lambda: toy.request("POST", "/async-function/echo?do=nothing").status == 202)


def test_the_schedule_invokes_functions_as_cron_connector_does(toy: Toy) -> None:
    ticks = log(toy).count("request of cron-connector")
    wait_until(lambda: log(toy).count("request of cron-connector") > ticks)


@needs_cron_connector
def test_the_real_cron_connector_ticks(toy: Toy) -> None:
    environment = {"gateway_url": toy.url, "rebuild_interval": "500ms", "basic_auth": "false"}
    with subprocess.Popen([str(CRON_CONNECTOR)], env=environment, stderr=subprocess.PIPE, text=True) as connector:
        assert connector.stderr
        try:
            assert any("Response: echo [200]" in line for line in connector.stderr)
        finally:
            connector.kill()


def faas(toy: Toy, *arguments: str) -> str:
    """Run the real faas-cli and return its output."""
    result = subprocess.run(
        [str(FAAS_CLI), *arguments],
        env={"OPENFAAS_URL": toy.url, "HOME": str(toy.project), "PATH": os.defpath},
        cwd=toy.state,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@needs_faas_cli
def test_the_real_faas_cli_works(toy: Toy) -> None:
    assert "echo" in faas(toy, "list")
    assert "Ready" in faas(toy, "describe", "echo")
    assert '"x","1"' in faas(toy, "invoke", "echo", "--method", "GET", "--query", "x=1")
    assert "submitted asynchronously" in faas(toy, "invoke", "echo", "--async")
    assert "is ready" in faas(toy, "ready", "echo")
    assert "is ready" in faas(toy, "ready")
    assert "request of" in faas(toy, "logs", "echo", "--tail=false")
    assert "rollcall-local" in faas(toy, "version", "--warn-update=false")
