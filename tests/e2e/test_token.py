"""With a token configured, only cron's empty POST goes without it."""

from pathlib import Path

import pytest

from tests.stack import running


def test_process_data_asks_for_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("s3cret\n", encoding="utf-8")
    monkeypatch.setenv("API_TOKEN_FILE", str(tmp_path / "token"))
    with running(tmp_path / "state") as stack:
        assert stack.settings["api_token"] == "s3cret"
        assert stack.request("POST", "/function/process-data", Authorization="").status == 200
        for refused in (
            stack.request("POST", "/function/process-data?prefix=1", Authorization=""),
            stack.event("1.csv", Authorization=""),
            stack.event("1.csv", Authorization="Bearer wrong"),
        ):
            assert (refused.status, refused.json()["error"]["code"]) == (401, "unauthorized")
            assert "WWW-Authenticate" in refused.headers
        assert stack.event("1.csv").status == 200
        assert stack.request("POST", "/function/process-data?fan_out=1").status == 202
        stack.wait_until(lambda: stack.sql("select count(*) from runs where status = 'done'") == [[12]])
        logs = "".join(path.read_text(encoding="utf-8") for path in (stack.state / "logs").iterdir())
        assert "s3cret" not in logs
