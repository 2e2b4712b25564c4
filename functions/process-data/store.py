"""Store a batch of users and rejections."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import rejections
from .changes import take_number
from .parse import Row
from .rejections import Rejection
from .shared.storage.connection import Connection
from .tombstones import DELETE_TOMBSTONES

_STORE = f"""
with batch as (
    select user_id collate "C" as user_id, first_name, last_name, birthts, :bucket || '/' || photo as path, etag,
        modified
    from json_to_recordset(:rows) as r (
        user_id text, first_name text, last_name text, birthts bigint, photo text, etag text, modified timestamptz
    )
), compared as materialized (
    select batch.*, old.changed as last_change,
        case
            when old.user_id is null then 'added'
            when (old.first_name, old.last_name, old.birthts, old.img_path)
                is distinct from (batch.first_name, batch.last_name, batch.birthts, batch.path) then 'updated'
            else 'unchanged'
        end as outcome
    from batch left join users as old using (user_id)
), changes as (
    select from compared where outcome <> 'unchanged'
), number as (
    {take_number("output.csv", "changes")}
), stored as (
    insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified, changed)
    select user_id, first_name, last_name, birthts, path, etag, modified,
        case outcome when 'unchanged' then last_change else (select changed from number) end
    from compared
    order by user_id
    on conflict (user_id) do update
    set first_name = excluded.first_name, last_name = excluded.last_name, birthts = excluded.birthts,
        img_path = excluded.img_path, csv_etag = excluded.csv_etag, csv_modified = excluded.csv_modified,
        changed = excluded.changed, updated_at = now()
    returning user_id
), resolved as (
    {rejections.DELETE_ACCEPTED}
), rejected_number as (
    {take_number("rejected.csv", "resolved")}
), came_back as (
    {DELETE_TOMBSTONES}
), erased_number as (
    {take_number("erased.csv", "came_back")}
)
select
    count(*) filter (where outcome = 'added'),
    count(*) filter (where outcome = 'updated'),
    count(*) filter (where outcome = 'unchanged')
from compared
"""  # noqa: S608 - interpolates module constants


@dataclass(frozen=True)
class StoreResult:
    """The outcome of a batch."""

    added: int
    updated: int
    unchanged: int  # the CSV has another ETag, but the same values
    rejections: list[Rejection]  # new or changed ones, at most MAX_REPORTED


def store(
    connection: Connection, valid: Sequence[Row], rejected: Sequence[Rejection], photos: Mapping[str, str], bucket: str
) -> StoreResult:
    """Store the users in one statement, then the rejections in another. `photos` maps user_ids to keys in `bucket`.

    The session has to hold the segment's lock: no row may change between its comparison and its update.
    """
    batch = [row._asdict() | {"user_id": row.user_id, "photo": photos.get(row.user_id)} for row in valid]
    rows = json.dumps(batch, default=str)
    [[added, updated, unchanged]] = connection.run(_STORE, rows=rows, bucket=bucket)
    return StoreResult(added, updated, unchanged, rejections.upsert(connection, rejected))
