"""Photos, read from the source bucket."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from .shared.api import ApiError
from .shared.storage.connection import Connection
from .shared.storage.errors import ObjectMissing

_MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg"}


def find_photo(connection: Connection, user_id: str, bucket: str) -> str:
    """Return the key of the user's photo in the bucket. Raises ApiError 404 if there is none."""
    rows = connection.run_prepared("select img_path from users where user_id = :user_id", user_id=user_id)
    pattern = rf"{re.escape(bucket)}/({user_id}\.({'|'.join(_MEDIA_TYPES)}))"
    if not rows or not (match := re.fullmatch(pattern, rows[0][0] or "")):
        raise _no_photo(user_id)
    return match[1]


@contextmanager
def reading(key: str) -> Iterator[None]:
    """Raise ApiError 404 if the body reads a photo whose object does not exist."""
    try:
        yield
    except ObjectMissing:
        raise _no_photo(key.partition(".")[0]) from None


def media_type(key: str) -> str:
    return _MEDIA_TYPES[key.rpartition(".")[2]]


def _no_photo(user_id: str) -> ApiError:
    return ApiError(404, "no_photo", f"user {user_id} has no photo")
