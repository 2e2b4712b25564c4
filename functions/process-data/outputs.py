"""The objects in the result bucket: each a consistent snapshot of a table, replaced in one PUT when it changed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

from . import locks
from .application import Application
from .deadline import GRACE, Deadline
from .parallel import ParallelCalls
from .shared.log import log
from .shared.spreadsheet import FORMULA_PREFIXES
from .shared.storage.errors import StorageError
from .shared.storage.objects import Objects
from .shared.storage.records import Connection

OUTPUT = "output.csv"
REJECTED = "rejected.csv"
ERASED = "erased.csv"

_HEADERS = {
    REJECTED: "object,line,code,message,first_seen,last_seen",
    ERASED: "user_id,erased_at,csv_modified",
    OUTPUT: "user_id,first_name,last_name,birthts,img_path",
}


def _quote(column: str) -> str:
    """SQL for a CSV field that is quoted where RFC 4180 asks for it."""
    special = " or ".join(f"{column} like {pattern}" for pattern in ("'%,%'", "'%\"%'", r"E'%\n%'", r"E'%\r%'"))
    return f"""case when {special} then '"' || replace({column}, '"', '""') || '"' else {column} end"""


def _neutralise(column: str) -> str:
    """SQL for text that no spreadsheet runs as a formula: an apostrophe goes before it."""
    return f"""
    (case when left({column}, 1) in {FORMULA_PREFIXES} or left({column}, 1) in (E'\\t', E'\\r', E'\\n')
    then '''' || {column} else {column} end)"""


# The lines of some rows, joined by PostgreSQL: a row at a time costs Python more than all the rest of an export.
_ROWS = 5000
_LINES = {
    REJECTED: f"""
select string_agg(
    concat_ws(
        ',', {_quote("object_text")}, coalesce(line::text, ''), code, {_quote("message_text")}, first_seen, last_seen
    ),
    E'\n' order by object
), max(object), count(*)
from (
    select *, {_neutralise("object")} as object_text, {_neutralise("message")} as message_text
    from rejected where object > :after order by object limit {_ROWS}
) as chunk
""",  # noqa: S608 - interpolates module constants
    ERASED: f"""
select string_agg(
    concat_ws(',', user_id, erased_at, coalesce(csv_modified::text, '')),
    E'\n' order by user_id
), max(user_id), count(*)
from (select * from erased where user_id > :after order by user_id limit {_ROWS}) as chunk
""",  # noqa: S608 - interpolates module constants
    OUTPUT: f"""
select string_agg(
    concat_ws(',', user_id, {_quote("first_name")}, {_quote("last_name")}, birthts, coalesce(img_path, '')),
    E'\n' order by user_id
), max(user_id), count(*)
from (select * from users where user_id > :after order by user_id limit {_ROWS}) as chunk
""",  # noqa: S608 - interpolates module constants
}

_PACE = 10
"""An export that is not urgent is left until this many times as long as the last one took have passed."""

_CHEAP = 0.1
"""Seconds: an export that takes less is always urgent."""

_ALWAYS_BEFORE = 0.1
"""Fraction of a run's time in which an export starts however long it takes."""

_POLL = 0.05  # seconds between two attempts to take the lock

_STATE = f"""
select changed, written, rows, etag, seconds,
    coalesce(clock_timestamp() - written_at not between interval '0' and seconds * interval '{_PACE} seconds', true)
from outputs
where object = :object
"""  # noqa: S608 - interpolates a module constant

_MARK_WRITTEN = """
update outputs
set written = :changed, rows = :rows, etag = :etag, seconds = :seconds, written_at = clock_timestamp()
where object = :object
"""


_KNOWN_ETAG = "select etag from outputs where object = :object"

_ADOPT = """
update outputs
set etag = :etag, changed = changed + 1
where object = :object and etag is not distinct from :known
"""


@dataclass(frozen=True)
class Output:
    """What the result bucket has now: whether this run wrote it, and whether it is behind the table."""

    object: str
    rows: int
    written: bool
    pending: bool

    def summary(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _State:
    changed: int
    written: int
    rows: int
    etag: str | None
    seconds: float  # that the last export took
    is_due: bool  # that was long enough ago


def export(application: Application, connection: Connection, deadline: Deadline, *, urgent: bool) -> Output:
    """Write what changed since it was last written; returns what became of output.csv.

    It is left pending when the deadline is nearer than an export takes by the last one, unless the run has only
    just started. What is not `urgent` is also left while another session exports, and soon after an export that took
    long; the next run or event that is late enough writes it.
    """
    bucket, state = application.settings.result_bucket, _read_state(connection, OUTPUT)
    if deadline.elapsed_fraction >= _ALWAYS_BEFORE and state.seconds > deadline.remaining + GRACE:
        return describe(connection, bucket)
    urgent = urgent or state.seconds < _CHEAP
    while not locks.try_lock(connection, locks.EXPORT, 0):
        if not urgent or deadline.expired:
            return describe(connection, bucket)
        deadline.sleep(_POLL)
    try:
        etags = ParallelCalls(
            application.listings, len(_HEADERS), partial(application.objects.etag, bucket), list(_HEADERS)
        ).collect(lambda: deadline.remaining_with(GRACE), connection.keep_alive)
        if len(etags) < len(_HEADERS) or None in etags:
            return describe(connection, bucket)
        if dict(zip(_HEADERS, etags, strict=True))[ERASED] not in ("", known_etag(connection, ERASED)):
            return replace(describe(connection, bucket), pending=True)  # first a run has to apply it
        outputs = [
            _export(connection, application.objects, bucket, output, etag, urgent=urgent)
            for output, etag in zip(_HEADERS, etags, strict=True)
        ]
        return outputs[-1]
    finally:
        locks.unlock(connection, locks.EXPORT, 0)


def describe(connection: Connection, bucket: str) -> Output:
    """What is known of output.csv without asking S3."""
    state = _read_state(connection, OUTPUT)
    return Output(f"{bucket}/{OUTPUT}", state.rows, written=False, pending=state.changed != state.written)


def known_etag(connection: Connection, output: str) -> str | None:
    """ETag of the object that was written last, or adopted."""
    [[etag]] = connection.run(_KNOWN_ETAG, object=output)
    return None if etag is None else str(etag)


def adopt(connection: Connection, output: str, known: str | None, etag: str) -> None:
    """The table has all that an object has which something else wrote: the next export may replace it."""
    connection.run(_ADOPT, object=output, known=known, etag=etag)


def _read_state(connection: Connection, output: str) -> _State:
    [row] = connection.run(_STATE, object=output)
    return _State(*row)


def _export(
    connection: Connection, objects: Objects, bucket: str, output: str, current_etag: str | None, *, urgent: bool
) -> Output:
    """Write one output; `current_etag` is what the object has now.

    The lock is held before the snapshot is taken: of two exports the later one has the later state.

    A state counts as written only when the object's ETag is the one that its PUT returned, so an object that was
    lost, replaced by hand or by an export of a process that was frozen meanwhile is written again by the next run.
    """
    name, started_at = f"{bucket}/{output}", perf_counter()
    with connection.transaction("isolation level repeatable read, read only"):
        state = _read_state(connection, output)
        if state.changed == state.written and state.etag == current_etag:
            return Output(name, state.rows, written=False, pending=False)
        if not urgent and not state.is_due:
            return Output(name, state.rows, written=False, pending=True)
        _abort_uploads(objects, bucket, output)
        lines = _Lines(connection, output)
        etag = objects.put(bucket, output, lines, content_type="text/csv; charset=utf-8")
    seconds = perf_counter() - started_at
    connection.run(_MARK_WRITTEN, changed=state.changed, rows=lines.rows, etag=etag, seconds=seconds, object=output)
    return Output(name, lines.rows, written=True, pending=False)


def _abort_uploads(objects: Objects, bucket: str, output: str) -> None:
    """Abort what exports have left that were killed, with parts of the data. Who exports now is the only one to."""
    try:
        number = objects.abort_uploads(bucket, output)
    except StorageError as error:  # not every service knows such lists, and the export needs none
        log("warning", "uploads_not_aborted", message=str(error))
        return
    if number:
        log("warning", "uploads_aborted", object=output, number=number)


class _Lines:
    """The lines of an output, the header first, in chunks; then `rows` is their number without the header.

    Each chunk is a statement of its own, so `postgres_timeout` bounds a chunk and not the export.
    """

    def __init__(self, connection: Connection, output: str) -> None:
        self._connection, self._output, self.rows = connection, output, 0

    def __iter__(self) -> Iterator[bytes]:
        yield _HEADERS[self._output].encode() + b"\n"
        after = ""
        while True:
            [[lines, after, rows]] = self._connection.run(_LINES[self._output], after=after)
            if not rows:
                return
            self.rows += rows
            yield lines.encode() + b"\n"
