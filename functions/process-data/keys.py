"""What the keys of the source bucket mean."""

import re
from typing import Literal, NamedTuple

Kind = Literal["csv", "photo", "bad_name", "ignored"]

CONTENT_LIMIT = 64 * 1024
"""Bytes; a larger CSV is refused unread."""

_KEY = re.compile(r"([0-9]{1,18})\.(csv|png|jpg|jpeg)")


class Name(NamedTuple):
    """`user_id` is None for the kinds that belong to nobody."""

    kind: Kind
    user_id: str | None


def read_key(key: str) -> Name:
    """Tell a user's CSV or photo from a CSV of a bad name and from what is none of ours."""
    if match := _KEY.fullmatch(key):
        return Name("csv" if match[2] == "csv" else "photo", match[1])
    return Name("bad_name" if key.lower().endswith(".csv") else "ignored", None)


def user_of(csv_key: str) -> str:
    return csv_key.removesuffix(".csv")
