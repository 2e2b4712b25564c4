"""The objects in the result bucket: each a consistent snapshot of a table, replaced in one PUT when it changed."""

from dataclasses import dataclass

from .shared.storage.objects import Objects
from .shared.storage.records import Connection

OUTPUT = "output.csv"
REJECTED = "rejected.csv"

_QUERIES = {
    OUTPUT: "select user_id, first_name, last_name, birthts, img_path from users order by user_id",
    REJECTED: "select object, line, code, message, first_seen, last_seen from rejected order by object",
}

_LOCK = 0x6F7574707574  # "output" in ASCII: our key among the database's advisory locks

_MARK = "update outputs set changed = changed + 1 where object = :object"

_STATE = "select changed, written, rows, etag from outputs where object = :object"

_RECORD = "update outputs set written = :changed, rows = :rows, etag = :etag where object = :object"


@dataclass(frozen=True)
class Output:
    """What the bucket holds now, and whether this run wrote it."""

    object: str
    rows: int
    written: bool


def mark(records: Connection, output: str, *, changed: bool) -> None:
    """Say in the transaction that changes an output's data, last of all, that it has to be written again."""
    if changed:
        records.run(_MARK, object=output)


def export(records: Connection, objects: Objects, bucket: str) -> Output:
    """Write what changed since it was last written; returns what became of output.csv.

    The lock is taken before the snapshot: of two exports the later one has the later state. A state counts
    as written only when the object's ETag is the one that its PUT returned, so an object that was lost,
    replaced by hand or by an export that was cut off is written again.
    """
    records.run("select pg_advisory_lock(:key)", key=_LOCK)
    try:
        _export(records, objects, bucket, REJECTED)
        return _export(records, objects, bucket, OUTPUT)
    finally:
        if not records.broken:
            records.run("select pg_advisory_unlock(:key)", key=_LOCK)


def _export(records: Connection, objects: Objects, bucket: str, output: str) -> Output:
    name = f"{bucket}/{output}"
    with records.transaction("isolation level repeatable read, read only"):
        [[changed, written, rows, etag]] = records.run(_STATE, object=output)
        if changed == written and etag == objects.etag(bucket, output):
            return Output(name, rows, written=False)
        with records.copy_out(f"copy ({_QUERIES[output]}) to stdout (format csv, header)") as chunks:
            etag = objects.put(bucket, output, chunks, content_type="text/csv; charset=utf-8")
        rows = records.row_count
    records.run(_RECORD, changed=changed, rows=rows, etag=etag, object=output)
    return Output(name, rows, written=True)
