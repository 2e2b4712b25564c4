"""Faults are isolated: a failing object, segment or session does not block others."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from process_data import scan
from process_data.deadline import Deadline
from process_data.runs import Trigger
from process_data.shared.storage.errors import AccessDenied, Unavailable
from process_data.shared.storage.objects import Object, Objects
from process_data.store import store

from tests.gateway import serving_gateway
from tests.rows import rows, starts
from tests.runs import Failing, application, counts, end_scans, put_people, run, set_at_end
from tests.stack import HANG_TIMEOUT, Stack


@pytest.mark.parametrize("error", [Unavailable, AccessDenied])
def test_unreadable_objects_do_not_block_others(rollcall: Stack, error: type[Unavailable | AccessDenied]) -> None:
    user_ids = put_people(rollcall, range(60))
    unreadable = frozenset(f"{user}.csv" for user in user_ids[:12])  # more than a batch
    failing = type("Failing", (Failing,), {"keys": unreadable, "error": error})
    with (
        serving_gateway(lambda *_: 202) as url,
        application(rollcall, failing, batch_size="10", gateway_url=url) as app,
    ):
        summary = run(app)
        assert (summary["status"], summary["added"], summary["unreadable"]) == ("partial", 48, 12)
        assert (summary["segments"]["remaining"], summary["remaining"]) == (0, 12)
        assert not summary["continued"]  # a continuation would fail in the same way
    assert rows(rollcall) == user_ids[12:]
    assert rollcall.process()["added"] == 12


def test_a_few_unreadable_objects_make_a_run_partial_even_if_the_others_are_unchanged(rollcall: Stack) -> None:
    user_ids = put_people(rollcall, range(20))
    unreadable = frozenset(f"{user}.csv" for user in user_ids[:3])
    failing = type("Failing", (Failing,), {"keys": unreadable})
    with application(rollcall, failing) as app:
        for unchanged in (0, 17):
            summary = run(app)
            assert (summary["status"], summary["unreadable"], summary["unchanged"]) == ("partial", 3, unchanged)


def test_a_first_load_that_can_read_nothing_fails_with_the_reason(rollcall: Stack) -> None:
    user_ids = put_people(rollcall, range(3))
    failing = type("Failing", (Failing,), {"keys": frozenset(f"{user}.csv" for user in user_ids)})
    with application(rollcall, failing) as app:
        with pytest.raises(Unavailable, match="an error for 0002"):
            run(app)
        # MinIO repeats an event that fails, and holds back all others meanwhile: see infra/README.md
        assert run(app, Trigger.EVENT, keys=("0002.csv",))["status"] == "partial"
        rollcall.bucket.put("9.csv", b"no header")
        assert run(app)["status"] == "partial"  # an object was read, though rejected
    assert rollcall.sql("select status from runs order by id") == [["failed"], ["partial"], ["partial"]]


def test_a_run_that_finds_only_unreadable_objects_in_its_segments_is_partial(rollcall: Stack) -> None:
    """The table has the users of the other segment, which the run skips: it was scanned after the tick `since`."""
    put_people(rollcall, range(3))
    [unreadable] = put_people(rollcall, range(9000, 9001))
    failing = type("Failing", (Failing,), {"keys": frozenset([f"{unreadable}.csv"])})
    with application(rollcall, failing) as app:
        run(app)
        rollcall.sql("insert into segments (start) values ('0002.csv')")
        summary = run(app, since=1)
    assert (summary["status"], summary["listed"], summary["unreadable"]) == ("partial", 1, 1)


def test_no_full_run_is_done_until_an_unreadable_object_has_been_read(rollcall: Stack) -> None:
    """A continuation does not scan the object's segment again."""
    [[since]] = rollcall.sql("select nextval('ticks')")
    unreadable, _ = put_people(rollcall, range(2))
    failing = type("Failing", (Failing,), {"keys": frozenset([f"{unreadable}.csv"])})
    with application(rollcall, failing) as app:
        first = run(app, since=since)
    with application(rollcall) as app:
        continuation = run(app, Trigger.CONTINUATION, since=since)
        assert run(app, keys=("5.csv",))["status"] == "done"  # a run for another user
        later = run(app)
    assert [summary["status"] for summary in (first, continuation, later)] == ["partial", "partial", "done"]
    assert [summary["unreadable"] for summary in (first, continuation, later)] == [1, 0, 0]
    assert later["added"] == 1


@pytest.mark.parametrize("error", [Unavailable, AccessDenied])
def test_a_segment_that_cannot_be_listed_is_postponed_and_blocks_no_other(
    rollcall: Stack, error: type[Unavailable | AccessDenied]
) -> None:
    put_people(rollcall, range(60))
    with application(rollcall, segment_keys="20", workers="1") as app:
        run(app)
    [_, unlistable, *_] = starts(rollcall)
    user_ids = put_people(rollcall, range(60, 70))
    rollcall.bucket.put_person("0001", last="Changed")
    failing = type("Failing", (Failing,), {"starts": frozenset([unlistable]), "error": error})
    with application(rollcall, failing, segment_keys="20", workers="1") as app:
        summary = run(app)
        assert (summary["status"], summary["added"], summary["updated"]) == ("partial", len(user_ids), 1)
        assert summary["segments"]["remaining"] == 1
        [[first]] = rollcall.sql("select start from segments order by turn limit 1")
        assert first != unlistable
        objects: Any = app.objects
        assert objects.failed_listings == [unlistable]  # tried once per run
        assert run(app)["segments"]["remaining"] == 1
    assert rollcall.process()["status"] == "done"


