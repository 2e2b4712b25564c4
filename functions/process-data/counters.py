"""Counters of a run, added up over its scans."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter

from .fetch import FetchResult, Skipped, Unreadable
from .listing import Listing
from .parse import Row
from .reconcile import ReconcileResult
from .rejections import MAX_REPORTED, Rejection
from .store import StoreResult

STAGES = ("list", "reconcile", "fetch", "parse", "store", "export", "total")


@dataclass
class ScanCounters:
    """Counters of one scan.

    `stored` maps user_ids to the ETags of CSVs stored by this scan, or by an earlier one that it repeats.
    """

    listed: int = 0
    ignored: int = 0
    same_etag: int = 0
    remaining: int = 0
    failures: list[Unreadable] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)


@dataclass
class RunCounters:
    """Counters of one run, shared by its workers.

    `repeats` says that each attempt scans everything again, as for a request that names users. `seconds` sums each
    stage over the workers and attempts; `total` is the duration of the attempts, up to the end of the export.
    """

    repeats: bool = False

    scanned: int = 0  # segments
    listed: int = 0  # objects and folders
    ignored: int = 0  # folders and unrelated objects
    added: int = 0
    updated: int = 0
    same_etag: int = 0  # CSVs with the ETag of their row in `users`
    same_content: int = 0  # CSVs with a new ETag, but the same row
    images_changed: int = 0
    remaining: int = 0  # changed CSVs that were not processed
    fetched: int = 0  # CSVs that S3 returned, except those that a tombstone excludes
    unreadable: int = 0
    rejections: list[Rejection] = field(default_factory=list)  # new or changed ones, at most MAX_REPORTED
    failures: list[Unreadable] = field(default_factory=list)  # at most MAX_REPORTED
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    _stored: dict[str, str] = field(default_factory=dict)  # ETags by user_id, from scans that may be repeated
    _lock: Lock = field(default_factory=Lock)

    @property
    def progressed(self) -> bool:
        """Whether this run completed a segment or fetched a CSV; otherwise a continuation would only repeat it."""
        return bool(self.scanned or self.fetched)

    @property
    def unchanged(self) -> int:
        return self.same_etag + self.same_content

    def restart(self) -> None:
        """Reset what the next attempt counts again."""
        self.listed = self.ignored = self.same_etag = self.remaining = self.unreadable = 0
        self.failures.clear()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the duration of the body to a stage's seconds."""
        started_at = perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] = round(self.seconds.get(name, 0.0) + perf_counter() - started_at, 4)

    @contextmanager
    def scan(self) -> Iterator[ScanCounters]:
        """Add a scan's counters when it ends. An interrupted scan is repeated, so only its `stored` is kept.

        What the scan has fetched and stored is already counted, by `record_listing` and `record_batch`.
        """
        scan = ScanCounters()
        try:
            yield scan
        except BaseException:
            with self._lock:
                self._stored |= scan.stored
            raise
        with self._lock:
            self.listed += scan.listed
            self.ignored += scan.ignored
            self.same_etag += scan.same_etag
            self.remaining += scan.remaining + len(scan.failures)
            self.unreadable += len(scan.failures)
            self.failures += scan.failures[: MAX_REPORTED - len(self.failures)]
            if self.repeats:
                self._stored |= scan.stored

    def record_listing(self, scan: ScanCounters, listing: Listing, reconciled: ReconcileResult) -> None:
        with self._lock:
            stored_etags = {user_id: self._stored.pop(user_id) for user_id in listing.csvs.keys() & self._stored.keys()}
            pending = set(reconciled.pending)
            scan.stored = {
                user_id: etag
                for user_id, etag in stored_etags.items()
                if listing.csvs[user_id] == etag and user_id not in pending
            }
            self.images_changed += reconciled.images_changed
            self._record_rejections(reconciled.rejections)
        scan.listed, scan.ignored = listing.entries, listing.ignored
        scan.same_etag = reconciled.unchanged - len(scan.stored)  # an earlier scan counted those in `stored`

    def record_batch(
        self, scan: ScanCounters, results: Sequence[FetchResult], valid: Sequence[Row], outcome: StoreResult
    ) -> None:
        failures = [result for result in results if isinstance(result, Unreadable)]
        skipped = sum(isinstance(result, Skipped) for result in results)
        scan.failures += failures
        scan.stored.update((row.user_id, row.etag) for row in valid)
        with self._lock:
            self.fetched += len(results) - len(failures) - skipped
            self.added += outcome.added
            self.updated += outcome.updated
            self.same_content += outcome.unchanged
            self._record_rejections(outcome.rejections)

    def record_segment(self) -> None:
        with self._lock:
            self.scanned += 1

    def _record_rejections(self, rejections: list[Rejection]) -> None:
        self.rejections += rejections[: MAX_REPORTED - len(self.rejections)]
