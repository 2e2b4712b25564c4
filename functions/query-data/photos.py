"""Photos: straight from the source bucket."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .shared.api import ApiError
from .shared.storage.errors import ObjectMissing
from .shared.storage.records import Connection

if TYPE_CHECKING:
    from .shared.storage.objects import Objects, Stream

TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg"}


def find(records: Connection, user_id: str, bucket: str) -> str:
    """The key of the user's photo in the bucket; ApiError 404 when there is none."""
    rows = records.run_prepared("select img_path from users where user_id = :user_id", user_id=user_id)
    pattern = rf"{re.escape(bucket)}/({user_id}\.({'|'.join(TYPES)}))"
    if not rows or not (found := re.fullmatch(pattern, rows[0][0] or "")):
        raise _no_photo(user_id)
    return found[1]


@contextmanager
def opened(objects: "Objects", bucket: str, key: str) -> Iterator["Stream"]:
    """The photo; ApiError 404 when it went away since the roll was brought up to date."""
    try:
        with objects.stream(bucket, key) as stream:
            yield stream
    except ObjectMissing:
        raise _no_photo(key.partition(".")[0]) from None


def media_type(key: str) -> str:
    return TYPES[key.rpartition(".")[2]]


def _no_photo(user_id: str) -> ApiError:
    return ApiError(404, "no_photo", f"there is no photo of {user_id}")
