"""With a token configured, only cron-connector's empty POST goes without it."""

from pathlib import Path

import pytest

from tests.stack import running


def test_process_data_requires_the_token_and_passes_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("s3cret\n", encoding="utf-8")
    monkeypatch.setenv("API_TOKEN_FILE", str(tmp_path / "token"))
    with running(tmp_path / "state") as stack:
        assert stack.settings["api_token"] == "s3cret"
        assert stack.request("POST", "/function/process-data", Authorization="").status == 200
        for response in (
            stack.request("POST", "/function/process-data?user_id=1", Authorization=""),
            stack.request("POST", "/function/process-data?since=0", Authorization=""),
            stack.request("POST", "/function/process-data?fan_out=2", Authorization=""),
            stack.request("POST", "/function/process-data?accept_empty=1", Authorization=""),
            stack.event("1.csv", Authorization=""),
            stack.event("1.csv", Authorization="Bearer wrong"),
        ):
            assert (response.status, response.json()["error"]["code"]) == (401, "unauthorized")
            assert "WWW-Authenticate" in response.headers
        assert stack.event("1.csv").status == 200
        assert stack.request("POST", "/function/process-data?fan_out=2").status == 202
        stack.wait_until(lambda: stack.sql("select count(*) from runs where status = 'done'") == [[4]])
        logs = "".join(path.read_text(encoding="utf-8") for path in (stack.state / "logs").iterdir())
        assert "s3cret" not in logs
