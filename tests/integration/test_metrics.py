"""/metrics tells Prometheus what PostgreSQL has."""

import json
import shutil
import subprocess
import time
from datetime import datetime

import pytest

from tests.stack import Stack


def scrape(stack: Stack) -> dict[str, float]:
    """The value of every sample, by its name and labels."""
    answer = stack.request("GET", "/function/query-data/metrics")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = answer.body.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_a_roll_without_a_run_has_no_time_of_one(roll: Stack) -> None:
    samples = scrape(roll)
    assert samples["rollcall_last_full_run_timestamp_seconds"] == 0
    assert samples["rollcall_last_scan_timestamp_seconds"] == 0
    assert samples["rollcall_unreadable_objects"] == 0
    assert samples['rollcall_output_pending{object="output.csv"}'] == 1


def test_the_gauges_are_what_the_tables_say(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.bucket.put("2.csv", b"nonsense")
    started_at = time.time()
    roll.process()
    roll.sql("insert into hints (object, tick) values ('3.csv', 1)")
    roll.sql("update runs set summary = summary || '{\"unreadable\": 4}'")
    roll.sql("insert into runs (trigger, scope, status, finished_at) values ('http', 'users', 'done', '2999-01-01')")
    samples = scrape(roll)
    for what, label in (("last_full_run", ""), ("last_scan", ""), ("output_written", '{object="output.csv"}')):
        assert started_at - 1 < samples[f"rollcall_{what}_timestamp_seconds{label}"] < time.time() + 1, what
    assert samples["rollcall_unreadable_objects"] == 4
    assert samples["rollcall_rejected_files"] == samples["rollcall_hints"] == 1
    for output in ("output.csv", "rejected.csv"):
        assert samples[f'rollcall_output_rows{{object="{output}"}}'] == 1
        assert samples[f'rollcall_output_pending{{object="{output}"}}'] == 0
        assert 0 < samples[f'rollcall_output_export_seconds{{object="{output}"}}'] < 60


def test_a_failed_run_is_not_the_last_one_over_the_bucket(roll: Stack) -> None:
    roll.process()
    [[finished_at]] = roll.sql("update runs set summary = '{\"unreadable\": 2}' returning finished_at")
    roll.sql("insert into runs (trigger, status, finished_at) values ('cron', 'failed', now())")
    samples = scrape(roll)
    assert isinstance(finished_at, datetime)
    assert samples["rollcall_last_full_run_timestamp_seconds"] == pytest.approx(finished_at.timestamp())
    assert samples["rollcall_unreadable_objects"] == 2


def test_it_takes_no_parameters(roll: Stack) -> None:
    answer = roll.request("GET", "/function/query-data/metrics?min_age=3")
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "bad_parameter")


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on the PATH")
def test_prometheus_reads_it(roll: Stack) -> None:
    body = roll.request("GET", "/function/query-data/metrics").body
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
