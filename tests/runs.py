"""Runs process-data in this process, on the stack's servers."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from process_data import locks
from process_data.application import Application
from process_data.deadline import Deadline
from process_data.erase import EraseRun
from process_data.request import Request
from process_data.run import Run
from process_data.runs import Trigger
from process_data.settings import Settings
from process_data.shared.storage.errors import AccessDenied, Unavailable
from process_data.shared.storage.listing import ListingPage
from process_data.shared.storage.objects import Object, Objects
from process_data.shared.storage.settings import load

from tests.s3_proxy import Intercept, counting
from tests.stack import HANG_TIMEOUT, Stack


@contextmanager
def application(stack: Stack, objects: type[Objects] = Objects, /, **settings: str) -> Iterator[Application]:
    """Create an application with some settings replaced. `objects` is the class of its S3 client, such as Slow.

    There is no gateway unless `gateway_url` is set, so partial runs are not continued.
    """
    values = stack.process_settings | {"gateway_url": "http://127.0.0.1:1"} | settings
    app = Application(load(Settings, values), threading.Event())
    app.objects = objects(app.settings, connections=app.settings.fetch_threads)
    try:
        yield app
    finally:
        app.close()


def run(app: Application, trigger: Trigger = Trigger.HTTP, **request: Any) -> dict[str, Any]:
    """Run once and return the summary."""
    return Run(app, Request(trigger, **request)).execute()


def erase(app: Application, *user_ids: str) -> dict[str, Any]:
    """Erase people and return the summary."""
    request = Request(Trigger.HTTP, keys=tuple(f"{user_id}.csv" for user_id in user_ids), erase=True)
    return EraseRun(app, request).execute()


@contextmanager
def proxied(
    stack: Stack, intercept: Intercept = lambda _kind, _path: None, **settings: str
) -> Iterator[tuple[Application, Counter[str]]]:
    """Create an application whose requests to S3 are counted and may be intercepted."""
    with (
        counting(stack.process_settings["s3_endpoint"], intercept) as (endpoint, requests),
        application(stack, s3_endpoint=endpoint, **settings) as app,
    ):
        yield app, requests


@contextmanager
def set_at_end(event: threading.Event) -> Iterator[None]:
    """Set the event when the block ends, even by an exception, so that no thread waits for it after the block."""
    try:
        yield
    finally:
        event.set()


def expire(deadline: Deadline) -> None:
    """Make the deadline expire now."""
    deadline._seconds = deadline.elapsed


def end_scans(stack: Stack) -> None:
    """Terminate the PostgreSQL sessions that hold a segment's lock."""
    holders = "select pid from pg_locks where locktype = 'advisory' and classid = :space::oid"
    stack.sql(f"select pg_terminate_backend(pid) from ({holders}) as holders", space=locks.SEGMENT)


def counts(summary: dict[str, Any]) -> dict[str, int]:
    """Return the nonzero counts in a summary."""
    names = (
        "listed", "added", "updated", "unchanged", "images_changed", "ignored", "rejected", "unreadable", "remaining",
    )  # fmt: skip
    return {name: summary[name] for name in names if summary[name]}


def put_people(stack: Stack, numbers: range) -> list[str]:
    """Upload people with four-digit ids and return the ids."""
    user_ids = [f"{number:04}" for number in numbers]
    stack.bucket.put_people(user_ids)
    return user_ids


class Paused(Objects):
    """An S3 client that holds back the result of the first GET until `go` is set."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reached, self.go = threading.Event(), threading.Event()

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        fetched = super().get(bucket, key, limit=limit)
        if not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(HANG_TIMEOUT)
        return fetched


@contextmanager
def paused_run(
    stack: Stack, trigger: Trigger = Trigger.HTTP, *, keys: tuple[str, ...] | None = None, **settings: str
) -> Iterator[tuple[threading.Event, Future[dict[str, Any]]]]:
    """Start a run and pause it at its first GET. Yield the event that resumes it, and its future."""
    with application(stack, Paused, **settings) as app, ThreadPoolExecutor(1) as executor:
        assert isinstance(app.objects, Paused)
        reached, future = app.objects.reached, executor.submit(run, app, trigger, keys=keys)
        future.add_done_callback(lambda _: reached.set())
        assert reached.wait(HANG_TIMEOUT)
        assert not future.done(), future.result()
        try:
            yield app.objects.go, future
        finally:
            app.objects.go.set()


class Slow(Objects):
    """An S3 client with a delay for each listing page and each object."""

    page_seconds = get_seconds = 0.0

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        time.sleep(self.get_seconds)
        return super().get(bucket, key, limit=limit)

    def list_page(self, bucket: str, **options: Any) -> ListingPage:
        time.sleep(self.page_seconds)
        return super().list_page(bucket, **options)


class Failing(Objects):
    """An S3 client whose GETs fail for `keys`, and whose listings fail if they start after one of `starts`."""

    keys: frozenset[str] = frozenset()
    starts: frozenset[str] = frozenset()
    error: type[Unavailable | AccessDenied] = Unavailable

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.failed_listings: list[str] = []  # the `start_after` of each listing that failed

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        if key in self.keys:
            raise self.error("s3", f"S3 returned an error for {key}")
        return super().get(bucket, key, limit=limit)

    def list_page(self, bucket: str, *, start_after: str = "", **options: Any) -> ListingPage:
        if start_after in self.starts and options.get("limit") != 1:  # except listings of one key, as in `check_s3`
            self.failed_listings.append(start_after)
            raise self.error("s3", f"S3 returned an error for the listing after {start_after}")
        return super().list_page(bucket, start_after=start_after, **options)
