"""A scan of a new segment starts to fetch early, and a busy process starts no helper threads."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import Any

import pytest
from process_data import parallel
from process_data.application import Application
from process_data.request import Request
from process_data.run import Run
from process_data.runs import Trigger
from process_data.shared.storage.listing import ListingPage
from process_data.shared.storage.objects import Object, Objects
from process_data.workers import Workers

from tests.rows import starts
from tests.runs import application, expire, run
from tests.s3_simulator.client import simulated_s3
from tests.stack import HANG_TIMEOUT, Stack


def test_a_process_is_busy_when_two_scans_have_enough_to_fetch(rollcall: Stack) -> None:
    def is_busy_with(**pending: int) -> bool:
        with ExitStack() as scans:
            for scan, number in pending.items():
                scans.enter_context(app.fetching(scan, number))
            return app.is_busy

    with application(rollcall, fetch_threads="4") as app:
        assert not is_busy_with(first=50)  # a single scan leaves the fetch threads idle while it lists
        assert not is_busy_with(first=50, second=0)
        assert is_busy_with(first=3, second=1)
        assert not is_busy_with(first=2, second=1)
        with app.fetching("first", 50):  # an estimate before the listing
            assert is_busy_with(second=1)
            with app.fetching("first", 2):
                assert not is_busy_with(second=1)
            assert is_busy_with(second=1)
        assert not is_busy_with(second=1)


def test_a_listing_does_not_wait_for_fetches_that_hang(rollcall: Stack) -> None:
    hangs, listed = Event(), Event()

    class Hanging(Objects):
        def get(self, bucket: str, key: str, **options: Any) -> Object:
            if key == "1.csv":
                hangs.set()
                assert listed.wait(HANG_TIMEOUT)
            return super().get(bucket, key, **options)

        def list_page(self, bucket: str, **options: Any) -> ListingPage:
            if options.get("start_after") == "5":
                listed.set()
            return super().list_page(bucket, **options)

    rollcall.bucket.put_people(["1", "6"])
    rollcall.sql("insert into segments (start) values ('5')")
    with application(rollcall, Hanging, workers="1", fetch_threads="1") as app, ThreadPoolExecutor(1) as executor:
        first = executor.submit(run, app)
        assert hangs.wait(HANG_TIMEOUT)
        assert [run(app)["status"], first.result()["status"]] == ["done", "done"]


def test_a_scan_that_failed_does_not_keep_its_process_busy(rollcall: Stack) -> None:
    with application(rollcall, fetch_threads="4") as app:
        with pytest.raises(RuntimeError), app.fetching("failed", 50):
            raise RuntimeError
        with app.fetching("other", 50):
            assert not app.is_busy
            assert app.is_idle_except("other")


class Observed(Objects):
    """An S3 client that records whether the process is busy at each page of a range and at each fetched object."""

    app: Application

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.calls: list[tuple[str, bool]] = []

    def list_page(self, bucket: str, **options: Any) -> ListingPage:
        if "prefix" not in options:
            self.calls.append(("page", self.app.is_busy))
        return super().list_page(bucket, **options)

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        self.calls.append(("get", self.app.is_busy))
        return super().get(bucket, key, limit=limit)


def test_is_busy_depends_on_the_number_of_objects_that_a_scan_has_to_fetch(rollcall: Stack) -> None:
    """Before the listing of a new segment, the estimate is a full segment. Another scan fetches one object."""
    with application(rollcall, Observed, fetch_threads="4") as app, app.fetching("other", 1):
        assert isinstance(app.objects, Observed)
        app.objects.app = app
        for number, busy_at_page, busy_at_get in ((2, True, False), (3, False, True)):
            rollcall.bucket.put_people([str(user) for user in range(number)], first=f"Name {number}")
            run(app)
            assert app.objects.calls == [("page", busy_at_page), *[("get", busy_at_get)] * number]
            app.objects.calls.clear()
        assert not app.is_busy


def test_a_busy_process_starts_no_helper_threads(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """So other replicas can scan the rest."""
    helpers: list[Workers] = []

    def count_helper(workers: Workers) -> None:
        helpers.append(workers)
        workers._application.helpers.release()

    monkeypatch.setattr(Workers, "_run_helper", count_helper)
    with application(rollcall, workers="2", fetch_threads="4") as app:
        for number, is_busy in ((3, True), (0, False)):
            rollcall.sql("delete from segments")
            rollcall.sql("insert into segments (start) values (''), ('1'), ('2')")
            with app.fetching("other", number):
                run(app)
            assert (helpers == []) == is_busy


class Traced(Objects):
    """An S3 client that records each page of a range and each fetched object."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.calls: list[str] = []

    def list_page(self, bucket: str, **options: Any) -> ListingPage:
        if "prefix" not in options:
            self.calls.append("page")
        return super().list_page(bucket, **options)

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        self.calls.append("get")
        return super().get(bucket, key, limit=limit)


@pytest.mark.parametrize(("is_fetching", "pages"), [(False, 1), (True, 3)])
def test_a_scan_starts_fetching_after_one_page_unless_another_scan_fetches(
    rollcall: Stack, *, is_fetching: bool, pages: int
) -> None:
    with simulated_s3(people=2500, photos=0) as simulator, ExitStack() as stack:
        endpoint = {"s3_endpoint": simulator.endpoint, "s3_secure": "false"}
        app = stack.enter_context(application(rollcall, Traced, workers="1", **endpoint))
        if is_fetching:
            stack.enter_context(app.fetching(object(), 1))
        assert run(app)["added"] == 2500
        assert isinstance(app.objects, Traced)
        assert app.objects.calls.index("get") == pages
        assert len(starts(rollcall)) == 1  # split segments are merged


def test_a_scan_lists_no_more_pages_after_the_deadline(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest becomes another segment. Here the deadline expires during the first of three pages."""

    class Late(Traced):
        def list_page(self, bucket: str, **options: Any) -> ListingPage:
            expire(late_run._deadline)
            return super().list_page(bucket, **options)

    monkeypatch.setattr(parallel, "GRACE", HANG_TIMEOUT)
    with simulated_s3(people=2500, photos=0) as simulator, ExitStack() as stack:
        endpoint = {"s3_endpoint": simulator.endpoint, "s3_secure": "false"}
        app = stack.enter_context(application(rollcall, Late, workers="1", **endpoint))
        stack.enter_context(app.fetching(object(), 1))
        late_run = Run(app, Request(Trigger.HTTP))
        summary = late_run.execute()
        assert isinstance(app.objects, Late)
        assert app.objects.calls.count("page") == 1
    assert summary["status"] == "partial"
