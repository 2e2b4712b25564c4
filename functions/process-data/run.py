"""One run: its workers scan the segments that are due, then it exports, and queues its continuation if needed.

Every worker repeats the same loop: claim the segment that has waited longest, else one that has hints, scan it, release
it, and check for hints that arrived meanwhile. Any number of runs and replicas share the work in this way without
knowing of each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from random import uniform
from threading import Thread
from typing import Any, NotRequired, TypedDict

from . import hints, outputs, rejections, restore, segments
from .application import Application
from .continuation import NotQueued, queue_run
from .counters import RunCounters
from .deadline import GRACE, Deadline
from .keys import LAST_KEY
from .outputs import Output
from .rejections import RejectionSummary
from .request import Request
from .runs import (
    RunRecord,
    RunScope,
    Status,
    Trigger,
    count_continuations,
    record_continuation,
    record_failure,
    record_run,
)
from .scan import OutOfTime, Scanner
from .scope import Named, Range
from .segments import Segment
from .shared.log import log
from .shared.storage.connection import Connection
from .shared.storage.errors import AccessDenied, StorageError, Unavailable

MAX_REPORTED_REJECTIONS = 100

_ATTEMPTS = 3
_INITIAL_BACKOFF = 0.2  # seconds, doubled each time
_POLL_INTERVAL = 0.1  # seconds between attempts to claim a segment that another session holds
_JOIN_INTERVAL = 1.0  # seconds between calls of keep_alive while a session waits for helpers
_MAX_CONTINUATIONS = 10
"""At most as many as `fan_out` may start."""


class SegmentsSummary(TypedDict):
    scanned: int
    remaining: int


class RunSummary(TypedDict):
    """What a run did, as its response and its record have it. query-data's OpenAPI describes the record."""

    segments: SegmentsSummary
    listed: int
    added: int
    updated: int
    unchanged: int
    images_changed: int
    ignored: int
    rejected: int
    rejections: NotRequired[list[RejectionSummary]]  # in the response only
    unreadable: int
    remaining: int
    continued: bool
    output: Output
    seconds: dict[str, float]  # by stage


