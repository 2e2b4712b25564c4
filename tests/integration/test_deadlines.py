"""Deadlines: every run makes progress, keeps it, and ends in time."""

import threading
import time
from math import inf
from typing import Any

import process_data.run
import pytest
from process_data import outputs, parallel, runs, scan
from process_data.deadline import GRACE, Deadline
from process_data.parallel import ParallelCalls
from process_data.request import Request
from process_data.run import Run
from process_data.runs import Trigger
from process_data.scan import Scanner
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.errors import ObjectMissing, Unavailable
from process_data.shared.storage.listing import MAX_KEYS, ListingPage
from process_data.shared.storage.objects import Object, Objects
from process_data.store import store

from tests.gateway import serving_gateway
from tests.rows import rows, starts
from tests.runs import Failing, Slow, application, expire, put_people, run, set_at_end
from tests.s3_proxy import counting
from tests.stack import HANG_TIMEOUT, Stack


@pytest.mark.parametrize(("page_seconds", "get_seconds"), [(0.0, 0.2), (1.2, 0.0)], ids=["objects", "pages"])
def test_every_run_with_a_short_deadline_makes_progress(
    rollcall: Stack, page_seconds: float, get_seconds: float
) -> None:
    """Even if one page takes longer than the deadline, no object is fetched twice."""
    user_ids = put_people(rollcall, range(120))
    slow = type("Slow", (Slow,), {"page_seconds": page_seconds, "get_seconds": get_seconds})
    added = run_count = 0
    status = "partial"
    [[since]] = rollcall.sql("select nextval('ticks')")
    with counting(rollcall.process_settings["s3_endpoint"]) as (endpoint, requests):
        small = {"segment_keys": "50", "batch_size": "10", "fetch_threads": "4", "workers": "1", "run_deadline": "1"}
        with application(rollcall, slow, s3_endpoint=endpoint, **small) as app:
            while status == "partial":
                summary = run(app, Trigger.CONTINUATION, since=since)
                assert summary["segments"]["scanned"] > 0
                added, run_count, status = added + summary["added"], run_count + 1, summary["status"]
                assert run_count <= 20
    assert run_count > 1
    assert added == len(user_ids)
    assert rows(rollcall) == user_ids
    if not get_seconds:
        assert requests["GET"] == len(user_ids)


def test_a_stopped_run_is_partial_and_keeps_its_progress(rollcall: Stack) -> None:
    put_people(rollcall, range(100))
    slow = type("Slow", (Slow,), {"get_seconds": 0.05})
    with application(rollcall, slow, batch_size="10", fetch_threads="2") as app:
        threading.Timer(0.6, app.stopping.set).start()
        summary = run(app)
        assert summary["status"] == "partial"
        assert 0 < summary["added"] < 100
        assert summary["added"] + summary["remaining"] == 100
        assert len(rows(rollcall)) == summary["added"]
        assert rollcall.sql("select status from runs") == [["partial"]]
        assert rollcall.sql("select keys from segments where start = ''") == [[summary["added"]]]
    assert rollcall.process()["added"] == 100 - summary["added"]


def test_a_run_that_is_stopped_before_s3_responds_is_partial(rollcall: Stack) -> None:
    put_people(rollcall, range(3))
    [[turn]] = rollcall.sql("select turn from segments")
    slow = type("Slow", (Slow,), {"page_seconds": 2})
    with application(rollcall, slow) as app:
        threading.Timer(0.5, app.stopping.set).start()
        summary = run(app)
    assert (summary["status"], summary["listed"], summary["segments"]["remaining"]) == ("partial", 0, 1)
    [[next_turn]] = rollcall.sql("select turn from segments")
    assert next_turn > turn  # so that a segment that cannot be listed does not block the others


@pytest.mark.parametrize(("page_seconds", "get_seconds"), [(60.0, 0.0), (0.0, 60.0)], ids=["pages", "objects"])
def test_a_run_fails_instead_of_waiting_for_an_unresponsive_s3(
    rollcall: Stack, page_seconds: float, get_seconds: float
) -> None:
    put_people(rollcall, range(3))
    released, responded = threading.Event(), threading.Event()

    class Silent(Objects):
        def pause(self, seconds: float) -> None:
            if seconds:
                released.wait(seconds)
                responded.set()

        def get(self, bucket: str, key: str, *, limit: int) -> Object:
            self.pause(get_seconds)
            return super().get(bucket, key, limit=limit)

        def list_page(self, bucket: str, **options: Any) -> ListingPage:
            self.pause(page_seconds)
            return super().list_page(bucket, **options)

        def etag(self, bucket: str, key: str) -> str:
            self.pause(60)
            return super().etag(bucket, key)

    with application(rollcall, Silent, run_deadline="1") as app, set_at_end(released):
        with pytest.raises(Unavailable, match="did not respond within 1 s"):
            run(app)
        assert not responded.is_set()
    assert rollcall.sql("select count(*) from users") == [[0]]


