"""Several replicas of a function share the work that fan_out spreads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stack import Stack, running


def test_replicas_share_a_fan_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICAS", "2")
    with running(tmp_path / "state") as stack:
        status = stack.request("GET", "/system/function/process-data").json()
        assert (status["replicas"], status["availableReplicas"]) == (2, 2)
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda number: stack.bucket.put_person(f"{number:03}"), range(1000)))
        assert stack.request("POST", "/function/process-data?fan_out=1").status == 202
        stack.wait_until(lambda: stack.sql("select count(*) from runs where status = 'done'") == [[10]])
        assert stack.process()["unchanged"] == 1000
        lines = (stack.state / "logs/process-data.log").read_text(encoding="utf-8").splitlines()
        assert len({line.split()[1] for line in lines if '"event": "run"' in line}) == 2  # pids


@pytest.mark.parametrize("replicas", ["0", "6", "two"])
def test_a_bad_number_of_replicas_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replicas: str) -> None:
    monkeypatch.setenv("REPLICAS", replicas)
    refused = Stack(tmp_path / "state").cli("up", "--detach", "--port", "0", check=False)
    assert refused.returncode == 1
    message = f"process-data: labels.com.openfaas.scale.min: {replicas!r} is not allowed: 1 2 3 4 5"
    assert message in refused.stdout + refused.stderr