def test_a_run_does_not_wait_for_a_segment_that_s3_cannot_list(rollcall: Stack) -> None:
    put_people(rollcall, range(60))
    with application(rollcall, segment_keys="20", workers="1") as app:
        run(app)
    [_, unlistable, *_] = starts(rollcall)
    failing = type("Failing", (Failing,), {"starts": frozenset([unlistable])})
    with application(rollcall, failing, run_deadline="3600") as app, ThreadPoolExecutor(1) as executor:
        try:
            summary = executor.submit(run, app).result(timeout=HANG_TIMEOUT)
        finally:
            app.stopping.set()
    assert (summary["status"], summary["segments"]["remaining"]) == ("partial", 1)


def test_an_error_in_a_helper_thread_fails_the_run(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own thread waits until a helper thread has failed."""
    put_people(rollcall, range(40))
    with application(rollcall, segment_keys="20", workers="1") as app:
        run(app)
    failed = threading.Event()

    def fail_in_helper(*arguments: Any) -> Any:
        if threading.current_thread().name == "helper":
            failed.set()
            raise RuntimeError("a bug")
        assert failed.wait(HANG_TIMEOUT)
        return store(*arguments)

    monkeypatch.setattr(scan, "store", fail_in_helper)
    rollcall.sql("update users set csv_etag = ''")
    with (
        application(rollcall, segment_keys="20", fetch_threads="200") as app,
        pytest.raises(RuntimeError, match="bug"),
    ):
        run(app)
    assert rollcall.sql("select status, error from runs where id > 1") == [["failed", "RuntimeError: a bug"]]


@pytest.mark.parametrize("fails_in_helper", [True, False])
def test_an_error_in_one_worker_ends_the_others(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch, *, fails_in_helper: bool
) -> None:
    """The other worker still stores the batch that it is working on, but no more."""
    put_people(rollcall, range(40))
    with application(rollcall, segment_keys="20", workers="1") as app:
        run(app)
    stored: list[str] = []
    both_store, cancelled = threading.Event(), threading.Event()
    cancel = Deadline.cancel

    def notice_cancel(deadline: Deadline) -> None:
        cancel(deadline)
        cancelled.set()

    def fail_in_one(*arguments: Any) -> Any:
        name = threading.current_thread().name
        if (name == "helper") == fails_in_helper:
            assert both_store.wait(HANG_TIMEOUT)
            raise RuntimeError("a bug")
        both_store.set()
        assert cancelled.wait(HANG_TIMEOUT)
        stored.append(name)
        return store(*arguments)

    monkeypatch.setattr(Deadline, "cancel", notice_cancel)
    monkeypatch.setattr(scan, "store", fail_in_one)
    rollcall.sql("update users set csv_etag = ''")
    with application(rollcall, segment_keys="20", batch_size="5", fetch_threads="200", workers="2") as app:
        with pytest.raises(RuntimeError, match="bug"):
            run(app)
        assert app.helpers.acquire(blocking=False)  # the helper has released its slot
    assert len(stored) == 1


def test_a_scan_that_fails_starts_no_more_requests(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """When storing the first batch fails, the first object of the next one is being fetched."""
    user_ids = put_people(rollcall, range(20))
    fetched: list[str] = []
    next_batch, released = threading.Event(), threading.Event()

    class Traced(Objects):
        def get(self, bucket: str, key: str, *, limit: int) -> Object:
            fetched.append(key)
            if key == "0010.csv":
                next_batch.set()
                assert released.wait(HANG_TIMEOUT)
            return super().get(bucket, key, limit=limit)

    def fail(*_arguments: Any) -> Any:
        assert next_batch.wait(HANG_TIMEOUT)
        raise RuntimeError("a bug")

    monkeypatch.setattr(scan, "store", fail)
    with (
        application(rollcall, Traced, batch_size="10", fetch_threads="1", workers="1") as app,
        set_at_end(released),
        pytest.raises(RuntimeError, match="bug"),
    ):
        run(app)
    assert fetched == [f"{user}.csv" for user in user_ids[:11]]


class Ending(Objects):
    """An S3 client that ends the scan's PostgreSQL session when 0020.csv is fetched for the first time."""

    end: Callable[[], None]
    has_ended = False

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        if key == "0020.csv" and not self.has_ended:
            self.has_ended = True
            self.end()
        return super().get(bucket, key, limit=limit)


def test_a_scan_repeated_after_a_lost_session_is_counted_once(rollcall: Stack) -> None:
    """When the session ends, the first of three batches is stored and the third is not."""
    put_people(rollcall, range(30))
    rollcall.bucket.put("notes.txt", b"")
    rollcall.bucket.put("0005.csv", b"")
    with application(rollcall, Ending, batch_size="10", workers="1") as app:
        assert isinstance(app.objects, Ending)
        app.objects.end = lambda: end_scans(rollcall)
        summary = run(app)
        assert app.objects.has_ended
    assert counts(summary) == {"listed": 31, "added": 29, "ignored": 1, "rejected": 1}
    assert summary["segments"] == {"scanned": 1, "remaining": 0}
    [[transactions]] = rollcall.sql("select count(distinct xmin::text) from users")
    assert transactions > 1


def test_a_denied_export_fails_the_run_and_is_recorded(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")

    attempts: list[str] = []

    class Unwritable(Objects):
        def put(self, bucket: str, key: str, chunks: Iterable[bytes], *, content_type: str) -> str:
            attempts.append(key)
            raise AccessDenied("s3", f"S3 returned 403 for {bucket}/{key}")

    with application(rollcall, Unwritable) as app, pytest.raises(AccessDenied):
        run(app)
    [[status, error]] = rollcall.sql("select status, error from runs")
    assert (status, "403 for res/" in error) == ("failed", True)
    assert len(attempts) == 1  # a retry would not help
