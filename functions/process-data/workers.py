"""The workers of a run: its own thread, and helper threads.

Every worker repeats the same loop: claim the segment that has waited longest (in a full run), else a segment that
has hints; scan it; release it; check for hints that were added during the scan. In this way any number of runs and
replicas share the work without knowing about each other.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from threading import Thread

from . import hints, segments
from .application import Application
from .counters import RunCounters
from .deadline import GRACE, Deadline
from .request import Request
from .runs import Trigger
from .scan import OutOfTime, Scanner, SourceEmpty
from .segments import Segment
from .shared.storage.connection import Connection
from .shared.storage.errors import AccessDenied, Unavailable

_JOIN_INTERVAL = 1.0  # seconds between calls of keep_alive while a session waits for helpers


class Workers:
    """The workers of one run. Call `start` before `work` and `count_remaining`; an erasure calls none of the three."""

    def __init__(self, application: Application, request: Request, deadline: Deadline, counters: RunCounters) -> None:
        self._application, self._request = application, request
        self._deadline, self._counters = deadline, counters
        self._keys = request.keys
        self._helpers: list[Thread] = []
        self._error: Exception | None = None
        self._hint_failures: set[int] = set()  # ids of segments in which a scan of hinted objects failed
        self.failed_segments: dict[int, Unavailable | AccessDenied] = {}
        self.ran_out_of_time = False
        self._tick = request.since

    def time_limit(self, connection: Connection) -> AbstractContextManager[None]:
        """Limit the run's waits for a silent PostgreSQL, so that the run ends before of-watchdog's `exec_timeout`."""
        return connection.time_limit(self._application.settings.run_deadline + GRACE - self._deadline.elapsed)

    def start(self, connection: Connection) -> None:
        """Set the run's tick: the request's, else that of the first attempt. Store the requested keys as hints."""
        tick = segments.next_tick(connection)
        self._tick = tick if self._tick is None else min(self._tick, tick)  # a restored database has lower ticks
        if self._keys is not None:
            hints.add(connection, self._keys)

    @property
    def tick(self) -> int:
        """Segments scanned since this tick are not due in this run."""
        assert self._tick is not None
        return self._tick

    def work(self, connection: Connection) -> None:
        """Scan in this thread and in helpers; wait for the helpers, and for segments that other sessions hold."""
        self._work(connection, is_helper=False)
        while self._helpers:
            helper = self._helpers[-1]
            helper.join(_JOIN_INTERVAL)
            if not helper.is_alive():
                self._helpers.remove(helper)  # not pop(): before this helper ended, it may have appended another
            else:
                connection.keep_alive()
        if self._error is not None:
            raise self._error

    @contextmanager
    def joining(self) -> Iterator[None]:
        """Run an attempt in the body; then end all helpers, even if the attempt failed."""
        self._error, self.ran_out_of_time = None, False
        self._hint_failures.clear()
        self.failed_segments.clear()
        try:
            yield
        finally:
            self._deadline.cancel()
            while self._helpers:
                self._helpers.pop().join()
            self._deadline.resume()

    def rescan(self, connection: Connection, segment: Segment) -> None:
        """Scan what was hinted while this session held the segment, which it has since released."""
        with suppress(SourceEmpty):  # a full run reports it
            self._scan_hinted(connection, self._scanner(connection), segments.reclaim(connection, segment))

    def count_remaining(self, connection: Connection) -> int:
        """The number of segments, or of requested keys, that are still to be scanned."""
        if self._keys is None:
            return segments.remaining(connection, self.tick)
        return hints.count(connection, self._keys)

    def _work(self, connection: Connection, *, is_helper: bool) -> None:
        """Scan what can be claimed. The run's own thread also waits for segments that other sessions hold.

        Due segments come before hints: their scans cover hints too, and failed scans of hints cannot delay them.
        """
        scanner = self._scanner(connection)
        while not self._deadline.expired:
            if self._keys is None and (segment := segments.claim(connection, self.tick, self.failed_segments)):
                self._scan(connection, scanner, segment)
            elif segment := segments.claim_hinted(connection, self._hint_failures, self._keys):
                self._scan_hinted(connection, scanner, segment)
            elif is_helper or not self._must_wait(connection):
                return
            else:
                self._wait()

    def _scanner(self, connection: Connection) -> Scanner:
        return Scanner(
            self._application, connection, self._deadline, self._counters, accept_empty=self._request.accept_empty
        )

    def _wait(self) -> None:
        """Wait up to POLL_INTERVAL, or until the newest helper ends: helpers probably hold the remaining segments."""
        for helper in reversed(self._helpers):
            if helper.is_alive():
                helper.join(min(segments.POLL_INTERVAL, self._deadline.remaining))
                return
        self._deadline.sleep(segments.POLL_INTERVAL)

    def _scan(self, connection: Connection, scanner: Scanner, segment: Segment) -> None:
        """Scan a claimed segment. If S3 fails for this segment only, the run continues with other segments."""
        expected = self._application.settings.segment_keys if segment.is_new else 0
        with segments.holding(connection, segment), self._application.fetching(scanner, expected):
            self._start_helper(connection, segment)
            with self._catching(scanner) as failures:
                scanner.scan_segment(segment, self.tick, lambda: self._start_helper(connection, segment))
            for failure in failures:
                segments.postpone(connection, segment)
                if not isinstance(failure, OutOfTime):
                    self.failed_segments[segment.id] = failure
        if not self._deadline.expired:
            self._scan_hinted(connection, scanner, segments.reclaim(connection, segment))

    def _scan_hinted(self, connection: Connection, scanner: Scanner, segment: Segment | None) -> None:
        """Scan hinted objects of a claimed segment, and repeat while the segment has hints and can be reclaimed.

        If S3 fails for these objects only, this run does not claim the segment for its hints again.
        """
        while segment is not None:
            with segments.holding(connection, segment):
                self._start_helper(connection, segment)
                with self._catching(scanner) as failures:
                    scanner.scan_hinted(segment)
                if failures:
                    self._hint_failures.add(segment.id)
            is_over = segment.id in self._hint_failures or self._deadline.expired
            segment = None if is_over else segments.reclaim(connection, segment)

    @contextmanager
    def _catching(self, scanner: Scanner) -> Iterator[list[OutOfTime | Unavailable | AccessDenied]]:
        """Catch the failure of a scan if time ran out, or if S3 fails for its objects only: see `Scanner.check_s3`.

        Yields a list that gets the failure, if there is one.
        """
        failures: list[OutOfTime | Unavailable | AccessDenied] = []
        try:
            try:
                yield failures
            except (Unavailable, AccessDenied) as error:
                if error.service != "s3":
                    raise
                scanner.check_s3()  # may raise OutOfTime itself
                failures.append(error)
        except OutOfTime as error:
            self.ran_out_of_time = True
            failures.append(error)

    def _must_wait(self, connection: Connection) -> bool:
        """Whether to wait for segments that other sessions hold.

        Runs for events do not wait. Runs for `?user_id=` do not wait once a scan of hints has failed: the hints remain,
        so these runs would wait until the deadline.
        """
        if self._keys is None:
            return segments.remaining(connection, self.tick, self.failed_segments) > 0
        if self._request.trigger == Trigger.EVENT or self._hint_failures:
            return False
        return hints.count(connection, self._keys) > 0

    def _start_helper(self, connection: Connection, segment: Segment) -> None:
        """Start a helper if the process may have another one and there is more to scan than this segment.

        While this process is busy fetching, it leaves segments to other replicas. Erasures need no helpers.
        """
        if self._request.erase or self._application.is_busy or not self._application.helpers.acquire(blocking=False):
            return
        with ExitStack() as stack:
            stack.callback(self._application.helpers.release)
            if self._has_more_work(connection, segment):
                helper = Thread(target=self._run_helper, name="helper", daemon=True)
                helper.start()
                stack.pop_all()  # the helper releases its own slot
                # appended before this thread ends, so joining all helpers misses none
                self._helpers.append(helper)

    def _has_more_work(self, connection: Connection, segment: Segment) -> bool:
        if self._keys is not None:
            return any(not segment.start < key <= segment.end for key in self._keys)
        worker_count = 1 + sum(helper.is_alive() for helper in self._helpers)
        return segments.remaining(connection, self.tick, self.failed_segments) > worker_count

    def _run_helper(self) -> None:
        """Work until nothing can be claimed. If this session is lost, other workers claim its segment again."""
        try:
            with self._application.pool.connection() as connection, self.time_limit(connection):
                self._work(connection, is_helper=True)
        except Exception as error:  # noqa: BLE001 - raised again by the run's own thread
            if not (isinstance(error, Unavailable) and error.service == "postgresql"):
                self._error = error
                self._deadline.cancel()
        finally:
            self._application.helpers.release()
