"""What the bucket holds, of a range of keys or of single objects."""

from collections.abc import Callable
from dataclasses import dataclass, field

from .keys import CONTENT_LIMIT, boundary_after, keys_of, parse_key, user_of
from .rejections import Reason, Rejection
from .shared.storage.objects import ListingPage, ObjectInfo, Objects


@dataclass
class Listing:
    """CSVs and photos by user_id, and what is rejected without fetching it.

    `cut_at` is the boundary at which a listing ended that did not reach the end of its range.
    """

    csvs: dict[str, str] = field(default_factory=dict)  # ETags
    photos: dict[str, str] = field(default_factory=dict)  # keys
    rejections: list[Rejection] = field(default_factory=list)
    keys: int = 0
    ignored: int = 0
    cut_at: str | None = None

    def add(self, info: ObjectInfo) -> None:
        """Add an object; those of a user in the order of their keys."""
        self.keys += 1
        kind, user_id = parse_key(info.key)
        if user_id is None:
            if kind == "bad_name":
                self.rejections.append(_bad_name(info))
            else:
                self.ignored += 1
        elif kind == "photo":
            self.photos[user_id] = info.key  # .jpeg < .jpg < .png, the preferred one last
        elif info.size > CONTENT_LIMIT:
            self.rejections.append(too_large(info.key, info.etag, info.size))
        else:
            self.csvs[user_id] = info.etag


def _bad_name(info: ObjectInfo) -> Rejection:
    message = "the name must be <user_id>.csv, the user_id 1 to 18 digits"
    return Rejection(info.key, info.etag, None, Reason.BAD_NAME, message)


def too_large(key: str, etag: str, size: int) -> Rejection:
    message = f"the file has {size} bytes: {CONTENT_LIMIT} are allowed"
    return Rejection(key, etag, None, Reason.TOO_LARGE, message)


def list_range(
    get_page: Callable[[str | None], ListingPage], start: str, end: str, is_full: Callable[[int], bool]
) -> Listing:
    """List the keys greater than `start` up to `end`. Stop early, at a boundary, once `is_full(keys)`.

    `get_page` returns the page of a continuation token; None stands for the first page.
    """
    listing, token, previous = Listing(), None, start
    while True:
        page = get_page(token)
        token = page.token
        last = _last_key(page, previous)
        is_last = token is None or last >= end
        boundary = None if is_last else boundary_after(last)
        if boundary is not None and previous < boundary and is_full(listing.keys + len(page.objects)):
            listing.cut_at = end = boundary
        for info in page.objects:
            if info.key <= end:
                listing.add(info)
        folders = sum(folder <= end for folder in page.folders)
        listing.keys += folders
        listing.ignored += folders
        if is_last or listing.cut_at is not None:
            return listing
        previous = last


def _last_key(page: ListingPage, default: str) -> str:
    """The last key of a page. All that is in a folder `a/` sorts before `a0`, as `0` follows `/`."""
    keys = [info.key for info in page.objects[-1:]] + [f"{folder[:-1]}0" for folder in page.folders[-1:]]
    return max(keys, default=default)


def list_named(objects: Objects, bucket: str, name: str) -> list[ObjectInfo]:
    """The named object if it is there; for a user's CSV all objects of the user, in the order of their keys."""
    user_id = user_of(name)
    if user_id is None:
        return _exactly(objects, bucket, name)
    page = objects.list_page(bucket, prefix=f"{user_id}.")
    if page.token is None:
        return [info for info in page.objects if parse_key(info.key).user_id is not None]
    # other keys that begin like the user's: there may be any number of them between the CSV and the photos
    return [info for key in keys_of(user_id) for info in _exactly(objects, bucket, key)]


def _exactly(objects: Objects, bucket: str, key: str) -> list[ObjectInfo]:
    """The object itself sorts before all others that begin with its key."""
    return [info for info in objects.list_page(bucket, prefix=key, limit=1).objects if info.key == key]
