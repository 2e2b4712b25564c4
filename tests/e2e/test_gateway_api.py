"""The gateway's system API, its schedule, and the real clients of OpenFaaS."""

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from threading import Timer
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import STACK_YML, ProjectStack

FAAS_CLI = os.environ.get("FAAS_CLI") or shutil.which("faas-cli")
CRON_CONNECTOR = os.environ.get("CRON_CONNECTOR") or shutil.which("cron-connector")
needs_faas_cli = pytest.mark.skipif(not FAAS_CLI, reason="no faas-cli on PATH or in $FAAS_CLI")
needs_cron_connector = pytest.mark.skipif(not CRON_CONNECTOR, reason="no cron-connector on PATH or in $CRON_CONNECTOR")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/function/nobody", 404, "unknown_function"),
        ("POST", "/async-function/nobody", 404, "unknown_function"),
        ("GET", "/system/function/nobody", 404, "unknown_function"),
        ("GET", "/system/logs", 404, "unknown_function"),
        ("GET", "/system/logs?name=echo&tail=few", 400, "bad_parameter"),
        ("GET", "/system/logs?name=echo&since=yesterday", 400, "bad_parameter"),
        ("GET", "/system/logs?name=echo&since=0001-01-01T00:00:00%2B01:00", 400, "bad_parameter"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/system/info", 405, "method_not_allowed"),
        ("TRACE", "/function/echo", 405, "method_not_allowed"),
        ("POST", "/system/functions", 501, "not_supported"),
        ("PUT", "/system/functions", 501, "not_supported"),
        ("DELETE", "/system/functions", 501, "not_supported"),
        ("POST", "/system/secrets", 501, "not_supported"),
    ],
)
def test_errors_are_json(toy: ProjectStack, method: str, path: str, status: int, code: str) -> None:
    response = toy.request(method, path)
    assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
    error = response.json()["error"]
    assert error["code"] == code
    assert error["message"]
    if code == "unknown_function":
        assert "echo" in error["message"]
    if status == 405:
        assert "GET" in response.headers["Allow"]


def test_the_gateway_describes_a_function_as_stack_yml_does(toy: ProjectStack) -> None:
    first, _ = toy.request("GET", "/system/functions").json()
    function = toy.request("GET", "/system/function/echo").json()
    assert first["name"] == function["name"] == "echo"
    expected = yaml.safe_load(STACK_YML)["functions"]["echo"]
    expected["environment"]["greeting"] = "hello"  # the default in "${GREETING:-hello}"
    names = ("image", "annotations", "labels", "limits", "secrets")
    assert {name: function[name] for name in names} == {name: expected[name] for name in names}
    assert function["envVars"] == expected["environment"]
    assert (function["replicas"], function["availableReplicas"]) == (1, 1)
    assert toy.request("GET", "/system/functions?namespace=other").json() == []


def test_invocations_are_counted(toy: ProjectStack) -> None:
    def count() -> int:
        return int(toy.request("GET", "/system/function/echo").json()["invocationCount"])

    before = count()
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda _: toy.request("GET", "/function/echo?do=nothing"), range(40)))
    assert before + 40 <= count() <= before + 45  # the schedule invokes the function too


def test_the_gateway_describes_itself(toy: ProjectStack) -> None:
    assert toy.request("GET", "/system/info").json()["provider"]["orchestration"] == "processes"
    assert toy.request("GET", "/system/namespaces").json() == ["openfaas-fn"]
    assert toy.request("GET", "/healthz").status == 200


def test_logs_are_one_json_message_per_line_and_can_be_filtered(toy: ProjectStack) -> None:
    for _ in range(3):
        toy.request("GET", "/function/echo")

    def messages(query: str) -> list[dict[str, Any]]:
        body = toy.request("GET", f"/system/logs?name=echo{query}").body
        return [json.loads(line) for line in body.splitlines()]

    toy.wait_until(lambda: len(messages("")) >= 3)
    last = messages("&tail=2")
    assert len(last) == 2
    assert last[0].keys() == {"name", "namespace", "instance", "timestamp", "text"}
    assert messages(f"&since={last[1]['timestamp'].replace('Z', '%2B00:00')}")[0] == last[1]
    with (toy.state / "logs/echo.log").open("a") as log:
        log.write(f"{last[1]['timestamp']} 1 the last line of another instance\n")
    instance = last[1]["instance"]
    assert [message["instance"] for message in messages(f"&instance={instance}&tail=2")] == [instance, instance]
    assert messages("&instance=2") == []
    assert messages("&since=2100-01-01T00:00:00Z") == []


def test_the_schedule_sends_the_header_of_cron_connector(toy: ProjectStack) -> None:
    before = toy.log().count("request from cron-connector")
    toy.wait_until(lambda: toy.log().count("request from cron-connector") > before)


@needs_cron_connector
def test_the_real_cron_connector_invokes_a_function_through_the_gateway(toy: ProjectStack) -> None:
    environment = {"gateway_url": toy.url, "rebuild_interval": "500ms", "basic_auth": "false"}
    with subprocess.Popen([str(CRON_CONNECTOR)], env=environment, stderr=subprocess.PIPE, text=True) as connector:
        assert connector.stderr
        timer = Timer(60, connector.kill)
        timer.start()
        try:
            assert any("Response: echo [200]" in line for line in connector.stderr)
        finally:
            timer.cancel()
            connector.kill()


def faas(toy: ProjectStack, *arguments: str) -> str:
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
def test_the_real_faas_cli_lists_describes_invokes_and_reads_logs(toy: ProjectStack) -> None:
    assert "echo" in faas(toy, "list")
    assert "Ready" in faas(toy, "describe", "echo")
    assert '"x","1"' in faas(toy, "invoke", "echo", "--method", "GET", "--query", "x=1")
    assert "submitted asynchronously" in faas(toy, "invoke", "echo", "--async")
    assert "is ready" in faas(toy, "ready", "echo")
    assert "is ready" in faas(toy, "ready")
    assert "request from" in faas(toy, "logs", "echo", "--tail=false")
    assert "rollcall-local" in faas(toy, "version", "--warn-update=false")
