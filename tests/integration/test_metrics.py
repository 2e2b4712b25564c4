"""/metrics exposes the state of the tables to Prometheus."""

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


def timestamp(day: str) -> float:
    """Return the Unix time at the start of a day in UTC."""
    return datetime.fromisoformat(f"{day}T00:00Z").timestamp()


def test_the_gauges_match_the_tables(rollcall: Stack) -> None:
    for sql in (
        "update segments set scanned_at = '2026-02-02'",
        "insert into segments (start, scanned_at) values ('5', '2026-02-01'), ('6', null)",
        "insert into rejected (object, etag, code, message) values ('1.csv', '', 'empty', '')",
        "insert into hints (object, tick) values ('3.csv', 1), ('4.csv', 1)",
        "update outputs set changed = 7, written = 7, rows = 11, seconds = 1.5, written_at = '2026-03-01'",
        "update outputs set changed = 8, rows = 12, seconds = 2.5, written_at = null where object = 'erased.csv'",
    ):
        rollcall.sql(sql)
    assert scrape(rollcall) == {
        "rollcall_last_full_run_timestamp_seconds": 0,
        "rollcall_last_scan_timestamp_seconds": timestamp("2026-02-02"),
        "rollcall_unreadable_objects": 0,
        "rollcall_rejected_files": 1,
        "rollcall_hints": 2,
        **{f'rollcall_output_rows{{object="{output}"}}': 11 for output in ("output.csv", "rejected.csv")},
        **{f'rollcall_output_pending{{object="{output}"}}': 0 for output in ("output.csv", "rejected.csv")},
        **{
            f'rollcall_output_written_timestamp_seconds{{object="{output}"}}': timestamp("2026-03-01")
            for output in ("output.csv", "rejected.csv")
        },
        **{f'rollcall_output_export_seconds{{object="{output}"}}': 1.5 for output in ("output.csv", "rejected.csv")},
        'rollcall_output_rows{object="erased.csv"}': 12,
        'rollcall_output_pending{object="erased.csv"}': 1,
        'rollcall_output_written_timestamp_seconds{object="erased.csv"}': 0,
        'rollcall_output_export_seconds{object="erased.csv"}': 2.5,
    }


def test_a_run_updates_the_timestamps_and_leaves_nothing_pending(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("2.csv", b"nonsense")
    started_at = time.time()
    rollcall.process()
    samples = scrape(rollcall)
    for name, label in (("last_full_run", ""), ("last_scan", ""), ("output_written", '{object="output.csv"}')):
        assert started_at - 1 < samples[f"rollcall_{name}_timestamp_seconds{label}"] < time.time() + 1, name
    assert samples["rollcall_rejected_files"] == 1
    for output in ("output.csv", "rejected.csv"):
        assert samples[f'rollcall_output_rows{{object="{output}"}}'] == 1
        assert samples[f'rollcall_output_pending{{object="{output}"}}'] == 0
        assert 0 < samples[f'rollcall_output_export_seconds{{object="{output}"}}'] < 60


INSERT_RUN = """
insert into runs (trigger, scope, status, started_at, finished_at)
values ('cron', :scope, :status, :started_at, :finished_at)
"""


@pytest.mark.parametrize(
    ("status", "scope"), [("running", "bucket"), ("failed", "bucket"), ("partial", "bucket"), ("done", "users")]
)
def test_only_a_full_run_that_is_done_sets_the_last_full_run_timestamp(
    rollcall: Stack, status: str, scope: str
) -> None:
    def insert(scope: str, status: str, started_at: str, finished_at: str | None) -> None:
        rollcall.sql(INSERT_RUN, scope=scope, status=status, started_at=started_at, finished_at=finished_at)

    insert("bucket", "done", "2025-12-31", "2026-01-01 00:00+00")
    insert("bucket", "done", "2026-01-02", "2026-01-03 00:00+00")
    insert(scope, status, "2026-01-04", None if status == "running" else "2026-01-05")
    assert scrape(rollcall)["rollcall_last_full_run_timestamp_seconds"] == timestamp("2026-01-03")


def test_the_unreadable_objects_of_all_segments_are_counted(rollcall: Stack) -> None:
    rollcall.sql("update segments set unreadable = 2")
    rollcall.sql("insert into segments (start, unreadable) values ('5', 3)")
    assert scrape(rollcall)["rollcall_unreadable_objects"] == 5


def test_the_metrics_endpoint_takes_no_parameters(rollcall: Stack) -> None:
    response = rollcall.request("GET", "/function/query-data/metrics?min_age=3")
    assert (response.status, json.loads(response.body)["error"]["code"]) == (400, "bad_parameter")


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on the PATH")
def test_prometheus_accepts_the_metrics(rollcall: Stack) -> None:
    body = rollcall.request("GET", "/function/query-data/metrics").body
    result = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
