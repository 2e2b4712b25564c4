"""Storing a batch: records and rejections in one transaction."""

import json
from dataclasses import asdict, dataclass

from .outputs import OUTPUT, REJECTED, mark
from .parse import Parsed
from .rejection import Reason, lock_rejected
from .shared.storage.records import Connection

_CREATE = """
create temp table staged (
    user_id text collate "C", first_name text, last_name text, birthts bigint, etag text, modified timestamptz
) on commit drop
"""

_COPY = "copy staged (user_id, first_name, last_name, birthts, etag, modified) from stdin (format csv)"

_UPSERT = """
with stored as (
    insert into users as u (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified)
    select user_id, first_name, last_name, birthts, path, etag, modified
    from staged left join photos using (user_id)
    order by user_id
    on conflict (user_id) do update
    set first_name = excluded.first_name, last_name = excluded.last_name, birthts = excluded.birthts,
        img_path = excluded.img_path, csv_etag = excluded.csv_etag, csv_modified = excluded.csv_modified,
        updated_at = now()
    where excluded.csv_modified >= u.csv_modified -- the newer version wins
    returning user_id, first_name, last_name, birthts, img_path
), compared as (
    select
        old.user_id is null as added,
        (old.first_name, old.last_name, old.birthts, old.img_path)
            is distinct from (stored.first_name, stored.last_name, stored.birthts, stored.img_path) as changed
    from stored left join users as old using (user_id) -- as they were before this statement
)
select
    count(*) filter (where added), count(*) filter (where changed and not added), count(*) filter (where not changed)
from compared
"""

_MENDED = """
delete from rejected where object in (
    select object
    from rejected join staged on object = user_id || '.csv' join users using (user_id)
    where csv_etag = staged.etag
    order by object
    for update of rejected
)
"""

# What the upsert passed over, so that it is told of and not read again.
_OLDER = f"""
insert into rejected (object, etag, code, message)
select user_id || '.csv', staged.etag, '{Reason.OLDER_VERSION}',
    'it was last modified at ' || modified || ', before the version on the roll (' || csv_modified || ')'
from staged join users using (user_id)
where csv_etag <> staged.etag and modified < csv_modified
order by user_id
on conflict (object) do update
set etag = excluded.etag, line = null, code = excluded.code, message = excluded.message, last_seen = now()
"""  # noqa: S608 - a constant of ours

_REFUSE = """
insert into rejected (object, etag, line, code, message)
select object, etag, line, code, message
from json_to_recordset(:rejections) as r (object text, etag text, line int, code text, message text)
order by object
on conflict (object) do update
set etag = excluded.etag, line = excluded.line, code = excluded.code, message = excluded.message, last_seen = now()
"""


@dataclass(frozen=True)
class Stored:
    """What a batch did to users, and whether it wrote anything at all."""

    added: int
    updated: int
    unchanged: int  # another file with the same content
    wrote: bool


def store(records: Connection, batch: Parsed) -> Stored:
    """Bring a batch into users and rejected, all of it or nothing."""
    staged = batch.records[["user_id", "first_name", "last_name", "birthts", "etag", "modified"]]
    with records.transaction():
        records.run(_CREATE)
        records.copy_in(_COPY, staged.to_csv(index=False, header=False).encode())
        [[added, updated, unchanged]] = records.run(_UPSERT)
        lock_rejected(records)
        mended = records.count(_MENDED) + records.count(_OLDER)
        records.run(_REFUSE, rejections=json.dumps([asdict(one) for one in batch.rejections]))
        mark(records, OUTPUT, changed=bool(added or updated))
        mark(records, REJECTED, changed=bool(mended or batch.rejections))
    return Stored(added, updated, unchanged, bool(added or updated or unchanged or mended or batch.rejections))
