"""List the bucket: a range of keys, or single objects."""

from collections.abc import Callable
from dataclasses import dataclass, field

from .keys import CONTENT_LIMIT, csv_key, is_representable, keys_of, parse_key, user_around, user_of_csv
from .rejections import Reason, Rejection
from .shared.storage.listing import ListingPage, ObjectInfo
from .shared.storage.objects import Objects
from .shared.user_ids import USER_ID_FORMAT


@dataclass
class Listing:
    """CSVs and photos by user_id, and objects that are rejected without being fetched.

    `cut_at` is the boundary at which the listing stopped; None if it reached the end of its range.
    """

    csvs: dict[str, str] = field(default_factory=dict)  # ETags
    modified: dict[str, str] = field(default_factory=dict)  # Last-Modified of all CSVs, even too large ones
    photos: dict[str, str] = field(default_factory=dict)  # keys
    rejections: list[Rejection] = field(default_factory=list)
    entries: int = 0  # objects and folders
    folders: int = 0
    ignored: int = 0
    cut_at: str | None = None

    def add(self, info: ObjectInfo) -> None:
        """Add an object. The objects of a user have to be added in the order of their keys."""
        self.entries += 1
        kind, user_id = parse_key(info.key)
        if user_id is None:
            if kind == "bad_name":
                self.rejections.append(_bad_name(info))
            else:
                self.ignored += 1
        elif kind == "photo":
            self.photos[user_id] = info.key  # keys sort as .jpeg < .jpg < .png: the preferred photo comes last
        else:
            self.modified[user_id] = info.modified
            if info.size > CONTENT_LIMIT:
                self.rejections.append(too_large(info.key, info.etag, info.size))
            else:
                self.csvs[user_id] = info.etag


def _bad_name(info: ObjectInfo) -> Rejection:
    message = f"invalid name: expected <user_id>.csv with a user_id of {USER_ID_FORMAT}"
    return Rejection(info.key, info.etag, None, Reason.BAD_NAME, message)


def too_large(key: str, etag: str, size: int) -> Rejection:
    message = f"the file has {size} bytes: expected at most {CONTENT_LIMIT}"
    return Rejection(key, etag, None, Reason.TOO_LARGE, message)


def list_range(
    get_page: Callable[[str | None], ListingPage], start: str, end: str, is_full: Callable[[int], bool]
) -> Listing:
    """List the keys greater than `start`, up to and including `end`.

    Once `is_full(entries)` is true, the listing stops at a boundary before `end`. `get_page` returns the page for a
    continuation token; None requests the first page.
    """
    listing, token, previous_key = Listing(), None, start
    user_id = user_around(start)
    excluded = set() if user_id is None else set(keys_of(user_id))  # this user's photos belong to the range of the CSV
    while True:
        page = get_page(token)
        token = page.token
        last_key = _last_key(page, previous_key)
        is_last = token is None or last_key >= end
        can_end = not is_last and last_key > previous_key and is_representable(last_key)
        if can_end and is_full(listing.entries + len(page.objects)):
            user_id = user_around(last_key)  # preferred as the boundary: it sorts before all of the user's keys
            listing.cut_at = end = user_id if user_id is not None and user_id > previous_key else last_key
        for info in page.objects:
            if start < info.key <= end and info.key not in excluded:
                listing.add(info)
        folders = sum(start < folder <= end for folder in page.folders)
        listing.entries += folders
        listing.folders += folders
        listing.ignored += folders
        if is_last or listing.cut_at is not None:
            return listing
        previous_key = last_key


def _last_key(page: ListingPage, default: str) -> str:
    """The key up to which a page is complete.

    S3 sorts a folder as `a/`, SeaweedFS as `a`. Here a folder counts as `a`: with the lesser key nothing is skipped.
    """
    keys = [info.key for info in page.objects[-1:]] + [folder[:-1] for folder in page.folders[-1:]]
    return max(keys, default=default)


def list_photos_after(objects: Objects, bucket: str, start: str, end: str) -> list[ObjectInfo]:
    """The photos that sort after `end` although their user's CSV is within the range."""
    user_id = user_around(end)
    if user_id is None or not start < csv_key(user_id) <= end:
        return []
    return [info for key in keys_of(user_id) if key > end for info in list_object(objects, bucket, key)]


def list_hinted(objects: Objects, bucket: str, key: str) -> list[ObjectInfo]:
    """The objects that a hint covers: for a user's CSV, all objects of the user, in the order of their keys.

    For any other key: the object with this key, if it exists.
    """
    user_id = user_of_csv(key)
    if user_id is None:
        return list_object(objects, bucket, key)
    page = objects.list_page(bucket, prefix=f"{user_id}.")
    if page.token is None:
        return [info for info in page.objects if parse_key(info.key).user_id is not None]
    # any number of unrelated keys with this prefix may lie between the CSV and the photos
    return [info for key in keys_of(user_id) for info in list_object(objects, bucket, key)]


def list_object(objects: Objects, bucket: str, key: str) -> list[ObjectInfo]:
    """The object with this key, if it exists. It sorts before longer keys with this prefix, so one entry is enough."""
    return [info for info in objects.list_page(bucket, prefix=key, limit=1).objects if info.key == key]
