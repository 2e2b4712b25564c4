"""Pages of a bucket listing, parsed from S3's XML."""

import re
from dataclasses import dataclass
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote_plus

from .errors import Unavailable

MAX_KEYS = 1000
"""The maximum number of entries that S3 returns in a page."""


class ObjectInfo(NamedTuple):
    """One object of a listing. `size` is in bytes; `modified` is the Last-Modified as S3 sent it: ISO 8601, UTC."""

    key: str
    etag: str
    size: int
    modified: str


@dataclass(frozen=True, slots=True)
class ListingPage:
    """Up to 1,000 objects and folders, in order of their keys.

    A folder ("a/") stands for all objects whose keys begin with it. Bytes of a key that are not UTF-8 are surrogates,
    as with `surrogateescape`. `token` requests the next page; it is None on the last one.
    """

    objects: list[ObjectInfo]
    folders: list[str]
    token: str | None


# Elements of ListBucketResult, the response to ListObjectsV2. An XML parser would take five times as long.
_ELEMENTS = {
    name: re.compile(rb"<%s>([^<]*)</%s>" % (name.encode(), name.encode()))
    for name in ("Key", "Size", "LastModified", "EncodingType", "IsTruncated", "NextContinuationToken")
}
_QUOTE = rb"(?:\"|&#34;|&quot;)?"
_ELEMENTS["ETag"] = re.compile(rb"<ETag>%s([^<]*?)%s</ETag>" % (_QUOTE, _QUOTE))
_FOLDER = re.compile(rb"<CommonPrefixes>\s*<Prefix>([^<]*)</Prefix>")


def parse_listing(xml: bytes) -> ListingPage:
    """Parse the response to ListObjectsV2.

    Raises Unavailable if it is incomplete, ValueError if it is not UTF-8 or a size is not a number.
    """
    if not xml.rstrip().endswith(b"</ListBucketResult>"):
        raise Unavailable("s3", "invalid bucket listing: expected a complete ListBucketResult")

    def texts(pattern: re.Pattern[bytes]) -> list[str]:
        matches = pattern.findall(xml)
        joined = b"\0".join(matches).decode()  # XML cannot contain this separator
        return (unescape(joined) if "&" in joined else joined).split("\0") if matches else []

    def text(name: str) -> str:
        return "".join(texts(_ELEMENTS[name]))

    keys, etags, sizes, times = (texts(_ELEMENTS[name]) for name in ("Key", "ETag", "Size", "LastModified"))
    folders = texts(_FOLDER)
    if text("EncodingType") == "url":  # keys are URL-encoded, as requested; not every service does that
        keys = [_unquote(key) if "%" in key or "+" in key else key for key in keys]
        folders = [_unquote(folder) for folder in folders]
    if not len(keys) == len(etags) == len(sizes) == len(times) == xml.count(b"<Contents>"):
        raise Unavailable("s3", "invalid bucket listing: an object lacks its key, ETag, size or LastModified")
    objects = [ObjectInfo(*item) for item in zip(keys, etags, map(int, sizes), times, strict=True)]
    token = text("NextContinuationToken") if text("IsTruncated") == "true" else None
    if token == "":
        raise Unavailable("s3", "invalid bucket listing: a truncated page has no continuation token")
    return ListingPage(objects, folders, token)


def _unquote(key: str) -> str:
    return unquote_plus(key, errors="surrogateescape")  # the default, "replace", could make different keys equal
