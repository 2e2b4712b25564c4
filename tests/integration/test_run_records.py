"""Runs are recorded and logged without values from files."""

import json
from itertools import count
from typing import Any

import pytest
from process_data import counters, handler, locks
from process_data.rejections import MAX_REPORTED
from process_data.request import Request
from process_data.runs import Trigger
from process_data.shared.storage.objects import Objects

from tests.replica import replica, wait_until_ready
from tests.runs import Failing, application, paused_run, run
from tests.s3_proxy import counting
from tests.stack import Response, Stack, connected


def test_a_run_is_recorded_with_its_trigger_and_counts(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    response = rollcall.request("POST", "/function/process-data", X_Connector="cron-connector", X_Topic="cron-function")
    summary = response.json()
    assert summary["trigger"] == "cron"
    [row] = rollcall.sql("select id, trigger, call_id, status, summary, error, finished_at >= started_at from runs")
    expected_summary = {name: summary[name] for name in summary.keys() - {"status", "run_id", "trigger", "rejections"}}
    assert expected_summary["added"] == 1
    assert row == [summary["run_id"], "cron", response.headers["X-Call-Id"], "done", expected_summary, None, True]


def test_the_duration_of_each_stage_is_recorded(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock advances by a second whenever it is read.

    A full run enters the stage "export" twice: at the start, to check for an overdue export, and at the end.
    """
    monkeypatch.setattr(counters, "perf_counter", count().__next__)
    rollcall.bucket.put_person("1")
    with application(rollcall, workers="1") as app:
        seconds = run(app)["seconds"]
    assert seconds == {"list": 1, "reconcile": 1, "fetch": 1, "parse": 1, "store": 1, "export": 2, "total": 15}
    assert rollcall.sql("select summary -> 'seconds' from runs") == [[seconds]]


def test_only_a_run_whose_session_ended_is_marked_as_failed(rollcall: Stack) -> None:
    """It is marked even if another run holds the lock of a segment with the same id. A run id may exceed an `int`."""
    rollcall.bucket.put_person("1")
    rollcall.sql("select setval(pg_get_serial_sequence('runs', 'id'), 3000000000)")
    with paused_run(rollcall) as (go, paused):
        rollcall.sql(
            "insert into runs (id, trigger, scope, status) overriding system value "
            "select id, 'cron', 'bucket', 'running' from segments"
        )
        rollcall.event("2.csv")  # each run marks such runs when it starts
        assert rollcall.sql("select status, error, finished_at is not null from runs order by id") == [
            ["failed", "the process or its session ended", True],
            ["running", None, False],
            ["partial", None, True],
        ]
        go.set()
        assert paused.result()["status"] == "done"


def test_a_run_holds_its_lock_until_its_end(rollcall: Stack) -> None:
    """Otherwise other runs would mark it as failed. Before it exports, it has released the locks of its segments."""
    held: list[list[list[int]]] = []

    class Watching(Objects):
        def put(self, *arguments: Any, **options: Any) -> str:
            held.append(rollcall.sql("select classid::bigint from pg_locks where locktype = 'advisory' order by 1"))
            return super().put(*arguments, **options)

    rollcall.bucket.put_person("1")
    with application(rollcall, Watching) as app:
        assert run(app)["status"] == "done"
    assert held
    assert all(spaces == [[locks.EXPORT], [locks.RUN]] for spaces in held)


def test_a_finished_run_does_not_look_like_one_in_progress(rollcall: Stack) -> None:
    """Its session stays open in the pool, but without the run's lock."""
    with application(rollcall) as app:
        run(app)
        rollcall.sql("update runs set finished_at = null, status = 'running'")  # as if it had not recorded its end
        run(app)
    assert rollcall.sql("select status from runs order by id") == [["failed"], ["done"]]


def test_a_run_is_marked_as_failed_even_if_its_id_is_locked_in_another_database(rollcall: Stack) -> None:
    """Advisory locks of all databases are in pg_locks."""
    [[run_id]] = rollcall.sql(
        "insert into runs (trigger, scope, status) values ('cron', 'bucket', 'running') returning id"
    )
    with connected(rollcall.settings, postgres_database="postgres") as other:
        other.run("select pg_advisory_lock_shared(:space::int, :run_id::int)", space=locks.RUN, run_id=run_id)
        rollcall.process()
    assert rollcall.sql("select status from runs where id = :run_id", run_id=run_id) == [["failed"]]


def test_logs_and_stored_summaries_contain_no_values_from_files(rollcall: Stack) -> None:
    rollcall.bucket.put("1.csv", b"first_name,last_name,birthts\nAda,Secretary,Secretly\n")
    with replica(rollcall.state / "build/process-data", rollcall.process_settings) as running:
        wait_until_ready(running, "/")
        response = running.request("POST", "/").json()
        lines = [json.loads(line) for line in running.lines()]
    assert "Secretly" in response["rejections"][0]["message"]
    [rejection] = [line for line in lines if line["event"] == "rejection"]
    assert (rejection["object"], rejection["line"], rejection["code"]) == ("1.csv", 2, "not_an_integer")
    assert "Secret" not in json.dumps(lines)
    [[summary]] = rollcall.sql("select summary from runs where id = :id", id=response["run_id"])
    assert summary["rejected"] == 1
    assert "rejections" not in summary
    assert "Secret" not in json.dumps(summary)


def test_a_run_and_its_new_rejections_are_logged_with_the_call_id(rollcall: Stack) -> None:
    for number in range(MAX_REPORTED + 5):
        rollcall.bucket.put(f"bad {number}.csv", b"")
    with replica(rollcall.state / "build/process-data", rollcall.process_settings) as running:
        assert wait_until_ready(running, "/").status == 405
        for call_id in ("first", "second"):
            summary = running.request("POST", "/", X_Call_Id=call_id).json()
            assert (summary["rejected"], len(summary["rejections"])) == (MAX_REPORTED + 5, MAX_REPORTED)
        lines = [json.loads(line) for line in running.lines()]
    logged = [(line["event"], line["call_id"]) for line in lines]
    assert logged == [*[("rejection", "first")] * MAX_REPORTED, ("run", "first"), ("run", "second")]
    assert (lines[0]["object"], lines[0]["code"], lines[-1]["rejected"]) == ("bad 0.csv", "bad_name", MAX_REPORTED + 5)
    assert "rejections" not in lines[-1]


def test_what_a_failed_run_could_not_read_is_logged_with_the_call_id(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("bad.csv", b"")

    def deny_get(kind: str, _path: str) -> Response | None:
        return Response(403, {}, b"") if kind == "GET" else None

    with counting(rollcall.process_settings["s3_endpoint"], deny_get) as (endpoint, _):
        settings = {**rollcall.process_settings, "s3_endpoint": endpoint}
        with replica(rollcall.state / "build/process-data", settings) as running:
            wait_until_ready(running, "/")
            assert running.request("POST", "/", X_Call_Id="failing").status == 503
            lines = [json.loads(line) for line in running.lines()]
    logged = [(line["event"], line["call_id"], line.get("object")) for line in lines]
    assert logged == [
        ("rejection", "failing", "bad.csv"),
        ("unreadable", "failing", "1.csv"),
        ("failure", "failing", None),
    ]
    assert "returned 403 for src/1.csv" in lines[1]["message"]


def test_a_segment_that_cannot_be_listed_is_logged_with_the_call_id(
    rollcall: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = type("Failing", (Failing,), {"starts": frozenset([""])})
    with application(rollcall, failing) as app:
        handler._run(app, Request(Trigger.HTTP, "some-call"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["call_id"], line.get("message")) for line in lines] == [
        ("segment_failed", "some-call", "S3 returned an error for the listing after "),
        ("run", "some-call", None),
    ]
