"""What changed: the listing compared with users and rejected, in SQL."""

from collections.abc import Iterator
from dataclasses import dataclass

from .keys import CONTENT_LIMIT
from .outputs import OUTPUT, REJECTED, mark
from .rejection import Reason, Rejection, lock_rejected
from .shared.storage.records import Connection

# Every transaction of every run locks users first, in the order of their keys, then rejected as a whole, then
# outputs: that is why no two of them can wait for each other.

_PHOTOS = """
create temp table photos as
select user_id, :bucket || '/' || max(key) as path -- bytewise .png > .jpg > .jpeg: the order of preference
from listing
where kind = 'photo'
group by user_id
"""

_SETTLE_IMAGES = """
with wanted as (
    select users.user_id, photos.path
    from users left join photos using (user_id)
    where ({users}) and users.img_path is distinct from photos.path
    order by users.user_id
    for update of users
)
update users set img_path = wanted.path, updated_at = now() from wanted where users.user_id = wanted.user_id
"""

# A CSV that is gone, or is again the version that the row was read from, is no longer refused.
_FORGIVE = """
delete from rejected where object in (
    select object
    from rejected join scope on object between prefix and beyond
    where not exists (
        select from listing left join users using (user_id)
        where key = object and kind <> 'photo' and csv_etag is distinct from listing.etag
    )
    order by object
    for update of rejected
)
"""

_REFUSE_UNREAD = f"""
insert into rejected (object, etag, code, message)
select distinct on (key) key, etag,
    case kind when 'bad_name' then '{Reason.BAD_NAME}' else '{Reason.TOO_LARGE}' end,
    case kind when 'bad_name' then 'the name must be <user_id>.csv, the user_id 1 to 18 digits'
        else 'the file has ' || size || ' bytes: {CONTENT_LIMIT} are allowed' end
from listing
where kind = 'bad_name' or (kind = 'csv' and size > {CONTENT_LIMIT})
order by key
on conflict (object) do update
set etag = excluded.etag, line = null, code = excluded.code, message = excluded.message, last_seen = now()
where rejected.etag <> excluded.etag
returning object, etag, line, code, message
"""  # noqa: S608 - constants of ours

_TODO = f"""
create temp table todo as
select distinct key
from listing left join users using (user_id) left join rejected on object = key
where kind = 'csv' and size <= {CONTENT_LIMIT}
    and csv_etag is distinct from listing.etag and rejected.etag is distinct from listing.etag
"""  # noqa: S608 - constants of ours

# The CSVs that have no fault: those to fetch, and those that the roll has as they are.
_GOOD = f"""
select count(*) from listing left join rejected on object = key
where kind = 'csv' and size <= {CONTENT_LIMIT} and rejected.etag is distinct from listing.etag
"""  # noqa: S608 - constants of ours


@dataclass(frozen=True)
class Diff:
    images_changed: int
    refused: list[Rejection]  # new ones, without reading
    unchanged: int  # CSVs that are the version the roll has
    todo: int  # CSVs to fetch
    wrote: bool


def compare(records: Connection, bucket: str, users: str) -> Diff:
    """Settle photos and what needs no reading, and list in the temporary table `todo` what has to be fetched.

    `users` is the condition, in SQL, on the user_ids whose photos were listed.
    """
    records.run(_PHOTOS, bucket=bucket)
    with records.transaction():
        images_changed = records.count(_SETTLE_IMAGES.format(users=users))
        lock_rejected(records)
        forgiven = records.count(_FORGIVE)
        refused = [Rejection(*row) for row in records.run(_REFUSE_UNREAD)]
        mark(records, OUTPUT, changed=images_changed > 0)
        mark(records, REJECTED, changed=bool(forgiven or refused))
    todo = records.count(_TODO)
    [[good]] = records.run(_GOOD)
    return Diff(images_changed, refused, good - todo, todo, wrote=bool(images_changed or forgiven or refused))


def batches(records: Connection, size: int) -> Iterator[list[str]]:
    """The keys to fetch, in order, `size` at a time."""
    records.run("declare keys cursor with hold for select key from todo order by key")
    while rows := records.run(f"fetch {size:d} from keys"):
        yield [key for (key,) in rows]
