"""The record of every run, and what runs know of each other."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal
from zlib import crc32

from .shared.storage.errors import StorageError
from .shared.storage.records import Connection

Trigger = Literal["cron", "http", "event"]

# The first halves of our keys among the database's advisory locks; the second is a prefix or a run's id.
_PREFIX_LOCK = 0x70726566  # "pref" in ASCII
_RUN_LOCK = 0x72756E73  # "runs" in ASCII

_TRY_PREFIX = "select pg_try_advisory_lock(:space, :prefix)"

# The lock is taken before anyone else can see the run, and its session holds it for as long as it lives.
_BEGIN = """
with begun as (insert into runs (trigger, call_id, prefix) values (:trigger, :call_id, :prefix) returning id)
select id, pg_advisory_lock(:space, (id % 2147483648)::int) from begun
"""

# It is under way again, for the runs beside it too, and nobody sees that before the lock is taken.
_RESUME = """
with resumed as (
    update runs set finished_at = null, status = 'running', error = null where id = :id returning id
)
select pg_advisory_lock(:space, (id % 2147483648)::int) from resumed
"""

_END = """
update runs
set finished_at = clock_timestamp(), status = :status, summary = :summary, error = :error
where id = :id
"""

_BURY = """
update runs
set finished_at = clock_timestamp(), status = 'failed', error = 'the process or its session ended'
where finished_at is null and not exists (
    select from pg_locks
    where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
        and classid = :space::bigint::oid and objid = (runs.id % 2147483648)::oid and objsubid = 2
)
"""

_OVERLAPPED = """
select exists (
    select from runs as other join runs as mine on mine.id = :id
    where other.id <> mine.id and (other.finished_at is null or other.finished_at >= mine.started_at)
)
"""


class AlreadyRunning(Exception):
    """Another run over the very same prefix is under way."""


@dataclass
class Record:
    """One run as the table `runs` has it, over however many sessions it takes.

    `prefix` is what the run has to itself; None for an event, which may overlap with anything.
    """

    trigger: Trigger
    call_id: str | None
    prefix: str | None
    id: int | None = None
    status: str = "done"
    summary: Mapping[str, Any] = field(default_factory=dict)

    def overlapped(self, records: Connection) -> bool:
        """Whether any other run was under way at some time since this one began."""
        return bool(records.run(_OVERLAPPED, id=self.id)[0][0])


@contextmanager
def recorded(records: Connection, record: Record) -> Iterator[None]:
    """Record the run that the body does in this session, and what it raises.

    AlreadyRunning when another run has the prefix. Those whose sessions ended are recorded as failed.
    """
    if record.prefix is not None:
        _take_prefix(records, record.prefix)
    try:
        _begin(records, record)
        yield
    except Exception as error:
        with suppress(StorageError):  # the session may be what failed
            _end(records, record, status="failed", error=f"{type(error).__name__}: {error}")
        raise
    else:
        _end(records, record, status=record.status, error=None)
    finally:
        if not records.broken:  # a session that is closed ends a little later, but the next run may come at once
            records.run("select pg_advisory_unlock_all()")


def _begin(records: Connection, record: Record) -> None:
    if record.id is not None:
        records.run(_RESUME, space=_RUN_LOCK, id=record.id)
        return
    records.run(_BURY, space=_RUN_LOCK)
    [[record.id, _]] = records.run(
        _BEGIN, trigger=record.trigger, call_id=record.call_id, prefix=record.prefix, space=_RUN_LOCK
    )


def _take_prefix(records: Connection, prefix: str) -> None:
    """Have the prefix to oneself until the session ends."""
    key = crc32(prefix.encode()) - 2**31
    if not records.run(_TRY_PREFIX, space=_PREFIX_LOCK, prefix=key)[0][0]:
        raise AlreadyRunning


def _end(records: Connection, record: Record, *, status: str, error: str | None) -> None:
    records.run(_END, id=record.id, status=status, summary=json.dumps(record.summary), error=error)
