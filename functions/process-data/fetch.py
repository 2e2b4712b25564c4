"""Fetching the CSVs that changed, a batch ahead of what is being stored."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from .keys import CONTENT_LIMIT
from .rejection import Reason, Rejection
from .shared.storage.errors import ObjectMissing, ObjectTooLarge
from .shared.storage.objects import Objects


@dataclass(frozen=True, slots=True)
class Fetched:
    """One CSV as it was read, with the ETag and Last-Modified of that very answer."""

    key: str
    body: bytes
    etag: str
    modified: datetime


Answer = Fetched | Rejection | None
"""None: the object went away after it was listed."""


def fetch_batches(
    objects: Objects, bucket: str, batches: Iterable[list[str]], threads: int
) -> Generator[list[Answer], None, None]:
    """Yield what each batch of keys holds, in their order; while one is worked on, the next is on its way."""

    def fetch(key: str) -> Answer:
        return _fetch(objects, bucket, key)

    with ThreadPoolExecutor(threads, thread_name_prefix="fetch") as executor:
        coming: list[Future[Answer]] = []
        try:
            for keys in batches:
                arriving, coming = coming, _submit(executor, fetch, keys)
                if arriving:
                    yield [future.result() for future in arriving]
            if coming:
                yield [future.result() for future in coming]
        finally:
            executor.shutdown(cancel_futures=True)


def _submit(executor: ThreadPoolExecutor, fetch: Callable[[str], Answer], keys: list[str]) -> list[Future[Answer]]:
    return [executor.submit(fetch, key) for key in keys]


def _fetch(objects: Objects, bucket: str, key: str) -> Answer:
    try:
        found = objects.get(bucket, key, limit=CONTENT_LIMIT)
    except ObjectMissing:
        return None
    except ObjectTooLarge as error:  # it was smaller when it was listed
        message = f"the file has {error.size} bytes: {CONTENT_LIMIT} are allowed"
        return Rejection(key, error.etag, None, Reason.TOO_LARGE, message)
    return Fetched(key, found.body, found.etag, found.modified)
