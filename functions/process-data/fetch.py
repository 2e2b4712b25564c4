"""Fetching CSVs, many at the same time, and reading each as soon as it is there."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from .keys import CONTENT_LIMIT, csv_key
from .listing import too_large
from .parse import Row, read_row
from .rejections import Rejection
from .shared.storage.errors import ObjectMissing, ObjectTooLarge, Refused, Unavailable
from .shared.storage.objects import Objects


@dataclass(frozen=True, slots=True)
class Gone:
    """The object was removed after it was listed."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """S3 failed to return the object: it is left for the next run."""

    key: str
    error: Unavailable | Refused


FetchResult = Row | Rejection | Gone | Unreadable


def submit(
    executor: ThreadPoolExecutor, objects: Objects, bucket: str, user_ids: Sequence[str]
) -> list[Future[FetchResult]]:
    """Start to fetch the CSVs of these users."""
    return [executor.submit(_fetch, objects, bucket, csv_key(user_id)) for user_id in user_ids]


def _fetch(objects: Objects, bucket: str, key: str) -> FetchResult:
    try:
        fetched = objects.get(bucket, key, limit=CONTENT_LIMIT)
    except ObjectMissing:
        return Gone()
    except (Unavailable, Refused) as error:
        return Unreadable(key, error)
    except ObjectTooLarge as error:  # it was smaller when it was listed
        return too_large(key, error.etag, error.size)
    return read_row(key, fetched)
