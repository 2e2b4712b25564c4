"""Storing a batch: users and rejections in one transaction."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from pandas import DataFrame

from . import rejections
from .outputs import MARK_DIRTY, mark_dirty
from .rejections import Rejection
from .shared.storage.records import Connection

_STORE = f"""
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
    returning user_id
), resolved as (
    {rejections.DELETE_ACCEPTED}
), compared as (
    select
        old.user_id is null as added,
        (old.first_name, old.last_name, old.birthts, old.img_path)
            is distinct from (batch.first_name, batch.last_name, batch.birthts, batch.path) as changed
    from stored join batch using (user_id) left join users as old using (user_id) -- as it was before this statement
), counted as (
    select
        count(*) filter (where added) as added,
        count(*) filter (where changed and not added) as updated,
        count(*) filter (where not changed) as unchanged,
        (select count(*) from resolved) as resolved
    from compared
), dirty as (
    {MARK_DIRTY.format(output="added + updated > 0", rejected="resolved > 0", source="from counted")}
)
select added, updated, unchanged from counted
"""  # noqa: S608 - interpolates module constants


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
    with connection.transaction() if rejected else nullcontext():
        [[added, updated, unchanged]] = connection.run(_STORE, rows=rows, bucket=bucket)
        new = rejections.upsert(connection, rejected)
        mark_dirty(connection, output=False, rejected=bool(new))
    return StoreResult(added, updated, unchanged, new)
