"""res/output.csv: one consistent snapshot of users, replaced in one PUT when they changed."""

from dataclasses import dataclass

from .shared.storage.objects import Objects
from .shared.storage.records import Connection

OUTPUT = "output.csv"

_LOCK = 0x6F7574707574  # "output" in ASCII: our key among the database's advisory locks

_STATE = "select changed, written, rows, etag from outputs where object = :object"

_COPY = """
copy (select user_id, first_name, last_name, birthts, img_path from users order by user_id)
to stdout (format csv, header)
"""

_RECORD = "update outputs set written = :changed, rows = :rows, etag = :etag where object = :object"


@dataclass(frozen=True)
class Output:
    """What the bucket holds now, and whether this run wrote it."""

    object: str
    rows: int
    written: bool


def export(records: Connection, objects: Objects, bucket: str) -> Output:
    """Write the output unless what the bucket holds is already the latest state.

    The lock is taken before the snapshot: of two exports the later one has the later state. A state counts
    as written only when the object's ETag is the one that its PUT returned, so an object that was lost,
    replaced by hand or by an export that was cut off is written again.
    """
    name = f"{bucket}/{OUTPUT}"
    records.run("select pg_advisory_lock(:key)", key=_LOCK)
    try:
        with records.transaction("isolation level repeatable read, read only"):
            changed, written, rows, etag = records.run(_STATE, object=OUTPUT)[0]
            if changed == written and etag == objects.etag(bucket, OUTPUT):
                return Output(name, rows, written=False)
            with records.copy_out(_COPY) as chunks:
                etag = objects.put(bucket, OUTPUT, chunks, content_type="text/csv; charset=utf-8")
            rows = records.row_count
        records.run(_RECORD, changed=changed, rows=rows, etag=etag, object=OUTPUT)
        return Output(name, rows, written=True)
    finally:
        if not records.broken:
            records.run("select pg_advisory_unlock(:key)", key=_LOCK)
