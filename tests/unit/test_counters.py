"""The counters of a run that repeats its scans, and of several workers."""

from datetime import UTC, datetime
from typing import Any

import pytest
from process_data.counters import RunCounters
from process_data.fetch import FetchResult, Skipped, Unreadable
from process_data.listing import Listing
from process_data.parse import Row
from process_data.reconcile import ReconcileResult
from process_data.rejections import MAX_REPORTED, Reason, Rejection
from process_data.shared.storage.errors import Unavailable
from process_data.store import StoreResult


def scan(counters: RunCounters, etag: str, *, pending: bool, unchanged: int) -> None:
    """Count a scan of one CSV, which is stored if it is pending."""
    with counters.scan() as counted:
        listing = Listing(csvs={"1": etag}, entries=1)
        counters.record_listing(counted, listing, ReconcileResult(0, unchanged, [], ["1"] if pending else []))
        if pending:
            row = Row("1.csv", etag, datetime.now(UTC), 2, "Ada", "Lovelace", 0)
            counters.record_batch(counted, [row], [row], StoreResult(1, 0, 0, []))


def counts(counters: RunCounters) -> tuple[int, int]:
    return counters.added, counters.unchanged


def test_a_csv_that_the_run_stored_is_not_counted_as_unchanged() -> None:
    counters = RunCounters(repeats=True)
    scan(counters, "a", pending=True, unchanged=0)
    for _ in range(2):
        counters.restart()
        scan(counters, "a", pending=False, unchanged=1)
        assert counts(counters) == (1, 0)


def test_a_csv_that_was_replaced_and_rejected_meanwhile_does_not_lower_the_count_of_unchanged_csvs() -> None:
    counters = RunCounters(repeats=True)
    scan(counters, "a", pending=True, unchanged=0)
    scan(counters, "b", pending=False, unchanged=0)  # another run rejected it
    scan(counters, "b", pending=False, unchanged=0)
    assert counts(counters) == (1, 0)


def test_a_csv_that_is_stored_again_is_counted_as_added_again() -> None:
    counters = RunCounters(repeats=True)
    scan(counters, "a", pending=True, unchanged=0)
    scan(counters, "a", pending=True, unchanged=0)  # an erasure removed the row meanwhile
    assert counts(counters) == (2, 0)


def test_only_a_csv_that_s3_returned_or_a_scanned_segment_is_progress() -> None:
    """Otherwise CSVs that are skipped or unreadable each time would cause endless continuations."""
    counters = RunCounters()
    results: list[FetchResult] = [
        Skipped(),
        Unreadable("2.csv", Unavailable("s3", "silent")),
        Rejection("3.csv", "etag", 1, Reason.EMPTY, "empty"),
    ]
    progressed = []
    for result in results:
        with counters.scan() as counted:
            counters.record_batch(counted, [result], [], StoreResult(0, 0, 0, []))
        progressed.append(counters.progressed)
    assert progressed == [False, False, True]
    counters = RunCounters()
    counters.record_segment()
    assert counters.progressed


def test_a_run_keeps_only_as_many_failures_and_rejections_as_it_reports() -> None:
    counters = RunCounters()
    failure = Unreadable("1.csv", Unavailable("s3", "silent"))
    rejections = [Rejection("2.csv", "etag", 1, Reason.EMPTY, "empty")] * (MAX_REPORTED - 1)
    for _ in range(3):
        with counters.scan() as counted:
            counters.record_listing(counted, Listing(), ReconcileResult(0, 0, rejections, []))
            counted.failures += [failure] * (MAX_REPORTED - 1)
    assert len(counters.rejections) == len(counters.failures) == MAX_REPORTED
    assert counters.unreadable == 3 * (MAX_REPORTED - 1)


class Guarded(RunCounters):
    """Counters that may only be changed while they are locked."""

    def __setattr__(self, name: str, value: Any) -> None:
        assert name not in self.__dict__ or self._lock.locked(), name
        super().__setattr__(name, value)


class GuardedSeconds(dict[str, float]):
    def __init__(self, counters: RunCounters) -> None:
        super().__init__(counters.seconds)
        self._lock = counters._lock

    def __setitem__(self, name: str, value: float) -> None:
        assert self._lock.locked(), name
        super().__setitem__(name, value)


def test_counters_are_changed_only_while_they_are_locked() -> None:
    counters = Guarded(repeats=True)
    with counters._lock:
        counters.seconds = GuardedSeconds(counters)
    with counters.stage("store"):
        scan(counters, "a", pending=True, unchanged=0)
    counters.record_segment()
    with pytest.raises(Unavailable), counters.scan():
        raise Unavailable("s3", "silent")
    with counters.scan() as counted:
        counted.failures.append(Unreadable("2.csv", Unavailable("s3", "silent")))
    assert (counters.added, counters.scanned, counters.unreadable) == (1, 1, 1)
