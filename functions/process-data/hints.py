"""Hints: objects that may have changed. Events are hints: the current state is always read from the bucket.

So hints may be reordered, duplicated or lost; a scan of the whole bucket covers them all. A hint is committed before
its segment's lock is tried. If the lock is held, its holder checks for hints after it has released the lock, and finds
this one.
"""

import json
from collections.abc import Iterable

from .scope import Range
from .shared.storage.connection import Connection

_ADD = """
insert into hints (object, tick)
select value, nextval('ticks') from json_array_elements_text(:objects) order by value collate "C"
on conflict (object) do update set tick = excluded.tick
"""

_READ = "select object, tick from hints where object > :start and object <= :end order by object limit :limit"

# A hint that was repeated meanwhile has another tick and stays.
_DELETE = """
delete from hints using json_each_text(:hints) as done where object = done.key collate "C" and tick = done.value::bigint
"""

_EXIST = "select exists (select from hints)"

_COUNT = 'select count(*) from hints where object in (select value collate "C" from json_array_elements_text(:objects))'


def add(connection: Connection, objects: Iterable[str]) -> None:
    connection.run(_ADD, objects=json.dumps(list(objects)))


def read(connection: Connection, keys: Range, limit: int) -> dict[str, int]:
    """The first hinted objects of a range, with their ticks."""
    rows = connection.run(_READ, limit=limit, start=keys.start, end=keys.end)
    return {str(name): int(tick) for name, tick in rows}


def delete(connection: Connection, hints: dict[str, int]) -> None:
    connection.run(_DELETE, hints=json.dumps(hints))


def exist(connection: Connection) -> bool:
    """Whether any object is hinted."""
    return bool(connection.run(_EXIST)[0][0])


def count(connection: Connection, objects: Iterable[str]) -> int:
    """The number of these objects that are still hinted."""
    return int(connection.run(_COUNT, objects=json.dumps(list(objects)))[0][0])
