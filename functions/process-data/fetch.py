"""Fetching a CSV, and reading it as soon as it is there."""

from dataclasses import dataclass

from .keys import CONTENT_LIMIT, csv_key
from .listing import too_large
from .parse import Row, read_row
from .rejections import Rejection
from .shared.storage.errors import ObjectMissing, ObjectTooLarge, Refused, Unavailable
from .shared.storage.objects import Objects
from .tombstones import Tombstones, brings_back


@dataclass(frozen=True, slots=True)
class Gone:
    """The object was removed, or replaced by one that brings nobody back, after it was listed."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """S3 failed to return the object: it is left for the next run."""

    key: str
    error: Unavailable | Refused


FetchResult = Row | Rejection | Gone | Unreadable


def fetch(objects: Objects, bucket: str, tombstones: Tombstones, user_id: str) -> FetchResult:
    """Fetch and read the CSV of a user."""
    key = csv_key(user_id)
    try:
        fetched = objects.get(bucket, key, limit=CONTENT_LIMIT)
    except ObjectMissing:
        return Gone()
    except (Unavailable, Refused) as error:
        return Unreadable(key, error)
    except ObjectTooLarge as error:  # it was smaller when it was listed
        return too_large(key, error.etag, error.size)
    return read_row(key, fetched) if brings_back(tombstones, user_id, fetched.modified) else Gone()
