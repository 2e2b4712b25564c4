"""One run, whatever triggered it: list → diff → fetch → parse → store → export.

Runs may overlap. What one of them writes may rest on what it saw before another one, that saw more, wrote. So
a run that wrote while another was under way looks again, until a pass finds nothing to write: whoever writes
last has then seen that the roll is what the bucket holds.
"""

from contextlib import closing, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from .deadline import Deadline
from .diff import batches, compare
from .fetch import Fetched, fetch_batches
from .listing import load_listing
from .outputs import Output, export
from .parse import parse
from .rejection import Rejection
from .request import Request
from .runs import Record, recorded
from .scope import set_scope, users_in
from .settings import Settings
from .shared.storage.errors import Refused, StorageError, Unavailable
from .shared.storage.objects import Objects
from .shared.storage.records import Connection
from .shared.storage.schema import migrate
from .store import store
from .tally import Tally

REJECTIONS_SHOWN = 100

_IN_SCOPE = """
from (
    select distinct on (object) object, line, code, message
    from rejected join scope on object between prefix and beyond
    order by object
) as refused
"""
_REJECTED = f"select count(*) {_IN_SCOPE}"
_REJECTIONS = f"select object, line, code, message {_IN_SCOPE} order by object limit :limit"


class Run:
    """One run. Its answer is a summary of what it did."""

    def __init__(self, settings: Settings, objects: Objects, request: Request, deadline: Deadline) -> None:
        self._settings, self._objects, self._request, self._deadline = settings, objects, request, deadline
        self._record = Record(
            request.trigger, request.call_id, None if request.trigger == "event" else request.prefixes[0]
        )
        self.tally = Tally()

    def answer(self) -> dict[str, Any]:
        """Do the work, from the beginning again when a store was away for a moment: every step may be repeated.

        AlreadyRunning when another run is at the very same; Unavailable when a store stays away.
        """
        for another in self._deadline.attempts():
            try:
                return self._attempt()
            except Unavailable:
                if not another:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self) -> dict[str, Any]:
        with Connection(self._settings) as records:
            migrate(records)
            with recorded(records, self._record):
                with self.tally.stage("total"):
                    settled = self._settle(records)
                    output = self._export(records)
                self._record.status = "done" if settled and not self.tally.remaining else "partial"
                self._record.summary = self._summary(records, output)
        return {
            "status": self._record.status,
            "run_id": self._record.id,
            "trigger": self._record.trigger,
            **self._record.summary,
        }

    def _settle(self, records: Connection) -> bool:
        """Look as often as need be; returns whether the last look found all as it should be."""
        try:
            while self._pass(records) and self._record.overlapped(records):
                if self._deadline.passed:
                    return False
        except Refused:  # what was taken in until then is written all the same
            with suppress(StorageError):
                self._export(records)
            raise
        return True

    def _export(self, records: Connection) -> Output:
        with self.tally.stage("export"):
            return export(records, self._objects, self._settings.result_bucket)

    def _pass(self, records: Connection) -> bool:
        """Bring the roll to what the bucket holds now; returns whether anything had to be written."""
        source, tally = self._settings.source_bucket, self.tally
        records.script("close all; discard temp")  # of a former pass
        set_scope(records, self._request.prefixes)
        with tally.stage("list"):
            seen = load_listing(self._objects, records, source, self._request.prefixes)
        with tally.stage("diff"):
            diff = compare(records, source, users_in(self._request.prefixes))
        tally.saw(seen, diff)
        return self._take_in(records) or diff.wrote

    def _take_in(self, records: Connection) -> bool:
        """Fetch, parse and store what the diff found, batch by batch, as long as there is time.

        One batch is taken in whatever the time, so that runs get on even where the listing alone takes all of it.
        """
        tally, wrote = self.tally, False
        keys = batches(records, self._settings.batch_size)
        with closing(
            fetch_batches(self._objects, self._settings.source_bucket, keys, self._settings.fetch_threads)
        ) as fetched:
            while True:
                with tally.stage("fetch"):
                    batch = next(fetched, None)
                if batch is None:
                    break
                with tally.stage("parse"):
                    parsed = parse((one for one in batch if isinstance(one, Fetched | Rejection)), datetime.now(UTC))
                with tally.stage("store"):
                    stored = store(records, parsed)
                tally.took(stored, parsed.rejections, batch)
                wrote = wrote or stored.wrote
                if self._deadline.passed:
                    break
        return wrote

    def _summary(self, records: Connection, output: Output) -> dict[str, Any]:
        tally = self.tally
        rows = records.run(_REJECTIONS, limit=REJECTIONS_SHOWN)
        return {
            "listed": tally.listed,
            "added": tally.added,
            "updated": tally.updated,
            "unchanged": tally.unchanged,
            "images_changed": tally.images_changed,
            "ignored": tally.ignored,
            "rejected": records.run(_REJECTED)[0][0],
            "rejections": [dict(zip(("object", "line", "code", "message"), row, strict=True)) for row in rows],
            "remaining": tally.remaining,
            "output": asdict(output),
            "seconds": tally.seconds,
        }
