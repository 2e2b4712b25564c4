"""The API token of the local stack: where it comes from, and which requests require it."""

import os
from pathlib import Path

import pytest
import urllib3

from tests.stack import ROOT, Stack, running


def test_the_local_stack_requires_no_token_by_default(stack: Stack) -> None:
    for settings in (stack.settings, stack.process_settings, stack.query_settings):
        assert settings["auth"] == "none"
    assert "api_token" not in stack.settings
    assert stack.request("POST", "/function/process-data?user_id=1").status == 200
    assert stack.request("GET", "/function/query-data").status == 200


def test_with_auth_token_the_local_stack_generates_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH", "token")
    with running(tmp_path / "state") as stack:
        assert len(stack.settings["api_token"]) == 40
        assert stack.request("GET", "/function/query-data", Authorization="").status == 401
        assert stack.process()["status"] == "done"
        assert stack.request("GET", "/function/query-data").status == 200


def test_the_gateways_system_endpoints_require_the_token_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They return user_ids, addresses and paths. In a deployment, OpenFaaS's password protects them."""
    monkeypatch.setenv("AUTH", "token")
    with running(tmp_path / "state") as stack:
        basic = urllib3.make_headers(basic_auth=f"admin:{stack.settings['api_token']}")["authorization"]
        paths = ["/system/functions", "/system/function/process-data", "/system/info", "/system/logs?name=process-data"]
        for path in (*paths, "/%73ystem/functions", "/system/secrets", "/system/nothing"):
            for value in ("", "Bearer", "Bearer wrong", "Basic Og==", "Basic"):  # Og==: no user and no password
                response = stack.request("GET", path, Authorization=value)
                assert (response.status, response.json()["error"]["code"]) == (401, "unauthorized"), (path, value)
        for path in paths:
            assert stack.request("GET", path).status == 200
            assert stack.request("GET", path, Authorization=basic).status == 200
        assert stack.request("GET", "/healthz", Authorization="").status == 200


def test_process_data_sends_the_token_to_the_queue_and_requires_it_except_for_an_empty_post(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3=cret\n", encoding="utf-8")  # werkzeug parses a token with "=" as auth-params
    path = os.path.relpath(tmp_path / "token", ROOT)  # relative to the directory in which the command runs
    monkeypatch.setenv("API_TOKEN_FILE", path)
    with running(tmp_path / "state") as stack:
        assert stack.settings["api_token"] == "s3=cret"
        assert stack.request("GET", "/system/info").status == 200
        empty = stack.request("POST", "/function/process-data", Authorization="")
        assert (empty.status, empty.json()) == (200, {"status": "done", "run_id": 1})
        for response in (
            stack.request("POST", "/function/process-data?user_id=1", Authorization=""),
            stack.request("POST", "/function/process-data?since=0", Authorization=""),
            stack.request("POST", "/function/process-data?fan_out=2", Authorization=""),
            stack.request("POST", "/function/process-data?accept_empty=1", Authorization=""),
            stack.request("POST", "/function/process-data/erase?user_id=1", Authorization=""),
            stack.request("POST", "/function/process-data/erase", Authorization=""),
            stack.event("1.csv", Authorization=""),
            stack.event("1.csv", Authorization="Bearer wrong"),
        ):
            assert (response.status, response.json()["error"]["code"]) == (401, "unauthorized")
            assert "WWW-Authenticate" in response.headers
        assert stack.event("1.csv").status == 200
        assert stack.request("POST", "/function/process-data?fan_out=2").status == 202
        # the empty POST, the event and the two runs of the fan-out
        stack.wait_until(lambda: stack.sql("select count(*) from runs where status = 'done'") == [[4]])
        logs = "".join(path.read_text(encoding="utf-8") for path in (stack.state / "logs").iterdir())
        assert "s3=cret" not in logs
