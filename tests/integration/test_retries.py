"""Each attempt of a run starts afresh, and a run waits for all of its helper threads."""

from threading import Thread
from typing import Any, cast

import pytest
from process_data import outputs, runs
from process_data.request import Request
from process_data.run import Run
from process_data.runs import Trigger
from process_data.shared.storage.errors import Unavailable

from tests.runs import application, counts, proxied, put_people, run
from tests.stack import Response, Stack


def test_a_retried_run_forgets_what_failed_in_its_first_attempt(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 fails for one object, and then PostgreSQL fails, too."""
    failed: list[str] = []
    finish = runs._finish

    def fail_get(kind: str, _path: str) -> Response | None:
        return Response(503, {}, b"") if kind == "GET" and not failed else None

    def fail_once(*arguments: Any) -> None:
        if not failed:
            failed.append("finish")
            raise Unavailable("postgresql", "the session ended")
        finish(*arguments)

    monkeypatch.setattr(runs, "_finish", fail_once)
    rollcall.bucket.put_person("1")
    with proxied(rollcall, fail_get) as (app, _):
        retried = Run(app, Request(Trigger.HTTP, keys=("1.csv",)))
        summary = retried.execute()
    assert (summary["status"], counts(summary)) == ("done", {"listed": 1, "added": 1})
    assert retried.counters.failures == []  # the handler logs whatever is in this list


def test_a_repeated_attempt_counts_each_csv_once(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt stores all CSVs, then fails. In a full run, the second attempt does not repeat the scans."""
    attempts: list[str] = []
    export = outputs.export

    def fail_once(*arguments: Any, **options: Any) -> Any:
        attempts.append("export")
        if len(attempts) == 1:
            raise Unavailable("postgresql", "the session ended")
        return export(*arguments, **options)

    monkeypatch.setattr(outputs, "export", fail_once)
    rollcall.bucket.put_people(["0", "1", "2"])
    with application(rollcall) as app:
        summary = run(app)
        assert (summary["segments"]["scanned"], counts(summary)) == (1, {"listed": 3, "added": 3})
        attempts.clear()
        rollcall.bucket.put_person("1", last="Changed")
        rollcall.bucket.put("2.csv", b"birthts,last_name,first_name\n0,Lovelace,Ada\n")  # another ETag, the same row
        rollcall.bucket.put_person("3")
        summary = run(app, keys=("0.csv", "1.csv", "2.csv", "3.csv"))
    assert len(attempts) == 2
    assert counts(summary) == {"listed": 4, "added": 1, "updated": 1, "unchanged": 2}


def test_an_attempt_does_not_wait_for_the_lost_session_of_the_previous_one(rollcall: Stack) -> None:
    """PostgreSQL may notice only after some time that the client of a session is gone.

    If it notices at once, another run may mark this one as failed before the next attempt.
    """
    record = runs.RunRecord(Trigger.HTTP, None, runs.RunScope.BUCKET)
    state = "select status, finished_at is null, error from runs"
    with application(rollcall) as app, app.pool.connection() as lost, runs.record_run(lost, record):
        rollcall.sql("update runs set status = 'failed', finished_at = now(), error = 'its session ended'")
        with app.pool.connection() as session, session.time_limit(10), runs.record_run(session, record):
            assert rollcall.sql(state) == [["running", True, None]]
        assert rollcall.sql(state) == [["done", False, None]]


def test_an_attempt_starts_without_the_failures_of_the_previous_one(rollcall: Stack) -> None:
    with application(rollcall) as app:
        workers = Run(app, Request(Trigger.HTTP)).workers
        vars(workers).update(ran_out_of_time=True, _error=RuntimeError("a bug"))
        workers.failed_segments[1] = Unavailable("s3", "silent")
        workers._hint_failures.add(1)
        with workers.joining():
            assert (workers.ran_out_of_time, workers._error) == (False, None)
            assert (workers.failed_segments, workers._hint_failures) == ({}, set())


def test_a_helper_that_another_helper_started_is_joined_too(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first helper starts the second one just before it ends."""
    joined: list[str] = []

    class Helper:
        def __init__(self, name: str, next_helper: "Helper | None" = None) -> None:
            self._name, self._next = name, next_helper

        def join(self, _timeout: float | None = None) -> None:
            joined.append(self._name)

        def is_alive(self) -> bool:
            if self._next:
                workers._helpers.append(cast("Thread", self._next))
                self._next = None
            return False

    with application(rollcall) as app, app.pool.connection() as connection:
        workers = Run(app, Request(Trigger.HTTP)).workers
        monkeypatch.setattr(workers, "_work", lambda *_arguments, **_options: None)
        workers._helpers.append(cast("Thread", Helper("first", Helper("second"))))
        workers.work(connection)
    assert joined == ["first", "second"]


def test_after_a_run_all_slots_for_helpers_are_free(rollcall: Stack) -> None:
    """The first run finds a single segment, the second one several."""
    put_people(rollcall, range(60))
    with application(rollcall, segment_keys="20", workers="3") as app:
        for _ in range(2):
            run(app)
            slots = [app.helpers.acquire(blocking=False) for _ in range(3)]
            assert slots == [True, True, False]
            app.helpers.release(2)


def test_a_session_that_waits_for_its_helpers_is_kept_alive(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends a session that is idle for a minute."""
    kept_alive: list[bool] = []
    alive = iter((True, True, False))

    class Helper:
        def join(self, _timeout: float | None = None) -> None:
            """Return at once, as after a timeout."""

        def is_alive(self) -> bool:
            return next(alive)

    with application(rollcall) as app, app.pool.connection() as connection:
        workers = Run(app, Request(Trigger.HTTP)).workers
        monkeypatch.setattr(workers, "_work", lambda *_arguments, **_options: None)
        monkeypatch.setattr(connection, "keep_alive", lambda: kept_alive.append(True))
        workers._helpers.append(cast("Thread", Helper()))
        workers.work(connection)
    assert len(kept_alive) == 2
