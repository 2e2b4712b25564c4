"""Make the tables match a listing, as far as that is possible without fetching objects.

Users whose CSV is not listed keep their rows.
"""

import json
from dataclasses import dataclass

from . import rejections
from .changes import take_number
from .listing import Listing
from .rejections import Rejection
from .scope import Scope
from .shared.storage.connection import Connection

# `key` and `value` come from JSON objects: ETags of CSVs by user_id, and keys of photos by user_id.
_RECONCILE = f"""
with csvs as materialized (
    select key collate "C" as user_id, value as etag from json_each_text(:csvs)
), photos as materialized (
    select key collate "C" as user_id, :bucket || '/' || value as path from json_each_text(:photos)
), known as materialized (
    select user_id, csv_etag, img_path from users where {{user_condition}}
), changes as materialized (
    select user_id, photos.path
    from known left join photos using (user_id)
    where known.img_path is distinct from photos.path
), number as (
    {take_number("output.csv", "changes")}
), updated as (
    update users
    set img_path = changes.path, changed = number.changed, updated_at = now()
    from changes cross join number
    where users.user_id = changes.user_id
), pending as (
    select csvs.user_id
    from csvs left join known using (user_id) left join rejected on object = csvs.user_id || '.csv'
    where known.csv_etag is distinct from csvs.etag and not coalesce({{is_current}}, false)
)
select
    (select count(*) from changes),
    (select count(*) from csvs join known on known.user_id = csvs.user_id and known.csv_etag = csvs.etag),
    exists (select from rejected where {{object_condition}}),
    (select coalesce(json_agg(user_id order by user_id), '[]') from pending)
"""  # noqa: S608 - interpolates constants


@dataclass(frozen=True)
class ReconcileResult:
    """What a listing changed, and the CSVs to fetch."""

    images_changed: int
    unchanged: int  # CSVs with the same ETag as in `users`
    rejections: list[Rejection]  # new or changed ones, at most MAX_REPORTED
    pending: list[str]  # user_ids whose CSVs have to be fetched, in order


def reconcile(connection: Connection, scope: Scope, listing: Listing, bucket: str, now: int) -> ReconcileResult:
    """Update `img_path` and the rejections; find the CSVs to fetch. `now` is in milliseconds since 1970-01-01 UTC."""
    csvs = json.dumps(listing.csvs)
    sql = _RECONCILE.format(
        user_condition=scope.user_condition, object_condition=scope.object_condition, is_current=rejections.IS_CURRENT
    )
    parameters = scope.user_parameters | scope.object_parameters
    [[images_changed, unchanged, has_rejections, pending]] = connection.run(
        sql, csvs=csvs, photos=json.dumps(listing.photos), bucket=bucket, rules=rejections.RULES, now=now, **parameters
    )
    if has_rejections:
        rejections.delete_resolved(connection, scope, csvs, listing.rejections)
    new = rejections.upsert(connection, listing.rejections)
    return ReconcileResult(images_changed, unchanged, new, pending)
