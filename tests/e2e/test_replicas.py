"""Replicas of process-data share the work of a fan-out."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from process_data import locks

from tests.e2e.conftest import ProjectStack
from tests.stack import ROOT, Stack, connected

PEOPLE = 1000
SEGMENT_KEYS = 20
TOKEN = "s3cret"


@pytest.fixture
def replicated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProjectStack]:
    """A stack of this project with two replicas of process-data, a token, small segments and one worker per run."""
    project = tmp_path / "project"
    for directory in ("functions", "shared"):
        shutil.copytree(ROOT / directory, project / directory, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "stack.yml").read_text(encoding="utf-8")
    settings = f'segment_keys: "{SEGMENT_KEYS}"\n      workers: "1"\n      run_deadline:'
    assert text.count("run_deadline:") == 1
    (project / "stack.yml").write_text(text.replace("run_deadline:", settings), encoding="utf-8")
    (tmp_path / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    monkeypatch.setenv("API_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("REPLICAS", "2")
    monkeypatch.setenv("RUN_DEADLINE", "300")
    monkeypatch.setenv("EXEC_TIMEOUT", "310s")
    monkeypatch.setenv("HTTP_TIMEOUT", "320s")
    stack = ProjectStack(tmp_path / "state", project)
    try:
        stack.cli("up", "--detach", "--port", "0", "--no-sample")
        yield stack
    finally:
        stack.remove()


def test_replicas_share_a_fan_out(replicated: ProjectStack) -> None:
    status = replicated.request("GET", "/system/function/process-data").json()
    assert (status["replicas"], status["availableReplicas"]) == (2, 2)
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda number: replicated.bucket.put_person(f"1{number:03}"), range(PEOPLE)))
    assert replicated.process()["added"] == PEOPLE
    replicated.sql("update users set first_name = 'Old', csv_etag = ''")  # so every CSV is fetched again
    with connected(replicated.process_settings) as holder:
        [[count, _]] = holder.run(
            "select count(*), count(pg_advisory_lock(:space, id)) from segments", space=locks.SEGMENT
        )
        assert count >= PEOPLE // SEGMENT_KEYS
        response = replicated.request("POST", "/function/process-data?fan_out=2")
        assert response.status == 202, response.body
        replicated.wait_until(lambda: _runs_in_progress(replicated) == 2)  # both wait for the locked segments
    replicated.wait_until(lambda: _runs_in_progress(replicated) == 0)
    call_ids = [queued["call_id"] for queued in response.json()["runs"]]
    runs = replicated.sql(
        "select status, trigger, summary -> 'segments' -> 'scanned', summary -> 'updated' from runs "
        "where call_id = any(:call_ids)",
        call_ids=call_ids,
    )
    # a request that was queued without the token would have got 401
    assert [(status, trigger) for status, trigger, *_ in runs] == [("done", "continuation")] * 2
    assert sum(scanned for *_, scanned, _ in runs) == count
    assert sum(updated for *_, updated in runs) == PEOPLE
    assert min(updated for *_, updated in runs) > 0
    log = (replicated.state / "logs/process-data.log").read_text(encoding="utf-8")
    lines = [line for line in log.splitlines() if any(f'"call_id": "{call_id}"' in line for call_id in call_ids)]
    assert len({line.split()[1] for line in lines if '"event": "run"' in line}) == 2  # pids
    assert TOKEN not in log
    assert replicated.process()["unchanged"] == PEOPLE


def _runs_in_progress(stack: Stack) -> int:
    [[count]] = stack.sql("select count(*) from runs where finished_at is null")
    return int(count)


@pytest.mark.parametrize("replicas", ["0", "6", "two"])
def test_an_invalid_number_of_replicas_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replicas: str
) -> None:
    monkeypatch.setenv("REPLICAS", replicas)
    result = Stack(tmp_path / "state").cli("up", "--detach", "--port", "0", check=False)
    assert result.returncode == 1
    message = f"process-data: labels.com.openfaas.scale.min: invalid value {replicas!r}: expected 1 to 5"
    assert message in result.stdout + result.stderr
