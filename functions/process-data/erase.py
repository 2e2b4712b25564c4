"""The run that erases users: POST /erase."""

from functools import partial
from typing import Any, TypedDict

from . import restore, tombstones
from .application import Application
from .eraser import Eraser
from .keys import csv_key, user_of_csv
from .listing import list_object
from .outputs import Output
from .parallel import ParallelCalls
from .request import Request
from .run import Run
from .runs import Status
from .shared.storage.connection import Connection
from .tombstones import Tombstone


class EraseSummary(TypedDict):
    """The summary of an erasure in `runs`. The response lists the user_ids instead of counting them."""

    erased: int
    not_found: int
    remaining: int
    output: Output
    seconds: dict[str, float]  # by stage


class EraseRun(Run):
    """Erases the request's users, then exports. Only counts are recorded and logged."""

    def __init__(self, application: Application, request: Request) -> None:
        super().__init__(application, request)
        self._erased: dict[str, bool] = {}  # kept when the run is retried

    def _attempt(self, connection: Connection) -> dict[str, Any]:
        user_ids = [user_id for key in self._request.keys or () if (user_id := user_of_csv(key))]
        eraser = Eraser(connection, self._deadline, partial(self.workers.rescan, connection), self._erased)
        with self.counters.stage("total"):
            restore.apply_lost_tombstones(self._application, connection, self._deadline, eraser.rescan)
            with self.counters.stage("erase"):
                eraser.erase(user_ids, partial(self._create_tombstones, connection))
            with self.counters.stage("export"):
                output = self._export(connection, urgent=True)
        erased = [user_id for user_id in user_ids if self._erased.get(user_id)]
        not_found = [user_id for user_id in user_ids if self._erased.get(user_id) is False]
        remaining = [user_id for user_id in user_ids if user_id not in self._erased]
        self._record.status = Status.PARTIAL if remaining or output["pending"] else Status.DONE
        seconds = {stage: self.counters.seconds[stage] for stage in ("erase", "export", "total")}
        summary = EraseSummary(
            erased=len(erased), not_found=len(not_found), remaining=len(remaining), output=output, seconds=seconds
        )
        self._record.summary = summary
        lists = {"erased": erased, "not_found": not_found, "remaining": remaining}
        return self._response(summary | lists)

    def _create_tombstones(self, connection: Connection, user_ids: list[str]) -> list[Tombstone]:
        """New tombstones, with the Last-Modified of the CSVs that are in the bucket now."""
        objects, bucket = self._application.objects, self._settings.source_bucket

        def create(user_id: str) -> Tombstone:
            return Tombstone(user_id, None, tombstones.modified_of(list_object(objects, bucket, csv_key(user_id))))

        calls = ParallelCalls(self._application.fetches, self._settings.fetch_threads, create, user_ids)
        created = calls.collect(self._deadline, connection.keep_alive, may_start_late=True)
        return [tombstone for tombstone in created if tombstone is not None]
