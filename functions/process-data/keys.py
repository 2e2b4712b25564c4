"""What the keys of the source bucket mean, and where the key space may be cut."""

import re
from typing import Literal, NamedTuple

Kind = Literal["csv", "photo", "bad_name", "ignored"]

CONTENT_LIMIT = 64 * 1024
"""Bytes; a larger CSV is rejected without fetching."""

LAST_KEY = "\U0010ffff"
"""Sorts after every key that is not ignored."""

_USER_KEY = re.compile(r"([0-9]{1,18})\.(csv|png|jpg|jpeg)")
_USER_ID = re.compile(r"[0-9]{1,18}")
_USER_PREFIX = re.compile(r"([0-9]{1,18})\.")
_UNREPRESENTABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that neither PostgreSQL nor a URL can hold; the second range stands for bytes that are not UTF-8."""


class ParsedKey(NamedTuple):
    """`user_id` is None for the kinds that are not tied to a user."""

    kind: Kind
    user_id: str | None


def parse_key(key: str) -> ParsedKey:
    """Tell a user's CSV or photo from a CSV with a bad name and from unrelated keys."""
    if match := _USER_KEY.fullmatch(key):
        return ParsedKey("csv" if match[2] == "csv" else "photo", match[1])
    is_csv = key.lower().endswith(".csv") and "/" not in key and not _UNREPRESENTABLE.search(key)
    return ParsedKey("bad_name" if is_csv else "ignored", None)


def is_user_id(text: str) -> bool:
    """Whether the text is a user_id: 1 to 18 ASCII digits."""
    return _USER_ID.fullmatch(text) is not None


def csv_key(user_id: str) -> str:
    return f"{user_id}.csv"


def keys_of(user_id: str) -> list[str]:
    """All keys that a user may have, in order."""
    return [f"{user_id}.{suffix}" for suffix in ("csv", "jpeg", "jpg", "png")]


def user_of(key: str) -> str | None:
    """The user_id of a user's CSV; None for any other key."""
    kind, user_id = parse_key(key)
    return user_id if kind == "csv" else None


def boundary_after(key: str) -> str | None:
    """Return where a segment that ends with `key` may end: at `key`, or before its user. None: not here.

    All keys of a user sort between `<user_id>.csv` and `<user_id>.png`, so no boundary may lie in between.
    A listing may begin after the boundary with S3's `start-after`.
    """
    if _UNREPRESENTABLE.search(key):
        return None
    match = _USER_PREFIX.match(key)
    if match and f"{match[1]}.csv" <= key < f"{match[1]}.png":
        return match[1]
    return key
