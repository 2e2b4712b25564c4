"""/metrics shows the state of the tables to Prometheus."""

import json
import shutil
import subprocess
import time
from datetime import datetime

import pytest

from tests.stack import Stack


def scrape(stack: Stack) -> dict[str, float]:
    """Return the value of every sample by name and labels."""
    response = stack.request("GET", "/function/query-data/metrics")
    assert (response.status, response.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert response.headers["Cache-Control"] == "private, no-cache"
    lines = response.body.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_before_the_first_run_the_timestamps_are_zero(rollcall: Stack) -> None:
    samples = scrape(rollcall)
    assert samples["rollcall_last_full_run_timestamp_seconds"] == 0
    assert samples["rollcall_last_scan_timestamp_seconds"] == 0
    assert samples['rollcall_output_written_timestamp_seconds{object="output.csv"}'] == 0
    assert samples["rollcall_unreadable_objects"] == 0
    assert samples['rollcall_output_pending{object="output.csv"}'] == 1


def test_the_gauges_match_the_tables(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("2.csv", b"nonsense")
    started_at = time.time()
    rollcall.process()
    rollcall.sql("insert into hints (object, tick) values ('3.csv', 1)")
    rollcall.sql("update runs set summary = summary || '{\"unreadable\": 4}'")
    rollcall.sql(
        "insert into runs (trigger, scope, status, finished_at) values ('http', 'users', 'done', '2999-01-01')"
    )
    samples = scrape(rollcall)
    for name, label in (("last_full_run", ""), ("last_scan", ""), ("output_written", '{object="output.csv"}')):
        assert started_at - 1 < samples[f"rollcall_{name}_timestamp_seconds{label}"] < time.time() + 1, name
    assert samples["rollcall_unreadable_objects"] == 4
    assert samples["rollcall_rejected_files"] == samples["rollcall_hints"] == 1
    for output in ("output.csv", "rejected.csv"):
        assert samples[f'rollcall_output_rows{{object="{output}"}}'] == 1
        assert samples[f'rollcall_output_pending{{object="{output}"}}'] == 0
        assert 0 < samples[f'rollcall_output_export_seconds{{object="{output}"}}'] < 60


def test_a_failed_run_is_not_the_last_full_run(rollcall: Stack) -> None:
    rollcall.process()
    [[finished_at]] = rollcall.sql("update runs set summary = '{\"unreadable\": 2}' returning finished_at")
    rollcall.sql(
        "insert into runs (id, trigger, status, summary, finished_at) overriding system value"
        " values (0, 'cron', 'done', '{\"unreadable\": 1}', '2026-01-01')"
    )
    rollcall.sql("insert into runs (trigger, status, finished_at) values ('cron', 'failed', now())")
    samples = scrape(rollcall)
    assert isinstance(finished_at, datetime)
    assert samples["rollcall_last_full_run_timestamp_seconds"] == pytest.approx(finished_at.timestamp())
    assert samples["rollcall_unreadable_objects"] == 2


def test_a_parameter_of_the_metrics_endpoint_is_a_400(rollcall: Stack) -> None:
    response = rollcall.request("GET", "/function/query-data/metrics?min_age=3")
    assert (response.status, json.loads(response.body)["error"]["code"]) == (400, "bad_parameter")


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on the PATH")
def test_prometheus_accepts_the_metrics(rollcall: Stack) -> None:
    body = rollcall.request("GET", "/function/query-data/metrics").body
    result = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
