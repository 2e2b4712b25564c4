"""What changed: the listing compared with users and rejected, in SQL."""

from collections.abc import Iterator
from dataclasses import dataclass

from .keys import CONTENT_LIMIT
from .rejection import Reason
from .shared.storage.records import Connection

_PHOTOS = """
create temp table photos as
select user_id, :bucket || '/' || max(key) as path -- bytewise .png > .jpg > .jpeg: the order of preference
from listing
where kind = 'photo'
group by user_id
"""

_SETTLE_IMAGES = """
with settled as (
    update users
    set img_path = wanted.path, updated_at = now()
    from (
        select user_id, photos.path
        from users left join photos using (user_id)
        where user_id >= :low and user_id < :high
    ) as wanted
    where users.user_id = wanted.user_id and users.img_path is distinct from wanted.path
    returning 1
), marked as (
    update outputs set changed = changed + 1
    where object = 'output.csv' and exists (select from settled)
)
select count(*) from settled
"""

# A CSV that is gone, or is again the version that the row was read from, is no longer refused.
_FORGIVE = """
delete from rejected
where starts_with(object, :prefix) and not exists (
    select from listing left join users using (user_id)
    where key = object and kind <> 'photo' and csv_etag is distinct from listing.etag
)
"""

_REFUSE_UNREAD = f"""
insert into rejected (object, etag, code, message)
select key, etag,
    case kind when 'bad_name' then '{Reason.BAD_NAME}' else '{Reason.TOO_LARGE}' end,
    case kind when 'bad_name' then 'the name must be <user_id>.csv, the user_id 1 to 18 digits'
        else 'the file has ' || size || ' bytes: {CONTENT_LIMIT} are allowed' end
from listing
where kind = 'bad_name' or (kind = 'csv' and size > {CONTENT_LIMIT})
order by key
on conflict (object) do update
set etag = excluded.etag, line = null, code = excluded.code, message = excluded.message, last_seen = now()
where rejected.etag <> excluded.etag
"""  # noqa: S608 - constants of ours

_TODO = f"""
create temp table todo as
select key
from listing left join users using (user_id) left join rejected on object = key
where kind = 'csv' and size <= {CONTENT_LIMIT}
    and csv_etag is distinct from listing.etag and rejected.etag is distinct from listing.etag
"""  # noqa: S608 - constants of ours

_UNCHANGED = """
select count(*) from listing join users using (user_id)
where kind = 'csv' and csv_etag = listing.etag
"""


@dataclass(frozen=True)
class Diff:
    images_changed: int
    unchanged: int  # CSVs that are the version the roll has
    todo: int  # CSVs to fetch


def compare(records: Connection, bucket: str, prefix: str) -> Diff:
    """Settle photos and what needs no reading, and list in the temporary table `todo` what has to be fetched."""
    low, high = prefix, prefix + ":"  # ":" follows "9": the users whose ids begin with these digits
    with records.transaction():
        records.run(_PHOTOS, bucket=bucket)
        images_changed = records.run(_SETTLE_IMAGES, low=low, high=high)[0][0]
        records.run(_FORGIVE, prefix=prefix)
        records.run(_REFUSE_UNREAD)
        records.run(_TODO)
        todo = records.run("select count(*) from todo")[0][0]
        unchanged = records.run(_UNCHANGED)[0][0]
    return Diff(images_changed, unchanged, todo)


def batches(records: Connection, size: int) -> Iterator[list[str]]:
    """The keys to fetch, in order, `size` at a time."""
    records.run("declare keys cursor with hold for select key from todo order by key")
    while rows := records.run(f"fetch {size:d} from keys"):
        yield [key for (key,) in rows]