def test_an_export_does_not_wait_for_an_unresponsive_s3(rollcall: Stack) -> None:
    put_people(rollcall, range(3))
    released, responded = threading.Event(), threading.Event()

    class Silent(Objects):
        def etag(self, bucket: str, key: str) -> str:
            released.wait(HANG_TIMEOUT)
            responded.set()
            return super().etag(bucket, key)

    with application(rollcall, Silent, run_deadline="1") as app, set_at_end(released):
        summary = run(app)
        assert not responded.is_set()
    assert (summary["status"], summary["added"], summary["output"]["pending"]) == ("partial", 3, True)
    assert rollcall.process()["output"]["written"]


def test_a_run_without_time_for_a_hint_is_partial(rollcall: Stack) -> None:
    """The hint may come from an event that found the segment locked by this run."""
    rollcall.bucket.put_person("1")
    released = threading.Event()

    class Hanging(Objects):
        def get(self, bucket: str, key: str, *, limit: int) -> Object:
            rollcall.sql("insert into hints (object, tick) values ('1.csv', nextval('ticks'))")
            return super().get(bucket, key, limit=limit)

        def list_page(self, bucket: str, **options: Any) -> ListingPage:
            if options.get("prefix") == "1.":
                released.wait(HANG_TIMEOUT)
            return super().list_page(bucket, **options)

    with application(rollcall, Hanging, run_deadline="1") as app, set_at_end(released):
        summary = run(app)
    assert (summary["status"], summary["added"], summary["segments"]["remaining"]) == ("partial", 1, 0)
    assert rollcall.sql("select object from hints") == [["1.csv"]]
    assert rollcall.process()["status"] == "done"
    assert rollcall.sql("select count(*) from hints") == [[0]]


