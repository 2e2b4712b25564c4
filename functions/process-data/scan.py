"""A scan makes `users` and `rejected` match the bucket: list → reconcile → fetch → parse → store.

Users whose CSV was deleted or became invalid keep their last row.

Why concurrent and interrupted runs converge: a scan holds its segment's lock from before it lists until after it has
stored, and it writes only in the session that holds the lock. So each user has one writer at a time, and a writer
reads the bucket after the previous writer has stored. A session that is lost loses its lock and cannot commit. S3's
listings and reads are assumed to be strongly consistent. Hence data that was read earlier never replaces data that was
read later. Once the bucket has stopped changing, the next complete scan of a segment stores what the bucket contains,
whatever happened before. A scan that ends early leaves its segment, or the rest of it, queued.

An erasure holds the same lock from before it reads the CSV's Last-Modified until after it has stored the tombstone. So
the tombstones that a scan reads stay valid until the scan has stored, and later scans ignore a CSV that existed when
its user was erased.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import zip_longest
from time import time_ns
from typing import TypeVar

from . import hints, segments
from .application import Application
from .counters import RunCounters, ScanCounters
from .deadline import Deadline
from .fetch import FetchResult, Unreadable, fetch
from .keys import MAX_REQUESTED_KEYS, csv_key, user_of_csv
from .listing import Listing, list_hinted, list_photos_after, list_range
from .parallel import ParallelCalls
from .parse import Row, check_rows
from .reconcile import reconcile
from .rejections import Rejection
from .scope import KeySet, Scope
from .segments import Segment
from .shared.storage.connection import Connection
from .shared.storage.errors import Unavailable
from .shared.storage.listing import MAX_KEYS, ListingPage
from .store import store
from .tombstones import Tombstones, drop_erased

T = TypeVar("T")
R = TypeVar("R")


class OutOfTime(Exception):
    """S3 did not respond before the run had to end."""


class SourceEmpty(Exception):
    """The source bucket has no object at its top level, but had some: perhaps it is the wrong one, or was emptied."""

    def __init__(self, bucket: str) -> None:
        super().__init__(f"bucket {bucket} has no object at its top level, although the last scans found some")


class Scanner:
    """Runs scans in one session, one at a time."""

    def __init__(
        self, application: Application, connection: Connection, deadline: Deadline, counters: RunCounters,
        accept_empty: bool,
    ) -> None:  # fmt: skip
        self._application = application
        self._objects, self._settings = application.objects, application.settings
        self._fetches, self._listings = application.fetches, application.listings
        self._connection, self._deadline, self._counters = connection, deadline, counters
        self._accept_empty = accept_empty

    def scan_segment(self, segment: Segment, since: int, on_split: Callable[[], None]) -> None:
        """Scan a segment, then merge it with a neighbour scanned since the tick `since`, if together they are small.

        Keys that the listing or the deadline leaves out are split off into a new segment with the same place in the
        queue. `on_split` is called when the listing has split the segment, so that a helper can scan the rest.
        After OutOfTime or an error of S3, the segment is still due.
        """
        with self._counters.scan() as scan:
            with self._counters.stage("list"):
                listing = self._list_range(segment)
            if listing.cut_at is not None:
                segments.split(self._connection, segment, listing.cut_at)
                on_split()
            keys = listing.entries - listing.folders
            left_out = self._ingest(scan, segment.range, listing)
            if left_out:
                end = left_out[0]
                if end <= segment.start:  # it cannot be split before its first user: all of it stays due
                    return
                segments.split(self._connection, segment, end)
                keys = sum(user_id < end for user_id in listing.csvs)  # an estimate: only CSVs are counted
            segments.complete(self._connection, segment, keys, len(scan.failures))
        self._counters.record_segment()
        max_keys = self._settings.segment_keys * 3 // 4  # leaves room for new keys before the next split
        segments.merge(self._connection, segment, since, max_keys)

    def scan_hinted(self, segment: Segment) -> None:
        """Scan up to MAX_REQUESTED_KEYS hinted objects; delete their hints, except those left out by the deadline."""
        hinted = hints.read(self._connection, segment.range, MAX_REQUESTED_KEYS)
        if not hinted:
            return
        with self._counters.scan() as scan:
            with self._counters.stage("list"):
                listing, listed = self._list_hinted(list(hinted))
            left_out = set(self._ingest(scan, KeySet(listed), listing))
            done = {key: hinted[key] for key in listed if user_of_csv(key) not in left_out}
            hints.delete(self._connection, done)

    def _list_range(self, segment: Segment) -> Listing:
        objects, bucket = self._objects, self._settings.source_bucket
        limit = min(MAX_KEYS, self._settings.segment_keys)

        def get_page(token: str | None) -> ListingPage:
            return self._call(lambda: objects.list_page(bucket, start_after=segment.start, token=token, limit=limit))

        def is_full(entries: int) -> bool:
            if segment.is_new and self._application.is_idle_except(self):
                return True  # one page is enough to start fetching
            return entries >= self._settings.segment_keys or self._deadline.expired

        listing = list_range(get_page, segment.start, segment.end, is_full)
        end = listing.cut_at or segment.end
        for info in self._call(lambda: list_photos_after(objects, bucket, segment.start, end)):
            listing.add(info)
        return listing

    def _list_hinted(self, keys: list[str]) -> tuple[Listing, list[str]]:
        """List the hinted objects; return the listing, and the keys that were listed before the deadline."""
        list_one = partial(list_hinted, self._objects, self._settings.source_bucket)
        calls = ParallelCalls(self._fetches, self._settings.fetch_threads, list_one, keys)
        results = self._collect_calls(calls)
        listing, listed = Listing(), []
        for key, infos in zip(keys, results, strict=False):
            if infos is not None:
                listed.append(key)
                for info in infos:
                    listing.add(info)
        if not listed:
            raise OutOfTime
        return listing, listed

    def _ingest(self, scan: ScanCounters, scope: Scope, listing: Listing) -> list[str]:
        """Make the tables match the listing. Returns the user_ids that the deadline left out, in order."""
        connection, settings, counters = self._connection, self._settings, self._counters
        if listing.entries == listing.folders and not self._accept_empty:
            self._check_not_emptied()
        with counters.stage("reconcile"):
            tombstones = drop_erased(connection, scope, listing)
            reconciled = reconcile(connection, scope, listing, settings.source_bucket, _now())
        counters.record_listing(scan, listing, reconciled)
        pending = reconciled.pending
        with self._application.fetching(self, len(pending)):
            done = self._fetch_and_store(scan, pending, listing.photos, tombstones)
        left_out = pending[done:]
        scan.remaining = len(left_out)
        return left_out

    def _fetch_and_store(
        self, scan: ScanCounters, user_ids: list[str], photos: Mapping[str, str], tombstones: Tombstones
    ) -> int:
        """Fetch, check and store these users in batches; return how many were done.

        While one batch is stored, the next one is fetched.
        """
        settings, counters, done = self._settings, self._counters, 0
        batches = [user_ids[at : at + settings.batch_size] for at in range(0, len(user_ids), settings.batch_size)]
        upcoming = None
        try:
            for batch, next_batch in zip_longest(batches, batches[1:]):
                if self._deadline.expired and counters.progressed:
                    break
                current = upcoming or self._fetch(batch, tombstones)
                upcoming = self._fetch(next_batch, tombstones) if next_batch and not self._deadline.expired else None
                with counters.stage("fetch"):
                    results = self._collect_fetches(batch, current)
                with counters.stage("parse"):
                    checked = check_rows([result for result in results if isinstance(result, Row)], _now())
                with counters.stage("store"):
                    rejected = [result for result in results if isinstance(result, Rejection)] + checked.rejections
                    stored = store(self._connection, checked.valid, rejected, photos, settings.source_bucket)
                counters.record_batch(scan, results, checked.valid, stored)
                done += len(results)
                if len(results) < len(batch):
                    break
        finally:
            if upcoming is not None:
                upcoming.cancel()
        return done

    def _fetch(self, user_ids: list[str], tombstones: Tombstones) -> ParallelCalls[str, FetchResult]:
        fetch_one = partial(fetch, self._objects, self._settings.source_bucket, tombstones)
        return ParallelCalls(self._fetches, self._settings.fetch_threads, fetch_one, user_ids)

    def _collect_fetches(self, user_ids: list[str], calls: ParallelCalls[str, FetchResult]) -> list[FetchResult]:
        """Return the results of the calls that started. If S3 was unavailable for all of them, call `check_s3`."""
        collected = self._collect_calls(calls)
        timeout_error = Unavailable("s3", "S3 did not respond before the run's deadline")
        results = [
            Unreadable(csv_key(user_id), timeout_error) if result is None else result
            for user_id, result in zip(user_ids, collected, strict=False)
        ]
        if results and all(
            isinstance(result, Unreadable) and isinstance(result.error, Unavailable) for result in results
        ):
            self.check_s3()
        return results

    def _call(self, call: Callable[[], T]) -> T:
        """Call S3 in another thread. Raises OutOfTime if it does not respond in time: see `ParallelCalls.collect`."""
        calls = ParallelCalls(self._listings, 1, lambda _: call(), [None])
        for result in calls.collect(self._deadline, self._connection.keep_alive, may_start_late=True):
            if result is not None:
                return result
        raise OutOfTime

    def _collect_calls(self, calls: ParallelCalls[str, R]) -> list[R | None]:
        """Collect the results.

        Calls may start after the deadline if the run has made no progress yet, because a run without progress queues no
        continuation.
        """
        return calls.collect(self._deadline, self._connection.keep_alive, may_start_late=not self._counters.progressed)

    def check_s3(self) -> None:
        """Raise S3's error, or OutOfTime, if even a minimal listing fails: then S3 itself has failed."""
        self._call(lambda: self._objects.list_page(self._settings.source_bucket, limit=1))

    def _check_not_emptied(self) -> None:
        """Raise SourceEmpty if the bucket has no object at its top level although the last scans found some.

        Folders do not count: SeaweedFS still lists a folder for a few minutes after it has been emptied.
        """
        if not segments.total_keys(self._connection):
            return
        bucket, token = self._settings.source_bucket, None
        while True:
            page = self._call(partial(self._objects.list_page, bucket, token=token))
            if page.objects:
                return
            if page.token is None:
                raise SourceEmpty(bucket)
            token = page.token


def _now() -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return time_ns() // 1_000_000
