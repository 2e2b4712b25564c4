"""The keys of the source bucket: which objects they name, and which can be segment boundaries."""

import re
from typing import Literal, NamedTuple

from .shared.user_ids import USER_ID_PATTERN

Kind = Literal["csv", "photo", "bad_name", "ignored"]

CONTENT_LIMIT = 64 * 1024
"""The maximum size of a CSV in bytes. A larger one is rejected without being fetched."""

MAX_REQUESTED_KEYS = 1000
"""The maximum number of keys in a request (CSVs of users, and CSVs with bad names), or in a scan of hints."""

LAST_KEY = "\U0010ffff"
"""Sorts after every key that is not ignored."""

_MAX_KEY_LENGTH = 1024  # bytes, S3's limit; a longer key comes from a forged event

_USER_KEY = re.compile(rf"({USER_ID_PATTERN})\.(csv|png|jpg|jpeg)")
_USER_PREFIX = re.compile(rf"({USER_ID_PATTERN})\.")
_UNREPRESENTABLE = re.compile("[\0\ud800-\udfff\U0010ffff]")
"""NUL, which PostgreSQL cannot store; surrogates, which stand for bytes that are not UTF-8; and `LAST_KEY`, the
end of the last segment."""


class ParsedKey(NamedTuple):
    """`user_id` is None for the kinds that are not tied to a user."""

    kind: Kind
    user_id: str | None


def parse_key(key: str) -> ParsedKey:
    """Parse a key: a user's CSV or photo, a CSV with a bad name, or an unrelated key."""
    if match := _USER_KEY.fullmatch(key):
        return ParsedKey("csv" if match[2] == "csv" else "photo", match[1])
    is_csv = key.lower().endswith(".csv") and "/" not in key and not _UNREPRESENTABLE.search(key)
    return ParsedKey("bad_name" if is_csv and len(key.encode()) <= _MAX_KEY_LENGTH else "ignored", None)


def csv_key(user_id: str) -> str:
    return f"{user_id}.csv"


def keys_of(user_id: str) -> list[str]:
    """All keys that a user can have, sorted."""
    return [f"{user_id}.{suffix}" for suffix in ("csv", "jpeg", "jpg", "png")]


def user_of_csv(key: str) -> str | None:
    """The user_id of a user's CSV; None for any other key."""
    kind, user_id = parse_key(key)
    return user_id if kind == "csv" else None


def is_representable(key: str) -> bool:
    """Whether the key can be a segment boundary, which is stored in PostgreSQL and sent to S3 as `start-after`."""
    return not _UNREPRESENTABLE.search(key)


def user_around(key: str) -> str | None:
    """The user whose keys may lie on both sides of `key`: the CSV at or before it, photos after it."""
    match = _USER_PREFIX.match(key)
    return match[1] if match and f"{match[1]}.csv" <= key < f"{match[1]}.png" else None
