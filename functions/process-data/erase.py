"""The run that erases people, as `POST /erase` asks for."""

from contextlib import suppress
from typing import Any

from . import restore
from .application import Application
from .deadline import GRACE
from .eraser import Eraser
from .keys import csv_key, user_of
from .parallel import ParallelCalls
from .request import Request
from .run import Run
from .runs import Status
from .scan import SourceEmpty
from .segments import Segment
from .shared.storage.records import Connection
from .tombstones import Tombstone


class EraseRun(Run):
    """Erases the request's users and exports. What is recorded and logged of it are counts."""

    def __init__(self, application: Application, request: Request) -> None:
        super().__init__(application, request)
        self._erased: dict[str, bool] = {}  # kept when the run is tried again

    def _execute(self, connection: Connection) -> dict[str, Any]:
        user_ids = [user_id for name in self._request.objects or () if (user_id := user_of(name))]
        eraser = Eraser(connection, self._deadline, lambda segment: self._rescan(connection, segment), self._erased)
        with self.counters.stage("total"):
            restore.apply_lost(self._application, connection, self._deadline, eraser.rescan)
            with self.counters.stage("erase"):
                eraser.erase(user_ids, lambda users: self._look(connection, users))
            with self.counters.stage("export"):
                output = self._export(connection, urgent=True)
        found = [user_id for user_id in user_ids if self._erased.get(user_id)]
        not_found = [user_id for user_id in user_ids if self._erased.get(user_id) is False]
        remaining = [user_id for user_id in user_ids if user_id not in self._erased]
        if remaining or output.pending:
            self._record.status = Status.PARTIAL
        seconds = {stage: self.counters.seconds[stage] for stage in ("erase", "export", "total")}
        details = {"output": output.summary(), "seconds": seconds}
        counts = {"erased": len(found), "not_found": len(not_found), "remaining": len(remaining)}
        self._record.summary = counts | details
        return self._response({"erased": found, "not_found": not_found, "remaining": remaining} | details)

    def _look(self, connection: Connection, user_ids: list[str]) -> list[Tombstone]:
        """The tombstones, with the Last-Modified of the CSVs that are there now."""
        objects, bucket = self._application.objects, self._settings.source_bucket

        def look(user_id: str) -> Tombstone:
            return Tombstone(user_id, None, objects.modified(bucket, csv_key(user_id)))

        calls = ParallelCalls(self._application.fetches, self._settings.fetch_threads, look, user_ids)
        found = calls.collect(lambda: self._deadline.remaining_with(GRACE), connection.keep_alive)
        return [tombstone for tombstone in found if tombstone is not None]

    def _rescan(self, connection: Connection, segment: Segment) -> None:
        with suppress(SourceEmpty):  # whether the bucket may be empty is asked of those who scan all of it
            super()._rescan(connection, segment)

    def _recruit(self, connection: Connection, segment: Segment) -> None:
        """It works alone."""
