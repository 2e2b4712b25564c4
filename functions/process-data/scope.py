"""Which part of the roll a run looks at: everyone, the users of a shard, or those an event names."""

import re
from collections.abc import Iterable

from .shared.storage.records import Connection, literal

EVERYONE = ""

_ONE_USER = re.compile(r"([0-9]{1,18})\.")
_SHARD = re.compile(r"[0-9]{0,18}")

_CREATE = """
create temp table scope as
select prefix collate "C" as prefix, -- of the keys that are listed
    prefix || chr(1114111) collate "C" as beyond -- no key that begins with it is greater: an index finds them
from unnest(cast(:prefixes as text[])) as prefix
"""


def set_scope(records: Connection, prefixes: Iterable[str]) -> None:
    """Put the prefixes into the temporary table `scope`."""
    records.run(_CREATE, prefixes=list(prefixes))


def users_in(prefixes: Iterable[str]) -> str:
    """The condition, in SQL, that a user_id is one whose keys all begin with one of the prefixes.

    It is written out, not joined with, so that PostgreSQL can tell a few users from everyone.
    """
    ids, conditions = [], []
    for prefix in prefixes:
        if match := _ONE_USER.fullmatch(prefix):
            ids.append(literal(match[1]))
        elif _SHARD.fullmatch(prefix):  # bytewise; ":" follows "9"
            conditions.append(f"user_id >= {literal(prefix)} and user_id < {literal(prefix + ':')}")
    if ids:
        conditions.append(f"user_id in ({', '.join(ids)})")
    return " or ".join(conditions) or "false"
