"""Fetching the CSVs that changed, a batch ahead of what is being stored."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from .keys import CONTENT_LIMIT
from .rejection import Reason, Rejection
from .shared.storage.errors import ObjectMissing, ObjectTooLarge, Refused, Unavailable
from .shared.storage.objects import Objects


@dataclass(frozen=True, slots=True)
class Fetched:
    """One CSV as it was read, with the ETag and Last-Modified of that very answer."""

    key: str
    body: bytes
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Gone:
    """The object went away after it was listed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The object can't be had now, while others can: it is left to the next run."""

    key: str
    error: Unavailable | Refused


Answer = Fetched | Rejection | Gone | Failed

_TOLERATED = 2
"""Objects that may be refused; when all of a batch are, and they are more than these, S3 refuses us."""

_IN_A_ROW = 8
"""Objects in a row that are away: S3 itself is."""


def fetch_batches(
    objects: Objects, bucket: str, batches: Iterable[list[str]], threads: int
) -> Generator[list[Answer], None, None]:
    """Yield what each batch of keys holds, in their order; while one is worked on, the next is on its way.

    Unavailable when many objects in a row can't be had, Refused when all of a batch are.
    """

    def fetch(key: str) -> Answer:
        return _fetch(objects, bucket, key)

    with ThreadPoolExecutor(threads, thread_name_prefix="fetch") as executor:
        coming: list[Future[Answer]] = []
        try:
            for keys in batches:
                arriving, coming = coming, _submit(executor, fetch, keys)
                if arriving:
                    yield _arrived(arriving)
            if coming:
                yield _arrived(coming)
        finally:
            executor.shutdown(cancel_futures=True)


def _submit(executor: ThreadPoolExecutor, fetch: Callable[[str], Answer], keys: list[str]) -> list[Future[Answer]]:
    return [executor.submit(fetch, key) for key in keys]


def _arrived(futures: list[Future[Answer]]) -> list[Answer]:
    answers: list[Answer] = []
    away = refused = 0
    for future in futures:
        answers.append(answer := future.result())
        error = answer.error if isinstance(answer, Failed) else None
        away = away + 1 if isinstance(error, Unavailable) else 0
        refused += isinstance(error, Refused)
        if error is not None and (away == _IN_A_ROW or refused == len(futures) > _TOLERATED):
            raise error
    return answers


def _fetch(objects: Objects, bucket: str, key: str) -> Answer:
    try:
        found = objects.get(bucket, key, limit=CONTENT_LIMIT)
    except ObjectMissing:
        return Gone()
    except (Unavailable, Refused) as error:
        return Failed(key, error)
    except ObjectTooLarge as error:  # it was smaller when it was listed
        message = f"the file has {error.size} bytes: {CONTENT_LIMIT} are allowed"
        return Rejection(key, error.etag, None, Reason.TOO_LARGE, message)
    return Fetched(key, found.body, found.etag, found.modified)
