"""Fetch one CSV and parse it."""

from dataclasses import dataclass

from .keys import CONTENT_LIMIT, csv_key
from .listing import too_large
from .parse import Row, read_row
from .rejections import Rejection
from .shared.storage.errors import AccessDenied, ObjectMissing, ObjectTooLarge, Unavailable
from .shared.storage.objects import Objects
from .tombstones import Tombstones, allows


@dataclass(frozen=True, slots=True)
class Skipped:
    """The CSV was removed after it was listed, or it already existed when its user was erased."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """S3 failed to return the CSV. The next full run tries again."""

    key: str
    error: Unavailable | AccessDenied


FetchResult = Row | Rejection | Skipped | Unreadable


def fetch(objects: Objects, bucket: str, tombstones: Tombstones, user_id: str) -> FetchResult:
    """Fetch and parse the CSV of a user."""
    key = csv_key(user_id)
    try:
        fetched = objects.get(bucket, key, limit=CONTENT_LIMIT)
    except ObjectMissing:
        return Skipped()
    except (Unavailable, AccessDenied) as error:
        return Unreadable(key, error)
    except ObjectTooLarge as error:  # it was smaller when it was listed
        return too_large(key, error.etag, error.size)
    return read_row(key, fetched) if allows(tombstones, user_id, fetched.modified) else Skipped()
