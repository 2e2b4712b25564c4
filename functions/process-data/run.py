"""One run: scan what is due, export, and queue a continuation if work remains."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from random import uniform
from typing import Any, NotRequired, TypedDict

from . import hints, outputs, rejections, restore, segments
from .application import Application
from .continuation import NotQueued, queue_run
from .counters import RunCounters
from .deadline import Deadline
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
from .scope import KeySet, Range
from .shared.log import log
from .shared.storage.connection import Connection
from .shared.storage.errors import StorageError, Unavailable
from .workers import Workers

_MAX_ATTEMPTS = 3
_INITIAL_BACKOFF = 0.2  # seconds, doubled each time
_MAX_CONTINUATIONS = 10
"""A continuation queues another one only if there are fewer than this many others. The limit equals the maximum of
`fan_out`, so that all runs queued by `fan_out` may continue."""


class SegmentsSummary(TypedDict):
    scanned: int
    remaining: int


class RunSummary(TypedDict):
    """The summary of a run, in its response and in `runs`. query-data's openapi.py describes what `runs` stores."""

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
        self._keys = request.keys
        scope = RunScope.BUCKET if self._is_full else RunScope.USERS
        self._record = RunRecord(request.trigger, request.call_id, scope)
        self.counters = RunCounters(repeats=not self._is_full)
        self.workers = Workers(application, request, self._deadline, self.counters)

    def execute(self) -> dict[str, Any]:
        """Run, and retry if a backend is unavailable: every step is safe to repeat.

        Raises Unavailable if a backend stays unavailable, and SourceEmpty if the bucket is empty and was not before.
        """
        backoff = _INITIAL_BACKOFF
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                with (
                    self._application.pool.connection() as connection,
                    self.workers.time_limit(connection),
                    record_run(connection, self._record),
                    self.workers.joining(),
                ):
                    return self._attempt(connection)
            except Exception as error:
                has_time = self._deadline.elapsed_fraction < 0.5 and not self._deadline.expired
                if not (isinstance(error, Unavailable) and attempt < _MAX_ATTEMPTS and has_time):
                    with (
                        suppress(StorageError),
                        self._application.pool.connection() as connection,
                        self.workers.time_limit(connection),
                    ):
                        record_failure(connection, self._record, error)
                    raise
            self._deadline.sleep(backoff * uniform(0.5, 1.5))  # noqa: S311 - jitter
            backoff *= 2
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, connection: Connection) -> dict[str, Any]:
        if self.counters.repeats:
            self.counters.restart()
        with self.counters.stage("total"):
            self.workers.start(connection)
            restore.apply_lost_tombstones(
                self._application, connection, self._deadline, partial(self.workers.rescan, connection)
            )
            with self.counters.stage("export"):
                written = self._is_full and outputs.export_overdue(self._application, connection, self._deadline)
            self.workers.work(connection)
            unscanned = self.workers.count_remaining(connection)  # segments, or requested keys
            with self.counters.stage("export"):
                output = self._export(connection, urgent=self._is_full and unscanned == 0)
                output["written"] |= written
        self._raise_if_s3_failed(connection)
        # hints make the run partial only if its time ran out: otherwise those that remain are new, or could not be
        # scanned, or are in segments that other sessions hold
        is_behind = self._is_full and (output["pending"] or (self._deadline.expired and hints.exist(connection)))
        # also CSVs that earlier runs could not read: a continuation does not repeat their scans
        has_unreadable = self.counters.unreadable or (self._is_full and segments.have_unreadable(connection))
        is_partial = unscanned or is_behind or has_unreadable
        self._record.status = Status.PARTIAL if is_partial else Status.DONE
        continued = self._is_full and bool(unscanned or is_behind) and self._queue_continuation(connection)
        summary = self._summary(connection, unscanned, output, continued=continued)
        # the record omits rejections: they may quote files, and an erasure clears the table `rejected` but not `runs`
        self._record.summary = {name: value for name, value in summary.items() if name != "rejections"}
        return self._response(summary)

    def _response(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        record = self._record
        return {"status": record.status, "run_id": record.id, "trigger": record.trigger, **summary}

    @property
    def log_fields(self) -> dict[str, Any]:
        """The response, but with the summary as in `runs`, which has no values from files."""
        return self._response(self._record.summary)

    def _export(self, connection: Connection, *, urgent: bool) -> Output:
        if self.workers.ran_out_of_time and not self.counters.progressed:  # S3 does not respond
            return outputs.describe(connection, self._settings.result_bucket)
        return outputs.export(self._application, connection, self._deadline, urgent=urgent)

    @property
    def _is_full(self) -> bool:
        """Whether the run scans the whole bucket."""
        return self._keys is None

    def _raise_if_s3_failed(self, connection: Connection) -> None:
        """Raise S3's error if every fetch of a full run failed while the table `users` is empty.

        Otherwise raise Unavailable if S3 did not respond before the deadline and the run made no progress.
        """
        counters = self.counters
        if self._is_full and counters.unreadable and not counters.fetched and not _has_users(connection):
            raise counters.failures[-1].error
        if self.workers.ran_out_of_time and not counters.progressed and not self._application.stopping.is_set():
            seconds = self._settings.run_deadline
            raise Unavailable("s3", f"S3 at {self._settings.s3_endpoint} did not respond within {seconds} s")

    def _queue_continuation(self, connection: Connection) -> bool:
        """Queue a continuation if this run made progress and there are not too many; return whether it was queued.

        Without a limit, a queue that delivers requests more than once would multiply continuations.
        """
        if not self.counters.progressed:
            return False
        # runs queued by fan_out are continuations, too; any other run queues a continuation only if there is none
        limit = _MAX_CONTINUATIONS if self._record.trigger == Trigger.CONTINUATION else 1
        if count_continuations(connection, self._record) >= limit:
            return False
        try:
            queue_run(self._settings, self.workers.tick, accept_empty=self._request.accept_empty)
        except NotQueued as error:
            log("warning", "not_continued", call_id=self._request.call_id, message=error.message)
            return False
        record_continuation(connection, self._record)
        return True

    def _summary(self, connection: Connection, unscanned: int, output: Output, *, continued: bool) -> RunSummary:
        counters = self.counters
        scope = Range("", LAST_KEY) if self._keys is None else KeySet(self._keys)
        rejected, reported = rejections.count_and_read(connection, scope)
        return {
            "segments": {"scanned": counters.scanned, "remaining": unscanned if self._is_full else 0},
            "listed": counters.listed,
            "added": counters.added,
            "updated": counters.updated,
            "unchanged": counters.unchanged,
            "images_changed": counters.images_changed,
            "ignored": counters.ignored,
            "rejected": rejected,
            "rejections": reported,
            "unreadable": counters.unreadable,
            "remaining": counters.remaining if self._is_full else unscanned + counters.unreadable,
            "continued": continued,
            "output": output,
            "seconds": counters.seconds,
        }


def _has_users(connection: Connection) -> bool:
    [[exist]] = connection.run("select exists (select from users)")
    return bool(exist)