class Run:
    """One run. `execute` returns its response."""

    def __init__(self, application: Application, request: Request) -> None:
        self._application, self._request, self._settings = application, request, application.settings
        self._deadline = Deadline(self._settings.run_deadline, application.stopping)
        self._objects: Sequence[str] | None = request.objects
        self._record = RunRecord(
            request.trigger, request.call_id, RunScope.BUCKET if self._is_whole else RunScope.USERS
        )
        self._since = request.since
        self._helpers: list[Thread] = []
        self._error: Exception | None = None
        self._ran_out_of_time = False
        self._failed_hints: set[int] = set()  # of segments
        self.failed_segments: dict[int, Unavailable] = {}
        self.counters = RunCounters()

    def execute(self) -> dict[str, Any]:
        """Run, and retry while a backend is unavailable: every step may be repeated.

        Raises Unavailable if a backend stays unavailable, SourceEmpty if the bucket was emptied.
        """
        backoff = _INITIAL_BACKOFF
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with (
                    self._application.pool.connection() as connection,
                    self._bounded(connection),
                    record_run(connection, self._record),
                    self._joined_helpers(),
                ):
                    return self._execute(connection)
            except Exception as error:
                is_late = attempt == _ATTEMPTS or self._deadline.elapsed_fraction >= 0.5 or self._deadline.expired
                if is_late or not isinstance(error, Unavailable):
                    with suppress(StorageError), self._application.pool.connection() as connection:
                        record_failure(connection, self._record, error)
                    raise
            self._deadline.sleep(backoff * uniform(0.5, 1.5))  # noqa: S311 - jitter
            backoff *= 2
        raise AssertionError("the last attempt returns or raises")

    def _bounded(self, connection: Connection) -> AbstractContextManager[None]:
        """Keep a silent server from delaying the run far beyond its deadline, when the watchdog would end it."""
        return connection.bounded(self._settings.run_deadline + GRACE - self._deadline.elapsed)

    def _execute(self, connection: Connection) -> dict[str, Any]:
        with self.counters.stage("total"):
            self._start(connection)
            self._work(connection, is_helper=False)
            self._join_helpers(connection)
            remaining = self._count_remaining(connection)
            with self.counters.stage("export"):
                output = self._export(connection, urgent=self._is_whole and remaining == 0)
        self._raise_if_s3_failed()
        is_behind = self._is_whole and (output["pending"] or (self._deadline.expired and hints.exist(connection)))
        if remaining or is_behind or self.counters.unreadable:
            self._record.status = Status.PARTIAL
        continued = self._is_whole and bool(remaining or is_behind) and self._continue(connection)
        summary = self._summary(connection, remaining, output, continued=continued)
        # rejections quote files, and only the table `rejected` is cleared when a user is erased
        self._record.summary = {name: value for name, value in summary.items() if name != "rejections"}
        return self._response(summary)

    def _response(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        record = self._record
        return {"status": record.status, "run_id": record.id, "trigger": record.trigger, **summary}

    @property
    def public_summary(self) -> dict[str, Any]:
        """The summary as it was recorded, without values from files."""
        return self._response(self._record.summary)

    def _start(self, connection: Connection) -> None:
        """Take the run's tick, store its hints, and repeat erasures that the database lost."""
        now = segments.next_tick(connection)
        self._since = now if self._since is None else min(self._since, now)
        if self._objects is not None:
            hints.add(connection, self._objects)
        restore.apply_lost(
            self._application, connection, self._deadline, lambda segment: self._rescan(connection, segment)
        )

    def _export(self, connection: Connection, *, urgent: bool) -> Output:
        if self._ran_out_of_time and not self.counters.progressed:  # S3 does not respond
            return outputs.describe(connection, self._settings.result_bucket)
        return outputs.export(self._application, connection, self._deadline, urgent=urgent)

    def _work(self, connection: Connection, *, is_helper: bool) -> None:
        """Scan what can be claimed. The run's own thread also waits for segments that others hold.

        Segments that are due come first: their scans cover hints too, and a hint that fails delays nothing.
        """
        scanner = self._scanner(connection)
        while not self._deadline.expired:
            if self._is_whole and (segment := segments.claim(connection, self._tick, self.failed_segments)):
                self._scan(connection, scanner, segment)
            elif segment := segments.claim_hinted(connection, self._failed_hints, self._objects):
                self._scan_hinted(connection, scanner, segment)
            elif is_helper or not self._is_waiting(connection):
                return
            else:
                self._wait()

    def _scanner(self, connection: Connection) -> Scanner:
        return Scanner(
            self._application, connection, self._deadline, self.counters, accept_empty=self._request.accept_empty
        )

    def _rescan(self, connection: Connection, segment: Segment) -> None:
        """Scan what was hinted while this session held a segment that it has since released."""
        self._scan_hinted(connection, self._scanner(connection), segments.claim_again(connection, segment))

    def _wait(self) -> None:
        """Wait a moment for a helper to end, as it probably holds the segment, or else for another session."""
        for helper in reversed(self._helpers):
            if helper.is_alive():
                helper.join(min(_POLL_INTERVAL, self._deadline.remaining))
                return
        self._deadline.sleep(_POLL_INTERVAL)

    def _scan(self, connection: Connection, scanner: Scanner, segment: Segment) -> None:
        """Scan a claimed segment. If S3 fails for this segment only, the run continues with others."""
        expected = self._settings.segment_keys if segment.is_new else 0
        with segments.holding(connection, segment), self._application.fetching(scanner, expected):
            self._recruit(connection, segment)
            try:
                try:
                    scanner.scan_segment(segment, self._tick, lambda: self._recruit(connection, segment))
                except Unavailable as error:
                    if error.service != "s3":
                        raise
                    scanner.check_s3()
                    self.failed_segments[segment.id] = error
                    segments.postpone(connection, segment)
            except OutOfTime:
                self._ran_out_of_time = True
                segments.postpone(connection, segment)
        self._scan_hinted(connection, scanner, segments.claim_again(connection, segment))

    def _scan_hinted(self, connection: Connection, scanner: Scanner, segment: Segment | None) -> None:
        """Scan the hinted objects of a claimed segment, and those that are hinted meanwhile.

        If S3 fails for these objects only, they are left to a scan of the whole segment.
        """
        while segment is not None:
            with segments.holding(connection, segment):
                self._recruit(connection, segment)
                try:
                    try:
                        scanner.scan_hinted(segment)
                    except (Unavailable, AccessDenied) as error:
                        if error.service != "s3":
                            raise
                        scanner.check_s3()
                        self._failed_hints.add(segment.id)
                except OutOfTime:
                    self._ran_out_of_time = True
                    self._failed_hints.add(segment.id)
            is_over = segment.id in self._failed_hints or self._deadline.expired
            segment = None if is_over else segments.claim_again(connection, segment)

    @property
    def _is_whole(self) -> bool:
        """Whether the run scans the whole bucket."""
        return self._objects is None

    @property
    def _tick(self) -> int:
        assert self._since is not None
        return self._since

    def _is_waiting(self, connection: Connection) -> bool:
        """Whether another session holds something that this run has to scan."""
        if self._objects is None:
            return segments.remaining(connection, self._tick, self.failed_segments) > 0
        is_patient = self._request.trigger != Trigger.EVENT and not self._failed_hints
        return is_patient and hints.count(connection, self._objects) > 0

    def _count_remaining(self, connection: Connection) -> int:
        """How many segments, or requested objects, are left."""
        if self._objects is None:
            return segments.remaining(connection, self._tick)
        return hints.count(connection, self._objects)

    def _recruit(self, connection: Connection, segment: Segment) -> None:
        """Start another worker if the process has room for it and there is work beside this segment.

        While this process is busy fetching, it leaves segments to other replicas.
        """
        if self._application.is_busy or not self._application.helpers.acquire(blocking=False):
            return
        try:
            if self._objects is None:
                workers = 1 + sum(helper.is_alive() for helper in self._helpers)
                has_work = segments.remaining(connection, self._tick, self.failed_segments) > workers
            else:
                has_work = any(not segment.start < name <= segment.end for name in self._objects)
            if has_work:
                helper = Thread(target=self._help, name="worker", daemon=True)
                helper.start()
                self._helpers.append(helper)  # called by the run's thread, or by a helper that is still to be joined
                return
        except BaseException:
            self._application.helpers.release()
            raise
        self._application.helpers.release()

    def _help(self) -> None:
        """Work beside the run's own thread. If the session is lost, other workers claim its segment again."""
        try:
            with self._application.pool.connection() as connection, self._bounded(connection):
                self._work(connection, is_helper=True)
        except Exception as error:  # noqa: BLE001 - raised again by the run's own thread
            if not (isinstance(error, Unavailable) and error.service == "postgresql"):
                self._error = error
                self._deadline.cancel()
        finally:
            self._application.helpers.release()

    def _join_helpers(self, connection: Connection) -> None:
        """Wait for the helpers; raise the error of one of them, if any."""
        while self._helpers:
            self._helpers[-1].join(_JOIN_INTERVAL)
            if not self._helpers[-1].is_alive():
                self._helpers.pop()
            elif not connection.broken:
                connection.keep_alive()
        if self._error is not None:
            raise self._error

    @contextmanager
    def _joined_helpers(self) -> Iterator[None]:
        """End all helpers after the body, whatever it raises."""
        self._error = None
        try:
            yield
        finally:
            self._deadline.cancel()
            while self._helpers:
                self._helpers.pop().join()
            self._deadline.resume()

    def _raise_if_s3_failed(self) -> None:
        """Raise S3's error if it failed for everything that this run tried to read."""
        counters = self.counters
        if self._is_whole and counters.unreadable and not counters.fetched and not counters.unchanged:
            raise counters.failures[-1].error
        if self._ran_out_of_time and not counters.progressed and not self._application.stopping.is_set():
            seconds = self._settings.run_deadline
            raise Unavailable("s3", f"S3 at {self._settings.s3_endpoint} did not respond within {seconds} s")

    def _continue(self, connection: Connection) -> bool:
        """Queue the run's continuation, unless it made no progress or another continuation exists.

        The limit also holds if the queue delivers a request more than once.
        """
        if not self.counters.progressed:
            return False
        allowed = _MAX_CONTINUATIONS if self._record.trigger == Trigger.CONTINUATION else 1
        if count_continuations(connection, self._record) >= allowed:
            return False
        try:
            queue_run(self._settings, self._tick, accept_empty=self._request.accept_empty)
        except NotQueued as error:
            log("warning", "not_continued", call_id=self._request.call_id, message=error.message)
            return False
        record_continuation(connection, self._record)
        return True

    def _summary(self, connection: Connection, remaining: int, output: Output, *, continued: bool) -> RunSummary:
        counters = self.counters
        scope = Range("", LAST_KEY) if self._objects is None else Named(self._objects)
        rejected, first = rejections.first(connection, scope, MAX_REPORTED_REJECTIONS)
        return {
            "segments": {"scanned": counters.scanned, "remaining": remaining if self._is_whole else 0},
            "listed": counters.listed,
            "added": counters.added,
            "updated": counters.updated,
            "unchanged": counters.unchanged,
            "images_changed": counters.images_changed,
            "ignored": counters.ignored,
            "rejected": rejected,
            "rejections": first,
            "unreadable": counters.unreadable,
            "remaining": counters.remaining if self._is_whole else remaining + counters.unreadable,
            "continued": continued,
            "output": output,
            "seconds": counters.seconds,
        }
