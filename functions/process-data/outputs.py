"""The objects in the result bucket: each a consistent snapshot of a table, replaced atomically."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TypedDict

from . import locks
from .application import Application
from .deadline import GRACE, Deadline
from .parallel import ParallelCalls
from .shared.log import log
from .shared.spreadsheet import FORMULA_PREFIXES
from .shared.storage.connection import Connection
from .shared.storage.errors import StorageError
from .shared.storage.objects import Objects

OUTPUT = "output.csv"
REJECTED = "rejected.csv"
ERASED = "erased.csv"

_HEADERS = {  # in the order of export
    REJECTED: "object,line,code,message,first_seen,last_seen",
    ERASED: "user_id,erased_at,csv_modified",
    OUTPUT: "user_id,first_name,last_name,birthts,img_path",
}


def _quote(column: str) -> str:
    """SQL for a CSV field, quoted where RFC 4180 requires it."""
    special = " or ".join(f"{column} like {pattern}" for pattern in ("'%,%'", "'%\"%'", r"E'%\n%'", r"E'%\r%'"))
    return f"""case when {special} then '"' || replace({column}, '"', '""') || '"' else {column} end"""


def _neutralise(column: str) -> str:
    """SQL for the text, with an apostrophe before it if a spreadsheet might evaluate it as a formula."""
    return f"""
    (case when left({column}, 1) in {FORMULA_PREFIXES} or left({column}, 1) in (E'\\t', E'\\r', E'\\n')
    then '''' || {column} else {column} end)"""


# PostgreSQL joins the lines of a chunk: fetching single rows would take longer than the rest of an export.
_CHUNK_ROWS = 5000
_READ_CHUNK = {
    REJECTED: f"""
select string_agg(
    concat_ws(
        ',', {_quote("object_text")}, coalesce(line::text, ''), code, {_quote("message_text")}, first_seen, last_seen
    ),
    E'\n' order by object
), max(object), count(*)
from (
    select *, {_neutralise("object")} as object_text, {_neutralise("message")} as message_text
    from rejected where object > :after order by object limit {_CHUNK_ROWS}
) as chunk
""",  # noqa: S608 - interpolates module constants
    ERASED: f"""
select string_agg(
    concat_ws(',', user_id, erased_at, coalesce(csv_modified::text, '')),
    E'\n' order by user_id
), max(user_id), count(*)
from (select * from erased where user_id > :after order by user_id limit {_CHUNK_ROWS}) as chunk
""",  # noqa: S608 - interpolates module constants
    OUTPUT: f"""
select string_agg(
    concat_ws(',', user_id, {_quote("first_name")}, {_quote("last_name")}, birthts, coalesce(img_path, '')),
    E'\n' order by user_id
), max(user_id), count(*)
from (select * from users where user_id > :after order by user_id limit {_CHUNK_ROWS}) as chunk
""",  # noqa: S608 - interpolates module constants
}

_PAUSE_FACTOR = 10
"""The pause after an export, as a multiple of its duration."""

_CHEAP_SECONDS = 0.1
"""An export is cheap if the last exports of all outputs together took less."""

_EARLY_FRACTION = 0.1
"""In this first fraction of a run's time, an export starts even if it will probably take too long."""

_POLL_INTERVAL = 0.05  # seconds between attempts to acquire the lock

# An export is also due if the server's clock has been set back since the last one.
_READ_STATE = f"""
select changed, written, rows, etag,
    coalesce(
        clock_timestamp() - written_at not between interval '0' and seconds * interval '{_PAUSE_FACTOR} seconds',
        true
    ) as is_due
from outputs
where object = :object
"""  # noqa: S608 - interpolates a module constant

_READ_DURATION = "select sum(seconds) from outputs"

# Updates no row if a restore has set `changed` back since the snapshot.
_MARK_WRITTEN = """
update outputs
set written = :changed, rows = :rows, etag = :etag, seconds = :seconds, written_at = clock_timestamp()
where object = :object and changed >= :changed
"""

_READ_ETAG = "select etag from outputs where object = :object"

_ADOPT = """
update outputs
set etag = :etag, changed = changed + 1
where object = :object and etag is not distinct from :known
"""


class Output(TypedDict):
    """An object in the result bucket after an export."""

    object: str
    rows: int
    written: bool  # whether this run wrote it
    pending: bool  # whether the object is behind the table, or may be: see `export`


@dataclass(frozen=True)
class _State:
    changed: int  # number of the table's last change
    written: int  # number of the last change that the object contains
    rows: int
    etag: str | None
    is_due: bool  # whether the pause after the last export is over


def export(application: Application, connection: Connection, deadline: Deadline, *, urgent: bool) -> Output:
    """Write each output if needed; return the outcome for output.csv.

    If the export would end more than GRACE seconds after the deadline, judging by the last exports of all outputs, it
    is left to a later run, unless this run has just started. If it is neither `urgent` nor cheap, it is also left to a
    later run while another session exports, and each output is left out during the pause after its last export. An
    urgent or cheap export waits for the other session, at most until the deadline.

    If an urgent export is left to a later run, output.csv counts as pending, even if the table has not changed: nobody
    has checked whether the object was removed or overwritten. It also counts as pending while erased.csv has tombstones
    that have yet to be applied.
    """
    bucket, seconds = application.settings.result_bucket, _last_duration(connection)
    if deadline.elapsed_fraction >= _EARLY_FRACTION and seconds > deadline.remaining + GRACE:
        return describe(connection, bucket, is_pending=urgent)
    is_prompt = urgent or seconds < _CHEAP_SECONDS
    while not locks.try_lock(connection, locks.EXPORT, 0):
        if not is_prompt or deadline.expired:
            return describe(connection, bucket, is_pending=urgent)
        deadline.sleep(_POLL_INTERVAL)
    try:
        calls = ParallelCalls(
            application.listings, len(_HEADERS), partial(application.objects.etag, bucket), list(_HEADERS)
        )
        results = calls.collect(deadline, connection.keep_alive, may_start_late=True, may_start_when_stopping=True)
        etags = dict(zip(_HEADERS, results, strict=False))
        if len(etags) < len(_HEADERS) or None in results:  # S3 did not respond in time
            return describe(connection, bucket, is_pending=urgent)
        if etags[ERASED] not in ("", known_etag(connection, ERASED)):
            return describe(connection, bucket, is_pending=True)  # a later run applies its tombstones first
        exported = {
            output: _export(connection, application.objects, bucket, output, etag, is_prompt=is_prompt)
            for output, etag in etags.items()
        }
        return exported[OUTPUT]
    finally:
        locks.unlock(connection, locks.EXPORT, 0)


def export_overdue(application: Application, connection: Connection, deadline: Deadline) -> bool:
    """At the start of a run, export if output.csv is behind and there may not be enough time at the end.

    Returns whether output.csv was written.
    """
    state = _read_state(connection, OUTPUT)
    is_overdue = _last_duration(connection) > GRACE and state.changed != state.written and state.is_due
    return is_overdue and export(application, connection, deadline, urgent=False)["written"]


def describe(connection: Connection, bucket: str, *, is_pending: bool = False) -> Output:
    """The state of output.csv according to the database. With `is_pending` it is always reported as pending."""
    state = _read_state(connection, OUTPUT)
    pending = is_pending or state.changed != state.written
    return Output(object=f"{bucket}/{OUTPUT}", rows=state.rows, written=False, pending=pending)


def known_etag(connection: Connection, output: str) -> str | None:
    """The ETag that was recorded when the object was last written or adopted; None if it never was."""
    [[etag]] = connection.run(_READ_ETAG, object=output)
    return None if etag is None else str(etag)


def adopt(connection: Connection, output: str, known: str | None, etag: str) -> None:
    """Let the next export replace an object that this database did not write. Its rows must have been applied.

    Does nothing if the recorded ETag differs from `known`.
    """
    connection.run(_ADOPT, object=output, known=known, etag=etag)


def _last_duration(connection: Connection) -> float:
    """The seconds that the last exports of all outputs took together."""
    return float(connection.run(_READ_DURATION)[0][0])


def _read_state(connection: Connection, output: str) -> _State:
    [row] = connection.run(_READ_STATE, object=output)
    return _State(*row)


def _export(
    connection: Connection, objects: Objects, bucket: str, output: str, current_etag: str | None, *, is_prompt: bool
) -> Output:
    """Write one output if needed. `current_etag` is its object's ETag now. With `is_prompt`, no pause applies.

    The caller holds the export lock, so a later export has a later snapshot.

    A state counts as written only while the object has the ETag that the PUT returned. So the next run writes the
    object again if it was deleted, replaced by hand, or overwritten by a frozen process that resumed.
    """
    name, started_at = f"{bucket}/{output}", perf_counter()
    with connection.transaction("isolation level repeatable read, read only"):
        state = _read_state(connection, output)
        if state.changed == state.written and state.etag == current_etag:
            return Output(object=name, rows=state.rows, written=False, pending=False)
        if not is_prompt and not state.is_due:
            return Output(object=name, rows=state.rows, written=False, pending=True)
        _abort_uploads(objects, bucket, output)
        lines = _Lines(connection, output)
        etag = objects.put(bucket, output, lines, content_type="text/csv; charset=utf-8")
    seconds = perf_counter() - started_at
    connection.run(_MARK_WRITTEN, changed=state.changed, rows=lines.rows, etag=etag, seconds=seconds, object=output)
    return Output(object=name, rows=lines.rows, written=True, pending=False)


def _abort_uploads(objects: Objects, bucket: str, output: str) -> None:
    """Abort the uploads of exports that were killed: S3 would keep the data that they sent.

    Only an export that has lost its session can still be uploading: this session holds the export lock.
    """
    try:
        count = objects.abort_uploads(bucket, output)
    except StorageError as error:  # some services cannot list uploads; the export does not depend on it
        log("warning", "uploads_not_aborted", message=str(error))
        return
    if count:
        log("warning", "uploads_aborted", object=output, number=count)


class _Lines:
    """The lines of an output in chunks, the header first. Afterwards `rows` is their number without the header.

    Each chunk is a statement of its own, so `postgres_timeout` limits a chunk, not the export.
    """

    def __init__(self, connection: Connection, output: str) -> None:
        self._connection, self._output, self.rows = connection, output, 0

    def __iter__(self) -> Iterator[bytes]:
        yield _HEADERS[self._output].encode() + b"\n"
        after = ""
        while True:
            [[lines, after, rows]] = self._connection.run(_READ_CHUNK[self._output], after=after)
            if not rows:
                return
            self.rows += rows
            yield lines.encode() + b"\n"
