"""Hints: objects that may have changed. Events and requests name them; restore.py adds the CSVs of users erased again.

The state of an object is always read from the bucket. So hints may be reordered, duplicated or lost; a scan of the
whole bucket covers them all. A hint of an event or a request is committed before its segment's lock is tried. If the
lock is held, its holder checks for hints after it has released the lock, and finds this one. If the holder's deadline
has expired, its session is lost, or S3 has failed, a later run scans the object.
"""

import json
from collections.abc import Iterable

from .scope import Range
from .shared.storage.connection import Connection

_ADD = """
insert into hints (object, tick)
select value, nextval('ticks') from json_array_elements_text(:keys) order by value collate "C"
on conflict (object) do update set tick = excluded.tick
"""

_READ = "select object, tick from hints where object > :start and object <= :end order by object limit :limit"


def delete_where(condition: str) -> str:
    """Return the SQL of common table expressions that delete hints. It locks the rows in the order of `_ADD`."""
    return f"""locked_hints as (
        select object from hints where {condition} order by object for update
    ), deleted_hints as (
        delete from hints using locked_hints where hints.object = locked_hints.object
    )"""  # noqa: S608 - interpolates constants


# A hint that has been added again since it was read has another tick, and stays.
_DELETE = f"""
with {delete_where('(object, tick) in (select key collate "C", value::bigint from json_each_text(:hints))')}
select
"""  # noqa: S608 - interpolates a constant

_EXIST = "select exists (select from hints)"

_COUNT = 'select count(*) from hints where object in (select value collate "C" from json_array_elements_text(:keys))'


def add(connection: Connection, keys: Iterable[str]) -> None:
    connection.run(_ADD, keys=json.dumps(list(keys)))


def read(connection: Connection, scope: Range, limit: int) -> dict[str, int]:
    """The first `limit` hinted keys of a range, with their ticks."""
    rows = connection.run(_READ, limit=limit, start=scope.start, end=scope.end)
    return {str(key): int(tick) for key, tick in rows}


def delete(connection: Connection, hints: dict[str, int]) -> None:
    connection.run(_DELETE, hints=json.dumps(hints))


def exist(connection: Connection) -> bool:
    """Whether any object is hinted."""
    return bool(connection.run(_EXIST)[0][0])


def count(connection: Connection, keys: Iterable[str]) -> int:
    """The number of these keys that are still hinted."""
    return int(connection.run(_COUNT, keys=json.dumps(list(keys)))[0][0])
