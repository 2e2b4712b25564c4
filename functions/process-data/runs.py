"""The table `runs`: one row per run."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from . import locks
from .shared.storage.connection import Connection
from .shared.user_ids import USER_ID_PATTERN


class Trigger(StrEnum):
    CRON = "cron"
    HTTP = "http"
    EVENT = "event"
    CONTINUATION = "continuation"  # queued at the gateway, by a run that ended partial or by fan_out


class RunScope(StrEnum):
    BUCKET = "bucket"
    USERS = "users"  # of an event, `?user_id=` or an erasure


class Status(StrEnum):
    """How a run ended. In the table, a run in progress has the status `running`."""

    DONE = "done"
    PARTIAL = "partial"  # something is left for the next run
    FAILED = "failed"


# The id is assigned before the row is inserted, so that the run's lock is held before others can see the row.
_NEW_ID = "select nextval(pg_get_serial_sequence('runs', 'id'))"

_INSERT = """
insert into runs (id, trigger, call_id, scope) overriding system value values (:id, :trigger, :call_id, :scope)
on conflict (id) do update set finished_at = null, status = 'running', error = null
"""

_FINISH = """
update runs
set finished_at = clock_timestamp(), status = :status, summary = :summary, error = :error
where id = :id
"""

_RECORD_CONTINUATION = "update runs set continued_at = clock_timestamp() where id = :id"

# An unfinished run is stale if no session holds its lock.
_FAIL_STALE_RUNS = """
update runs
set finished_at = clock_timestamp(), status = 'failed', error = 'the process or its session ended'
where finished_at is null and not exists (
    select from pg_locks
    where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
        and classid = :space::bigint::oid and objid = (runs.id % 2147483648)::oid and objsubid = 2
)
"""

# An estimate: continuations in progress, and those queued but not started. One that has not started after a minute
# counts as lost. Runs queued by fan_out make this too low: they have no `continued_at`, so they are not counted while
# queued, and each offsets a queued continuation for a minute after its start.
_COUNT_CONTINUATIONS = """
select (select count(*) from runs where finished_at is null and trigger = 'continuation' and id <> :id) + greatest(0,
    (select count(*) from runs where continued_at > clock_timestamp() - interval '1 minute')
    - (select count(*) from runs where started_at > clock_timestamp() - interval '1 minute'
        and trigger = 'continuation')
)
"""

_USER_CSV = re.compile(rf"\b{USER_ID_PATTERN}\.csv\b")


@dataclass
class RunRecord:
    """The row of a run. All attempts of the run share it, but each has a session of its own."""

    trigger: Trigger
    call_id: str | None
    scope: RunScope
    id: int | None = None
    status: Status = Status.DONE
    summary: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def record_run(connection: Connection, record: RunRecord) -> Iterator[None]:
    """Record the run that the body performs. First mark stale runs as failed."""
    connection.run(_FAIL_STALE_RUNS, space=locks.RUN)
    if record.id is None:
        [[record.id]] = connection.run(_NEW_ID)
    number = int(record.id) % 2**31
    locks.lock_shared(connection, locks.RUN, number)
    try:
        connection.run(
            _INSERT, id=record.id, trigger=str(record.trigger), call_id=record.call_id, scope=str(record.scope)
        )
        yield
        _finish(connection, record, record.status, None)
    finally:
        locks.unlock_shared(connection, locks.RUN, number)


def record_failure(connection: Connection, record: RunRecord, error: Exception) -> None:
    """Record that a run failed. `connection` need not be the run's own, which may be broken.

    User_ids in the names of objects are omitted, because erasures do not clear this table. The log has them.
    """
    if record.id is not None:
        text = _USER_CSV.sub("<user_id>.csv", f"{type(error).__name__}: {error}")
        _finish(connection, record, Status.FAILED, text)


def count_continuations(connection: Connection, record: RunRecord) -> int:
    """Estimate the number of other continuations that are queued or in progress."""
    return int(connection.run(_COUNT_CONTINUATIONS, id=record.id)[0][0])


def record_continuation(connection: Connection, record: RunRecord) -> None:
    connection.run(_RECORD_CONTINUATION, id=record.id)


def _finish(connection: Connection, record: RunRecord, status: Status, error: str | None) -> None:
    connection.run(_FINISH, id=record.id, status=str(status), summary=json.dumps(record.summary), error=error)
