"""Which part of the roll a run looks at: everyone, the users of a shard, or those an event names."""

import re
from collections.abc import Iterable

from .shared.storage.records import Connection

EVERYONE = ""

_ONE_USER = re.compile(r"([0-9]{1,18})\..*", re.DOTALL)

_CREATE = """
create temp table scope (
    prefix text collate "C" not null, -- of the keys that are listed
    low text collate "C" not null, -- users from this user_id …
    high text collate "C" not null -- … up to, but not including, this one
)
"""


def set_scope(records: Connection, prefixes: Iterable[str]) -> None:
    """Put the prefixes and the users that they mean into the temporary table `scope`."""
    records.run(_CREATE)
    for prefix in prefixes:
        low, high = _users(prefix)
        records.run("insert into scope values (:prefix, :low, :high)", prefix=prefix, low=low, high=high)


def _users(prefix: str) -> tuple[str, str]:
    """The range of user_ids, bytewise, whose keys begin with `prefix`."""
    if match := _ONE_USER.fullmatch(prefix):
        return match[1], match[1] + "\x01"
    if prefix.isdecimal() or prefix == EVERYONE:
        return prefix, prefix + ":"  # ":" follows "9"
    return "", ""  # no user's
