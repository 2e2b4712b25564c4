"""Tombstones keep users erased: neither a CSV from before the erasure nor a restored database brings them back.

A CSV brings the user back if its Last-Modified is later than that of every CSV that is known at the erasure: the one in
the bucket, and the one that was imported last. If none is known, any CSV does. So only S3's clock matters. No user has
both a row in `users` and a tombstone. Only the session that holds a user's segment writes the user's tombstone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from .changes import take_number
from .hints import delete_where
from .keys import user_of_csv
from .listing import Listing
from .scope import Scope
from .shared.storage.connection import Connection
from .shared.storage.errors import Unavailable
from .shared.storage.listing import ObjectInfo

Tombstones = dict[str, datetime | None]
"""By user_id: the latest Last-Modified of the CSVs known at the erasure, or None if none was known."""

_EXIST = "select exists (select from erased where {user_condition})"

_READ = """
select user_id, csv_modified
from erased
where user_id in (select value collate "C" from json_array_elements_text(:user_ids))
"""

# `number`, `rejected_number` and `erased_number` each increment a row of `outputs`. Each depends on the one before it,
# so that the rows are locked in the order that locks.py requires.
_ERASE = f"""
with batch as materialized (
    select user_id collate "C" as user_id, erased_at, csv_modified
    from json_to_recordset(:tombstones) as r (user_id text, erased_at timestamptz, csv_modified timestamptz)
), compared as materialized (
    select batch.user_id, batch.erased_at, latest.csv_modified, users.user_id is not null as has_row,
        users.user_id is not null or rejected.object is not null or erased.user_id is not null as is_known,
        erased.user_id is not null and erased.csv_modified is not distinct from latest.csv_modified
            as has_same_tombstone
    from batch
    left join users using (user_id)
    left join erased using (user_id)
    left join rejected on rejected.object = batch.user_id || '.csv'
    -- An erasure that is repeated after a restore has an erased_at. If its user has returned since that time, the CSV
    -- that was imported last must bring the user back again, so its Last-Modified is left out.
    cross join lateral (
        select greatest(
            batch.csv_modified, erased.csv_modified, case when batch.erased_at is null then users.csv_modified end
        )
    ) as latest (csv_modified)
), changes as materialized (
    select * from compared where has_row or not has_same_tombstone
), number as (
    {take_number("output.csv", "changes")}
), tombstones as (
    insert into erased (user_id, erased_at, csv_modified, changed)
    select user_id, coalesce(erased_at, now()), csv_modified, number.changed
    from changes cross join number
    order by user_id
    on conflict (user_id) do update
    set erased_at = excluded.erased_at, csv_modified = excluded.csv_modified, changed = excluded.changed
    returning user_id
), deleted as (
    delete from users using tombstones where users.user_id = tombstones.user_id
), resolved as (
    delete from rejected using compared
    where object = compared.user_id || '.csv' and (select count(*) from tombstones) >= 0
    returning object
), rejected_number as (
    {take_number("rejected.csv", "resolved")}
), written_tombstones as (
    select from tombstones where (select count(*) from rejected_number) >= 0
), erased_number as (
    {take_number("erased.csv", "written_tombstones")}
), {delete_where("object in (select user_id || '.csv' from batch) and tick < :tick")}
select user_id, is_known or csv_modified is not null from compared
"""  # noqa: S608 - interpolates constants

DELETE_TOMBSTONES = """
    delete from erased using stored
    where erased.user_id = stored.user_id and (select count(*) from rejected_number) >= 0
    returning erased.user_id
"""
"""SQL that deletes the tombstones of users who have returned (the CTE `stored`), once `rejected_number` has run."""

_MISSING = """
select user_id
from json_to_recordset(:tombstones) as r (user_id text, erased_at timestamptz, csv_modified timestamptz)
where not exists (
    select from erased
    where erased.user_id = r.user_id collate "C" and erased.erased_at >= r.erased_at
        and (r.csv_modified is null or erased.csv_modified >= r.csv_modified)
)
"""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The record of an erasure. `erased_at` is None if it happens now; `csv_modified` is None if no CSV is known."""

    user_id: str
    erased_at: datetime | None
    csv_modified: datetime | None


def drop_erased(connection: Connection, scope: Scope, listing: Listing) -> Tombstones:
    """Remove from a listing the CSVs that a tombstone excludes; return the tombstones of users with newer CSVs."""
    if not connection.run(_EXIST.format(user_condition=scope.user_condition), **scope.user_parameters)[0][0]:
        return {}
    rows = connection.run(_READ, user_ids=json.dumps(list(listing.modified)))
    tombstones: Tombstones = dict(map(tuple, rows))
    for user_id, csv_modified in list(tombstones.items()):
        if not _is_newer(_parse_modified(listing.modified[user_id]), csv_modified):
            listing.csvs.pop(user_id, None)
            del tombstones[user_id]
            listing.rejections = [
                rejection for rejection in listing.rejections if user_of_csv(rejection.object) != user_id
            ]
    return tombstones


def allows(tombstones: Tombstones, user_id: str, modified: datetime) -> bool:
    """Whether a CSV may be ingested: its user was not erased, or it is newer than the CSVs known at the erasure."""
    return user_id not in tombstones or _is_newer(modified, tombstones[user_id])


def erase(connection: Connection, tombstones: Sequence[Tombstone], tick: int) -> dict[str, bool]:
    """Erase users of a segment that this session holds, and their hints from before the tick.

    Returns by user_id whether there was anything to erase: a row, a rejection, a CSV or a tombstone.
    """
    rows = connection.run(_ERASE, tombstones=_dump(tombstones), tick=tick)
    return dict(map(tuple, rows))


def missing(connection: Connection, tombstones: Sequence[Tombstone]) -> list[str]:
    """The user_ids of tombstones that the table lacks, or has only with an earlier time or Last-Modified."""
    return [user_id for (user_id,) in connection.run(_MISSING, tombstones=_dump(tombstones))]


def _dump(tombstones: Sequence[Tombstone]) -> str:
    return json.dumps([asdict(tombstone) for tombstone in tombstones], default=str)


def _is_newer(modified: datetime, csv_modified: datetime | None) -> bool:
    """Whether a CSV is newer than those known at the erasure.

    Whole seconds are compared: listings may have fractions, GET has none.
    """
    return csv_modified is None or modified.replace(microsecond=0) > csv_modified


def modified_of(csvs: Sequence[ObjectInfo]) -> datetime | None:
    """The Last-Modified for a tombstone, in whole seconds. None if there is no CSV.

    `csvs` is the result of `list_object` for the CSV's key.
    """
    return _parse_modified(csvs[0].modified).replace(microsecond=0) if csvs else None


def _parse_modified(modified: str) -> datetime:
    try:
        time = datetime.fromisoformat(modified)
    except ValueError as error:
        raise Unavailable("s3", f"invalid bucket listing: a LastModified is not a time: {error}") from error
    if time.tzinfo is None:
        raise Unavailable("s3", f"invalid bucket listing: a LastModified has no time zone: {modified!r}")
    return time