def test_a_run_that_leaves_only_hints_at_its_deadline_is_partial(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has scanned everything and written the outputs."""
    rollcall.bucket.put_person("1")
    rollcall.process()

    class Late(Objects):
        def list_page(self, bucket: str, **options: Any) -> ListingPage:
            rollcall.sql("insert into hints (object, tick) values ('1.csv', nextval('ticks'))")
            expire(late_run._deadline)
            return super().list_page(bucket, **options)

    monkeypatch.setattr(parallel, "GRACE", HANG_TIMEOUT)
    with application(rollcall, Late, workers="1") as app:
        late_run = Run(app, Request(Trigger.HTTP))
        summary = late_run.execute()
    assert (summary["status"], summary["segments"]["remaining"]) == ("partial", 0)
    assert not summary["output"]["pending"]


def test_hints_that_the_deadline_leaves_unlisted_are_kept(rollcall: Stack) -> None:
    """The users listed before the deadline are unchanged, so nothing is fetched. The others keep their photos."""
    user_ids = put_people(rollcall, range(40))
    rollcall.bucket.put(f"{user_ids[-1]}.png", b"photo")
    rollcall.process()
    for user_id in user_ids[20:]:
        rollcall.bucket.put_person(user_id, last="Changed")
    slow = type("Slow", (Slow,), {"page_seconds": 0.4})
    with application(rollcall, slow, fetch_threads="1", run_deadline="1") as app:
        summary = run(app, Trigger.EVENT, keys=tuple(f"{user_id}.csv" for user_id in user_ids))
    hinted = rows(rollcall, "hints", "object")
    assert (summary["status"], summary["remaining"]) == ("partial", len(hinted))
    assert [f"{user_id}.csv" for user_id in user_ids][-len(hinted) :] == hinted
    assert 20 <= len(hinted) < 40
    assert rollcall.sql("select user_id from users where img_path is not null") == [[user_ids[-1]]]
    assert rollcall.process()["updated"] == 20


def test_only_the_users_that_the_deadline_leaves_out_keep_their_hints(rollcall: Stack) -> None:
    [unchanged] = put_people(rollcall, range(99, 100))
    rollcall.process()
    user_ids = put_people(rollcall, range(40))
    failing = type("SlowFailing", (Slow, Failing), {"get_seconds": 0.1, "keys": frozenset([f"{user_ids[3]}.csv"])})
    with (
        serving_gateway(lambda *_: 202) as url,
        application(rollcall, failing, batch_size="10", fetch_threads="1", run_deadline="1", gateway_url=url) as app,
    ):
        summary = run(app, Trigger.EVENT, keys=tuple(f"{user_id}.csv" for user_id in [*user_ids, unchanged]))
    assert not summary["continued"]  # a continuation would scan the whole bucket
    hinted = rows(rollcall, "hints", "object")
    assert [f"{user_id}.csv" for user_id in user_ids][-len(hinted) :] == hinted
    assert (summary["status"], summary["unreadable"]) == ("partial", 1)
    assert summary["remaining"] == len(hinted) + 1  # and the unreadable one
    assert (summary["added"], summary["unchanged"]) == (40 - summary["remaining"], 1)
    assert 9 <= summary["added"] < 39  # at least the first batch, without the unreadable object


def test_the_rest_of_a_batch_is_stored_although_one_object_hangs(rollcall: Stack) -> None:
    user_ids = put_people(rollcall, range(40))
    released = threading.Event()

    class Hanging(Objects):
        def get(self, bucket: str, key: str, *, limit: int) -> Object:
            if key == "0003.csv":
                released.wait(HANG_TIMEOUT)
            return super().get(bucket, key, limit=limit)

    settings = {"batch_size": "10", "fetch_threads": "8", "run_deadline": "1"}
    with application(rollcall, Hanging, **settings) as app, set_at_end(released):
        hanging_run = Run(app, Request(Trigger.HTTP))
        summary = hanging_run.execute()
    assert (summary["status"], summary["unreadable"]) == ("partial", 1)
    [failure] = hanging_run.counters.failures
    assert (failure.key, "did not respond before the run's deadline" in str(failure.error)) == ("0003.csv", True)
    assert set(rows(rollcall)) >= set(user_ids[:10]) - {"0003"}
    assert rollcall.process()["status"] == "done"
    assert rows(rollcall) == user_ids


def test_a_run_stops_fetching_at_its_deadline(rollcall: Stack) -> None:
    user_ids = put_people(rollcall, range(100))
    slow = type("Slow", (Slow,), {"get_seconds": 0.2})
    with application(rollcall, slow, batch_size="5", fetch_threads="8", workers="1", run_deadline="1") as app:
        summary = run(app)
    assert summary["status"] == "partial"
    assert 0 < summary["added"] < len(user_ids)


def test_users_that_a_stopped_batch_leaves_out_are_processed_by_the_next_run(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is stopped after the next batch has started. Users whose CSVs are gone do not count as progress."""
    user_ids = put_people(rollcall, range(20))
    [[since]] = rollcall.sql("select nextval('ticks')")
    collecting, cancelled, next_batch = threading.Event(), threading.Event(), threading.Event()
    collect, cancel = Scanner._collect_fetches, ParallelCalls.cancel

    class Stopping(Objects):
        def get(self, bucket: str, key: str, *, limit: int) -> Object:
            if key in ("0000.csv", "0001.csv") and not next_batch.is_set():
                if key == "0001.csv":
                    assert collecting.wait(HANG_TIMEOUT)
                    app.stopping.set()
                    assert cancelled.wait(HANG_TIMEOUT)
                raise ObjectMissing(key)
            if key == "0011.csv":  # 0010.csv has been fetched
                next_batch.set()
            return super().get(bucket, key, limit=limit)

    def notice_collect(*arguments: Any) -> Any:
        cancelled.clear()  # the listing's calls set it
        collecting.set()
        return collect(*arguments)

    def notice_cancel(calls: ParallelCalls[Any, Any]) -> None:
        cancel(calls)
        cancelled.set()

    def wait_for_next_batch(*arguments: Any) -> Any:
        assert next_batch.wait(HANG_TIMEOUT)
        return store(*arguments)

    monkeypatch.setattr(Scanner, "_collect_fetches", notice_collect)
    monkeypatch.setattr(ParallelCalls, "cancel", notice_cancel)
    monkeypatch.setattr(scan, "store", wait_for_next_batch)
    with application(rollcall, Stopping, batch_size="10", fetch_threads="1", workers="1") as app:
        summary = run(app, Trigger.CONTINUATION, since=since)
        assert (summary["status"], summary["remaining"]) == ("partial", 18)
        app.stopping.clear()
        assert run(app, Trigger.CONTINUATION, since=since)["status"] == "done"
    assert rows(rollcall) == user_ids[2:]


@pytest.mark.parametrize(
    ("seconds", "stops", "run_deadline", "attempts"),
    [(0.0, False, "60", 3), (1.1, False, "2", 1), (0.0, True, "60", 1)],
)
def test_a_failing_run_is_retried_only_in_the_first_half_of_its_time_and_only_if_not_stopped(
    rollcall: Stack,
    monkeypatch: pytest.MonkeyPatch,
    *,
    seconds: float,
    stops: bool,
    run_deadline: str,
    attempts: int,
) -> None:
    listings: list[str] = []
    pauses: list[float] = []
    monkeypatch.setattr(process_data.run, "uniform", lambda _low, high: high)
    monkeypatch.setattr(Deadline, "sleep", lambda _deadline, pause: pauses.append(pause))

    class Unlistable(Objects):
        def list_page(self, bucket: str, *, limit: int = MAX_KEYS, **_options: Any) -> ListingPage:
            if limit > 1:  # not the minimal listing of `check_s3`
                listings.append(bucket)
                time.sleep(seconds)
            elif stops:
                app.stopping.set()
            raise Unavailable("s3", "S3 returned 500 for the listing")

    with application(rollcall, Unlistable, run_deadline=run_deadline) as app, pytest.raises(Unavailable, match="500"):
        run(app)
    assert len(listings) == attempts
    assert pauses == pytest.approx([0.3, 0.6][: attempts - 1])
    assert rollcall.sql("select status from runs") == [["failed"]]


def test_no_statement_may_outlast_its_run(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """This includes statements of helpers and those that record a failure. Half of the time has passed at the start."""
    rollcall.sql("insert into segments (start) values ('1'), ('2')")
    limits: dict[str, list[float]] = {"run": [], "helper": [], "failure": []}
    run_statement = Connection.run

    def note_limit(connection: Connection, *arguments: Any, **parameters: Any) -> Any:
        name = "helper" if threading.current_thread().name == "helper" else "run"
        limits[name].append(connection._expires_at - time.monotonic())
        return run_statement(connection, *arguments, **parameters)

    def note_failure(connection: Connection, *_arguments: Any) -> None:
        limits["failure"].append(connection._expires_at - time.monotonic())
        raise Unavailable("postgresql", "the session ended")  # must not hide the run's own error

    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Connection, "run", note_limit)
    monkeypatch.setattr(runs, "_finish", note_failure)
    monkeypatch.setattr(outputs, "export", fail)
    with application(rollcall, workers="2", run_deadline="60") as app:
        late_run = Run(app, Request(Trigger.HTTP))
        late_run._deadline._started_at -= 30
        with pytest.raises(RuntimeError, match="bug"):
            late_run.execute()
    for name, values in limits.items():
        assert max(values, default=inf) <= 30 + GRACE, name


@pytest.mark.parametrize("boundary", ["0005", "0005-"])
def test_a_segment_whose_users_are_all_left_out_by_the_deadline_stays_due(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch, boundary: str
) -> None:
    """The first user_id is the start of the segment, or sorts before it. The listing ends just after the deadline."""
    user_ids = put_people(rollcall, range(10))
    rollcall.sql("insert into segments (start) values (:boundary)", boundary=boundary)

    class Late(Objects):
        def list_page(self, bucket: str, **options: Any) -> ListingPage:
            if options.get("start_after") == boundary:
                expire(late_run._deadline)
            return super().list_page(bucket, **options)

    monkeypatch.setattr(parallel, "GRACE", HANG_TIMEOUT)
    with application(rollcall, Late, workers="1") as app:
        late_run = Run(app, Request(Trigger.HTTP))
        summary = late_run.execute()
        assert (summary["status"], summary["added"], summary["remaining"]) == ("partial", 5, 5)
        assert summary["segments"] == {"scanned": 1, "remaining": 1}
        assert starts(rollcall) == ["", boundary]
        assert run(app)["added"] == 5
    assert rows(rollcall) == user_ids


def test_a_run_that_is_stopped_leaves_new_hints_to_the_next_run(rollcall: Stack) -> None:
    """Otherwise the scan of the hints could take a second grace period."""

    class Stopping(Objects):
        def list_page(self, *arguments: Any, **options: Any) -> ListingPage:
            rollcall.sql("insert into hints values ('1.csv', nextval('ticks')) on conflict do nothing")
            app.stopping.set()
            return super().list_page(*arguments, **options)

    with application(rollcall, Stopping) as app:
        assert run(app)["status"] == "partial"
    assert rows(rollcall, "hints", "object") == ["1.csv"]
