"""Storing a batch: users and rejections in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pandas import DataFrame

from . import rejections
from .keys import csv_key
from .outputs import mark_dirty
from .rejections import Rejection
from .shared.storage.records import Connection

_UPSERT = """
with batch as (
    select user_id collate "C" as user_id, first_name, last_name, birthts, :bucket || '/' || photo as path, etag,
        modified
    from json_to_recordset(:rows) as r (
        user_id text, first_name text, last_name text, birthts bigint, photo text, etag text, modified timestamptz
    )
), stored as (
    insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified)
    select user_id, first_name, last_name, birthts, path, etag, modified from batch order by user_id
    on conflict (user_id) do update
    set first_name = excluded.first_name, last_name = excluded.last_name, birthts = excluded.birthts,
        img_path = excluded.img_path, csv_etag = excluded.csv_etag, csv_modified = excluded.csv_modified,
        updated_at = now()
), compared as (
    select
        old.user_id is null as added,
        (old.first_name, old.last_name, old.birthts, old.img_path)
            is distinct from (batch.first_name, batch.last_name, batch.birthts, batch.path) as changed
    from batch left join users as old using (user_id) -- as they were before this statement
)
select
    count(*) filter (where added), count(*) filter (where changed and not added), count(*) filter (where not changed)
from compared
"""


@dataclass(frozen=True)
class StoreResult:
    """What a batch did."""

    added: int
    updated: int
    unchanged: int  # another file with the same content
    rejections: list[Rejection]  # the first new ones


def store(
    connection: Connection, valid: DataFrame, rejected: Sequence[Rejection], photos: Mapping[str, str], bucket: str
) -> StoreResult:
    """Store a batch atomically. `photos` has the keys of photos in `bucket` by user_id."""
    rows = valid.assign(photo=valid["user_id"].map(photos.get)).to_json(orient="records", date_format="iso")
    with connection.transaction():
        [[added, updated, unchanged]] = connection.run(_UPSERT, rows=rows, bucket=bucket)
        resolved = rejections.delete(connection, [csv_key(user_id) for user_id in valid["user_id"]])
        new = rejections.upsert(connection, rejected)
        mark_dirty(connection, output=bool(added or updated), rejected=bool(resolved or new))
    return StoreResult(added, updated, unchanged, new)
